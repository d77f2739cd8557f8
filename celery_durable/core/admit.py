"""The only place where it is decided what a worker does with a claim: `decide`'s counterpart.

Of these the first that holds:

its message came too late, or with another limit     -> released: another message comes
its run cannot go on here, or the worker stops       -> released: to others
it is paused, and no flag is up                      -> released: until somebody unpauses it
it may kill its process, and another such executes   -> released: for a while
it waits for a child or for branches                 -> checked: are they there?
an operator has recorded its unit                    -> checked: the result is there
a flag is up                                         -> concluded: nothing is called
it waits for a signal or a time, or arrives to wait  -> checked: is it there?
too many workers died                                -> concluded: nothing is called
else                                                 -> executed
"""

from __future__ import annotations

from celery_durable.core.claim import Claim
from celery_durable.core.event import Crashed, Event, Failed, Flagged
from celery_durable.core.failure import worker_lost
from celery_durable.core.names import ROLLBACK
from celery_durable.core.plan import Plan
from celery_durable.core.token import Flags, ForBranches, ForChild, Token
from celery_durable.core.units import unit_of
from celery_durable.core.values import value

HAND_OVER_AFTER = 0.1
"""Seconds until others get the run of a worker that stops: it may still take messages itself."""

PASS_ON_FIRST, PASS_ON_MAXIMUM = 0.1, 1.0
"""Most seconds until a run that this worker cannot go on with, and another can, is hinted again;
doubling from the first to the maximum. Where no living worker can: `RELEASE_FIRST` and on.

The delay is drawn from the upper half of that. Workers on Redis ask for messages once a second, and
the one that has waited longest is answered: after whole seconds it might always be the same one.
"""

RELEASE_FIRST, RELEASE_MAXIMUM = 1.0, 30.0
"""Seconds for which a run is released that nobody can go on with now; doubling from the first to
the maximum.
"""

SUSPECT_FIRST, SUSPECT_MAXIMUM = 0.1, 2.0
"""Seconds until a unit that may have killed its process is hinted again, while another such unit
executes here; doubling from the first to the maximum.
"""

MISFIT_FIRST = 0.05
"""Seconds until a unit is hinted again whose message had another time limit twice; doubling. Once
is normal: the hint was put while the token stood elsewhere.
"""


@value(frozen=True, slots=True)
class Facts:
    """What a worker knows beside the claim.

    `plan` is the workflow's, None where the run cannot go on here; `is_elsewhere`: then another
    worker can. `misfits` counts the messages of this token in a row whose time limit was not the
    unit's; `is_late`: this message was received so long ago that the pool ends the unit early.
    `has_company`: another unit that may have killed its process is executing in this one.
    `timed_out` is the event of a unit whose time was up. `chance` in [0, 1) is for jitter.
    """

    plan: Plan | None
    max_crashes: int
    is_elsewhere: bool = False
    misfits: int = 0
    is_late: bool = False
    has_company: bool = False
    timed_out: Failed | None = None
    chance: float = 0.0


@value(frozen=True, slots=True)
class Release:
    """Release the claim; a hint brings the token back after `delay` seconds."""

    delay: float = 0.0


@value(frozen=True, slots=True)
class Check:
    """Check whether what the token waits for is there."""


@value(frozen=True, slots=True)
class Conclude:
    """Call nothing: `event` is what happened."""

    event: Event


@value(frozen=True, slots=True)
class Execute:
    """Call the unit's function; `in_transaction`: its own SQL is committed with its result."""

    in_transaction: bool


Admission = Release | Check | Conclude | Execute
"""What a worker does with a claim."""


def admit(claim: Claim, facts: Facts) -> Admission:
    """Decide what the worker does with a claim."""
    token = claim.token
    if (delay := _released_for(claim, facts)) is not None:
        return Release(delay)
    assert facts.plan is not None
    if _is_to_be_checked(facts.plan, token):
        return Check()
    if (event := _concluded(claim, facts)) is not None:
        return Conclude(event)
    return Execute(unit_of(facts.plan, token).is_transactional)


def backoff(claim: Claim, first: float, maximum: float) -> float:
    """Twice the seconds that the token has waited last, from `first` to `maximum`."""
    return min(max(2 * claim.waited, first), maximum)


def _released_for(  # noqa: PLR0911 - a table of cases
    claim: Claim, facts: Facts
) -> float | None:
    """Return the seconds for which the claim is released; None when it is kept."""
    if facts.is_late:
        return 0.0
    if facts.misfits:
        pause = MISFIT_FIRST * 2.0 ** (facts.misfits - 2) if facts.misfits > 1 else 0.0
        return min(pause, RELEASE_MAXIMUM)
    if facts.plan is None:
        first, maximum = (
            (PASS_ON_FIRST, PASS_ON_MAXIMUM)
            if facts.is_elsewhere
            else (RELEASE_FIRST, RELEASE_MAXIMUM)
        )
        return backoff(claim, first, maximum) * (1 + facts.chance) / 2
    if claim.draining:
        return HAND_OVER_AFTER
    if claim.is_paused and claim.token.flags is Flags.NONE:
        return 0.0
    if facts.has_company:
        return backoff(claim, SUSPECT_FIRST, SUSPECT_MAXIMUM)
    return None


def _is_to_be_checked(plan: Plan, token: Token) -> bool:
    """Return True if the token waits, or stands at a node that only waits or forks."""
    if isinstance(token.wait, ForChild | ForBranches):
        return True
    if token.flags is not Flags.NONE:
        return Flags.SKIP in token.flags and not token.only_ends
    if token.wait is not None or token.unit == ROLLBACK:
        return True
    node = plan.find(token.node)
    is_at_node = token.parent is None and token.rollback is None
    return is_at_node and node is not None and node.only_waits


def _concluded(claim: Claim, facts: Facts) -> Event | None:
    """Return what happened to a unit that must not be executed; None to execute it."""
    token = claim.token
    is_cancelled = Flags.CANCEL in token.flags and token.rollback is None
    if facts.timed_out is not None and not is_cancelled:
        return facts.timed_out
    if token.flags is not Flags.NONE:
        return Flagged(claim.due_in)
    if token.crashes >= facts.max_crashes:
        return Crashed(worker_lost(token.unit, token.crashes), claim.seen_at)
    return None
