"""Decides where the message of a token goes after a commit, and whether there is one."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from celery_durable.core.claim import Claim
from celery_durable.core.decision import Decision, End, Fork, Leave, Move, Park
from celery_durable.core.nodes import Routing
from celery_durable.engine.attempt import Attempt
from celery_durable.engine.slow_units import SlowUnits
from celery_durable.settings import Settings
from celery_durable.store.commit.parameters import Routed


class Routes:
    """The queues and priorities of messages: the unit's own, else the run's, else the app's."""

    def __init__(self, settings: Settings, slow_units: SlowUnits) -> None:
        self._settings = settings
        self._slow_units = slow_units

    def with_branches_routed(self, claim: Claim, fork: Fork) -> Fork:
        """The fork with queue and priority of each branch filled in."""
        known = {
            routing: self._route(claim, routing)
            for routing in {branch.routing for branch in fork.branches}
        }
        branches = tuple(
            replace(branch, routing=Routing(to.queue, to.priority, to.time_limit))
            for branch in fork.branches
            for to in (known[branch.routing],)
        )
        return replace(fork, branches=branches)

    def routed(self, attempt: Attempt, decision: Decision) -> Routed | None:
        """Where the token's message goes; None to go straight on, and where no token is left."""
        claim, then = attempt.claim, decision.then
        match then:
            case End() | Leave():
                return None
            case Fork():
                return self._route(claim, Routing())
            case Park():
                return self._route(claim, then.routing)
            case Move():
                is_slow = self._slow_units.is_slow(claim.run, then.token)
                if self._goes_straight_on(attempt, then, is_slow=is_slow):
                    return None
                return self._route(claim, then.routing, single=is_slow)
            case _:
                assert_never(then)

    def _goes_straight_on(self, attempt: Attempt, move: Move, *, is_slow: bool) -> bool:
        """Return True if the worker goes on with the token; what is slow would hold up others."""
        claim, message, routing = attempt.claim, attempt.message, move.routing
        if move.delay > 0 or message.is_used_up or (is_slow and message.is_shared):
            return False
        if routing.time_limit is not None or claim.time_limit is not None:
            return False  # a time limit holds for a whole message
        return self._address(claim, routing) == (claim.queue, claim.priority)

    def _address(self, claim: Claim, routing: Routing) -> tuple[str, int | None]:
        """Return queue and priority of a unit's message."""
        priority = claim.run.priority if routing.priority is None else routing.priority
        return routing.queue or self._settings.queue, priority

    def _route(self, claim: Claim, routing: Routing, *, single: bool = False) -> Routed:
        return Routed(*self._address(claim, routing), routing.time_limit, single)
