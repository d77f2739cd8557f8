"""Deciding and committing: an event goes in, and the claim comes out again if we go straight on.

A commit that finds a flag raised decides again with it in view. A commit whose answer was lost is
sent again: its statement finds the token moved on and changes nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeVar, assert_never
from uuid import uuid4

from celery_durable.core.claim import Claim
from celery_durable.core.decide import decide, may_turn_back
from celery_durable.core.decision import (
    Decision,
    End,
    Fork,
    Leave,
    Move,
    Outcome,
    Park,
    Then,
)
from celery_durable.core.event import Crashed, Event, Failed
from celery_durable.core.plan import Placement
from celery_durable.core.token import Flags, ForChild, ForSignal
from celery_durable.settings import Settings
from celery_durable.store import commits, journal, tokens, workers
from celery_durable.store.commits import (
    AlreadyCommitted,
    Committed,
    FlagRaised,
    Refused,
    SignalGone,
)
from celery_durable.store.connection import Connection, may_go_well_later
from celery_durable.store.database import Database
from celery_durable.store.shapes import Release
from celery_durable.store.workers import Claimed
from celery_durable.workflow.builder import Workflow
from celery_durable.workflow.execute import Execution

logger = logging.getLogger(__name__)

RECONNECT_FIRST, RECONNECT_MAXIMUM = 0.1, 2.0
"""Seconds between tries to commit while Postgres is away; doubling from the first to the maximum.
"""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Budget:
    """How much one message may do before its run goes back to the broker."""

    steps: int
    until: float

    def after_one(self) -> Budget:
        """What is left once a unit has been executed."""
        return replace(self, steps=self.steps - 1)

    @property
    def is_used_up(self) -> bool:
        """Whether nothing more may begin."""
        return self.steps <= 0 or time.monotonic() >= self.until


@dataclass(frozen=True, slots=True)
class Turn:
    """One unit in this worker's hands."""

    workflow: Workflow
    claim: Claim
    budget: Budget
    began: float = field(default_factory=time.monotonic)

    @property
    def now(self) -> datetime:
        """The database's time: what it said when we claimed, and what has passed since."""
        return self.claim.seen_at + timedelta(seconds=time.monotonic() - self.began)

    def given(self, input: str | None) -> Turn:
        """The same, with the input that was made for a loop's first iteration."""
        if input is None or input == self.claim.token.input:
            return self
        return replace(
            self, claim=replace(self.claim, token=replace(self.claim.token, input=input))
        )

    def with_flags(self, flags: Flags) -> Turn:
        """The same, with what others ask of the token in view."""
        return replace(
            self, claim=replace(self.claim, token=replace(self.claim.token, flags=flags))
        )


@dataclass(frozen=True, slots=True)
class Written:
    """A decision, and what came of committing it."""

    decision: Decision
    release: Release | None
    outcome: Committed | AlreadyCommitted | Refused | SignalGone


class Settler:
    """Writes what became of units."""

    def __init__(self, database: Database, settings: Settings, notify: Callable[[], None]) -> None:
        self._database = database
        self._settings = settings
        self._notify = notify

    def settle(self, turn: Turn, execution: Execution) -> Claim | None:
        """Commit what became of a unit; the claim again if the worker goes straight on with the
        next.
        """
        beside = execution.beside

        def write(connection: Connection) -> Written | None:
            return self.write(connection, turn, execution.event)

        def write_both(connection: Connection) -> Written | None:
            written = write(connection)
            if written and beside and isinstance(written.outcome, Committed) and starts(written):
                beside(connection)
            return written

        written = self.persistently(write_both if beside else write, together=beside is not None)
        assert written is not None
        return self.after(turn, execution, written)

    def write(
        self, connection: Connection, turn: Turn, event: Event, *, in_transaction: bool = False
    ) -> Written | None:
        """Decide, and commit the decision; while flags go up meanwhile, decide again with them in
        view.

        None when the step's own transaction must not be committed: its unit shall not be recorded.
        """
        while True:
            token = turn.claim.token
            decision = decide(
                turn.workflow.plan, token, self._with_undo(connection, turn, event), turn.now
            )
            if in_transaction and not decision.keeps:
                return None
            decision = self._placed(turn.claim, decision)
            release = self._release(turn, decision)
            match commits.commit(connection, turn.claim, decision, release):
                case FlagRaised(flags):
                    turn = turn.with_flags(flags)
                case Committed() as outcome:
                    return Written(decision, release, outcome)
                case AlreadyCommitted() | Refused() | SignalGone() as outcome:
                    return None if in_transaction else Written(decision, release, outcome)
                case never:
                    assert_never(never)

    def _with_undo(self, connection: Connection, turn: Turn, event: Event) -> Event:
        """Look up what is to be undone next, where the decision may have to know it."""
        token, plan = turn.claim.token, turn.workflow.plan
        if not may_turn_back(plan, token, event):
            return event
        return replace(event, undo=journal.next_undo(connection, token))

    def _release(self, turn: Turn, decision: Decision) -> Release | None:
        """Where the token's message goes; None when we go straight on, or no token is left."""
        claim, then = turn.claim, decision.then
        match then:
            case End() | Leave():
                return None
            case Fork():
                return self._at(claim, Placement())
            case Park():
                return self._at(claim, then.placement)
            case Move():
                release = self._at(claim, then.placement)
                # A time limit holds for a whole message.
                is_timed = release.time_limit is not None or claim.time_limit is not None
                is_here = (release.queue, release.priority) == (claim.queue, claim.priority)
                may_go_on = is_here and not is_timed and not turn.budget.is_used_up
                return None if may_go_on and then.delay <= 0 else release
            case _:
                assert_never(then)

    def _placed(self, claim: Claim, decision: Decision) -> Decision:
        """The decision with the places of new branches filled in."""
        then = decision.then
        if not isinstance(then, Fork):
            return decision
        places = {branch.placement for branch in then.branches}
        known = {place: self._at(claim, place) for place in places}
        placed = tuple(
            replace(branch, placement=Placement(at.queue, at.priority, at.time_limit))
            for branch in then.branches
            for at in (known[branch.placement],)
        )
        return replace(decision, then=replace(then, branches=placed))

    def _at(self, claim: Claim, placement: Placement) -> Release:
        priority = claim.run.priority if placement.priority is None else placement.priority
        return Release(placement.queue or self._settings.queue, priority, placement.time_limit)

    def after(self, turn: Turn, execution: Execution, written: Written) -> Claim | None:
        """Log, wake the relays, and say what the worker has in hand now."""
        claim, decision, committed = turn.claim, written.decision, written.outcome
        if isinstance(committed, Refused):
            logger.info("%s of run %s is not ours any more", claim.token.unit, claim.run.id)
            return None
        if isinstance(committed, SignalGone):
            self.put_back(claim)
            return None
        log_failure(claim, execution, decision)
        if isinstance(committed, AlreadyCommitted):
            # Under which decision of ours we cannot know: let it be looked at where it stands.
            self.let_go(claim)
            return self._waiting(claim, decision.then)
        then = decision.then
        if not isinstance(then, Move):
            if not isinstance(then, End) or claim.run.parent_token is not None:
                self._notify()
            return self._waiting(claim, then)
        if written.release is not None:
            if then.delay <= 0:
                self._notify()
            return None
        status, error = claim.run.status, claim.run.error
        if decision.run is not None:
            status, error = decision.run.status, decision.run.error or error
        return replace(
            claim,
            token=then.token,
            run=replace(claim.run, status=status, error=error),
            seen_at=committed.at,
            draining=committed.draining,
            has_commands=committed.has_commands,
        )

    def _waiting(self, claim: Claim, then: Then) -> Claim | None:
        """The claim again, if what the token was parked for came while it was being parked.

        A signal that was committed meanwhile was invisible to the statement that parked, and its
        hint may have been followed while the token was still claimed.
        """
        if not isinstance(then, Park) or not isinstance(then.token.wait, ForSignal):
            return None

        def claim_again(connection: Connection) -> Claim | None:
            return tokens.claim(connection, claim.token.id, claim.worker, uuid4())

        return self.persistently(claim_again)

    def put_back(self, claim: Claim, delay: float = 0.0) -> None:
        """Give the claim back; somebody else, or we, will be asked to look at it after `delay`.

        A token that was claimed before it was due, because it is flagged, keeps its time.
        """
        self.persistently(lambda connection: tokens.release(connection, claim, delay))
        if delay <= 0:
            self._notify()

    def let_go(self, claim: Claim, *, counts: bool = False, timed_out: bool = False) -> None:
        """Let go of the claim wherever its token stands.

        `counts`: as a crash of its unit; `timed_out`: as a try that took too long.
        """
        token = claim.token
        held = Claimed(
            token.id, token.run_id, token.unit, claim.fence, claim.worker, counts, timed_out
        )
        self.persistently(lambda connection: workers.free(connection, held, uuid4(), waits=True))
        self._notify()

    def persistently(self, write: Callable[[Connection], T], *, together: bool = False) -> T:
        """Call `write` until Postgres answers, for as long as the worker can still be taken for
        alive.

        A commit whose answer was lost is simply sent again: its statement finds the token moved on
        and changes nothing. `together`: what it does is one transaction.
        """
        connecting = self._database.transaction if together else self._database.autocommit
        until = time.monotonic() + self._settings.worker_ttl
        wait = RECONNECT_FIRST
        while True:
            try:
                with connecting() as connection:
                    return write(connection)
            except Exception as error:
                if not may_go_well_later(error) or time.monotonic() + wait > until:
                    raise
                time.sleep(wait)
                wait = min(2 * wait, RECONNECT_MAXIMUM)


def starts(written: Written) -> bool:
    """Whether what was committed waits for a child."""
    then = written.decision.then
    return isinstance(then, Park) and isinstance(then.token.wait, ForChild)


def log_failure(claim: Claim, execution: Execution, decision: Decision) -> None:
    """A failure that is tried again is a WARNING; a final one an ERROR with its traceback."""
    event, token, then = execution.event, claim.token, decision.then
    is_cancelled = any(entry.outcome is Outcome.CANCELLED for entry in decision.records)
    if is_cancelled or not isinstance(event, Failed | Crashed):
        return
    what = f"{claim.run.workflow}.{token.unit} of run {claim.run.id}"
    error = f"{event.error.type}: {event.error.message}"
    if isinstance(then, Move) and then.token.unit == token.unit:
        logger.warning(
            "%s failed at attempt %d, next in %.1f s: %s", what, token.attempt, then.delay, error
        )
    else:
        logger.error(
            "%s failed for good at attempt %d: %s",
            what,
            token.attempt,
            error,
            exc_info=execution.exception,
        )
