"""Runs, ledger and faults, held against each other.

The laws: every started run ends as its input says, or cancelled when it was cancelled; what is
recorded of it equals the record of a run that nobody disturbed, attempts included; a handler
begins once for each attempt, and again only where a fault explains it; effects in the database are
there once; what is undone is undone once, the last first; nothing is left behind; what was seen
recorded, and what a caller was told of, is there; who was killed is known to be dead soon.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from uuid import UUID

from tests.chaos.accounts import UNDO, Accounts, RunAccount
from tests.chaos.faults import (
    CUT_ALL,
    CUT_LOCKS,
    CUT_SOME,
    FAST,
    IMMEDIATE,
    OUTAGES,
    Strike,
)
from tests.chaos.field import TTL
from tests.chaos.ledger import Execution
from tests.chaos.load import Cancelled, Started

TRANSACTIONAL = ("book", f"book{UNDO}")
KILLS = ("kill child", "kill worker")
CUTS = (CUT_ALL, CUT_SOME, CUT_LOCKS, FAST, IMMEDIATE)
BLINDS = ("kill relay", "stop relay")
"""What leaves one worker to look for the dead: when that is killed meanwhile, nobody does."""

RENEWED_EVERY = TTL / 3

BEGINS_WITHIN = 1.0
"""Seconds after a strike in which a process may still come to the handler of what it had claimed
when it was struck: one that goes on, and a child that notices that its worker was killed.
"""

COMMITS_WITHIN = 3.0
"""Seconds after the end of a handler in which it is recorded, where Postgres answers."""

SOON_SHARE, LATE_SHARE, AT_MOST_SHARE = 0.5, 0.25, 1.5
"""Parts of the TTL in which a death is noticed, but for so many of all, and at most."""

LOOKED_BACK, LOOKED_AHEAD = 8.0, 2.0
"""Seconds within which another fault would be in the way of a takeover."""


@dataclass(frozen=True, slots=True)
class Breach:
    """A law that was broken, by a run or by nobody in particular."""

    what: str
    run_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Repeat:
    """An attempt whose handler began once more, and the fault that explains it."""

    before: Execution
    again: Execution
    cause: Strike | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All there is to judge by. `undisturbed` has one run of each variant, before any fault."""

    started: Mapping[UUID, Started]
    cancelled: Mapping[UUID, Cancelled]
    undisturbed: Mapping[tuple[str, int], UUID]
    accounts: Accounts
    executions: Sequence[Execution]
    strikes: Sequence[Strike]
    seen: Mapping[int, tuple[UUID, str]] = field(default_factory=dict)
    """Rows of the journal that somebody has seen, by their numbers."""
    deaths: Sequence[tuple[int, float]] = ()
    """Processes that were marked as ended, and when."""
    steered: int = 0
    """Pauses, and units that were tried now."""


def breaches(evidence: Evidence) -> list[Breach]:
    """Every breach of a law."""
    return [
        *_missing(evidence),
        *_wrong_endings(evidence),
        *_wrong_undoing(evidence),
        *_wrong_effects(evidence),
        *_unrecorded(evidence),
        *_lost(evidence),
        *_late(evidence),
        *(
            Breach(
                f"{one.again.unit} attempt {one.again.attempt} began again without a cause, in"
                f" process {one.again.pid} after {one.before.pid}",
                one.again.run_id,
            )
            for one in repeats(evidence)
            if one.cause is None
        ),
        *(
            Breach(f"{count} {what} left")
            for what, count in evidence.accounts.left.items()
            if count
        ),
    ]


def _missing(evidence: Evidence) -> Iterator[Breach]:
    for run_id in evidence.started:
        if run_id not in evidence.accounts.runs:
            yield Breach("was started and is not there", run_id)
    for run in evidence.accounts.runs.values():
        if not run.has_ended:
            yield Breach(f"has not ended: {run.status}", run.id)
        if run.root not in evidence.started:
            yield Breach("is there and was not started", run.id)


def _wrong_endings(evidence: Evidence) -> Iterator[Breach]:
    expected = {
        variant: evidence.accounts.tree_essence(root)
        for variant, root in evidence.undisturbed.items()
    }
    for run_id, started in evidence.started.items():
        run = evidence.accounts.runs.get(run_id)
        if run is None or (run.status == "cancelled" and run_id in evidence.cancelled):
            continue
        wanted = expected[started.workflow, started.variant]
        if (found := evidence.accounts.tree_essence(run_id)) != wanted:
            yield Breach(f"did not go like an undisturbed run: {differing(found, wanted)}", run_id)


def differing(found: Sequence[object], wanted: Sequence[object]) -> str:
    """Of two lists what only one has."""
    more = [one for one in found if one not in wanted]
    less = [one for one in wanted if one not in found]
    return f"found {more}, wanted {less}"


def _wrong_undoing(evidence: Evidence) -> Iterator[Breach]:
    for run in evidence.accounts.runs.values():
        order = [unit for unit in reversed(run.completed) if unit in run.undone]
        if run.undone != order:
            yield Breach(f"undone in the order {run.undone}, completed as {run.completed}", run.id)
        cancelled = evidence.cancelled.get(run.id)
        if run.status == "cancelled" and cancelled is not None:
            due = run.undoable if cancelled.compensate else set()
            if set(run.undone) != due:
                yield Breach(f"cancelled; undone {run.undone}, due {sorted(due)}", run.id)


def _wrong_effects(evidence: Evidence) -> Iterator[Breach]:
    """A transactional step's effect is there once if, and only if, the step is recorded."""
    recorded = {
        (run.id, unit)
        for run in evidence.accounts.runs.values()
        for unit in run.completed
        if unit in TRANSACTIONAL
    }
    for run_id, unit in recorded | set(evidence.accounts.effects):
        found = evidence.accounts.effects.get((run_id, unit), 0)
        if found != ((run_id, unit) in recorded):
            yield Breach(f"{unit} has {found} effects", run_id)


def _unrecorded(evidence: Evidence) -> Iterator[Breach]:
    """Handlers did nothing that is not recorded, and nothing is recorded that none did."""
    done: dict[UUID, set[str]] = defaultdict(set)
    for one in evidence.executions:
        done[one.run_id].add(one.unit)
    ended = {
        (one.run_id, one.unit, one.attempt) for one in evidence.executions if one.ended is not None
    }
    for run in evidence.accounts.runs.values():
        recorded = {unit.unit for unit in run.units}
        is_cancelled = "cancelled" in (run.status, evidence.accounts.runs[run.root].status)
        if not is_cancelled and (more := done[run.id] - recorded):
            yield Breach(f"executed and not recorded: {sorted(more)}", run.id)
        for unit in run.units:
            has_handler = unit.unit in done[run.id]
            if has_handler and unit.outcome == "completed":
                key = (run.id, unit.unit, unit.attempt)
                if key not in ended:
                    yield Breach(f"{unit.unit} is recorded and was never executed", run.id)


def _lost(evidence: Evidence) -> Iterator[Breach]:
    """What was acknowledged outlives everything.

    A start, a signal and its run's end are judged elsewhere: none is asked for twice, so without it
    a run is not there, or does not end.
    """
    for seq, (run_id, unit) in evidence.seen.items():
        if seq not in evidence.accounts.recorded:
            yield Breach(f"{unit} was seen recorded and is lost", run_id)
    for run_id, cancelled in evidence.cancelled.items():
        run = evidence.accounts.runs.get(run_id)
        if cancelled.binds and run is not None and run.has_ended and run.status != "cancelled":
            yield Breach(f"was cancelled in time and is {run.status}", run_id)


def noticed(evidence: Evidence) -> list[float]:
    """Seconds from a SIGKILL to the moment in which its worker is known to be dead.

    Where Postgres and the relay were well at the time. A broker has no part in it; and there are
    two that look, the relay and one worker.
    """
    found: list[float] = []
    for strike in evidence.strikes:
        if strike.kind in KILLS and is_alone(strike, evidence.strikes, (*CUTS, *BLINDS)):
            for victim in strike.killed:
                ended = [at for pid, at in evidence.deaths if pid == victim and at >= strike.began]
                found += [min(ended) - strike.began] if ended else []
    return found


def _late(evidence: Evidence) -> Iterator[Breach]:
    """A death is told by the worker's lock, not by its TTL: in a small share of that."""
    seconds = sorted(noticed(evidence))
    late = [one for one in seconds if one > TTL * SOON_SHARE]
    if len(late) > len(seconds) * LATE_SHARE:
        yield Breach(f"{len(late)} of {len(seconds)} deaths were noticed late: {late} s")
    if seconds and seconds[-1] > TTL * AT_MOST_SHARE:
        yield Breach(f"a death was noticed after {seconds[-1]:.1f} s; the TTL is {TTL:g} s")


def repeats(evidence: Evidence) -> list[Repeat]:
    """Every attempt that began more than once."""
    attempts: dict[tuple[UUID, str, int], list[Execution]] = defaultdict(list)
    for one in evidence.executions:
        attempts[one.run_id, one.unit, one.attempt].append(one)
    by_run: dict[UUID, list[Execution]] = defaultdict(list)
    for one in evidence.executions:
        by_run[one.run_id].append(one)
    suspending = {("inspect", 1)}
    found: list[Repeat] = []
    for (run_id, unit, attempt), executions in attempts.items():
        pairs = list(pairwise(executions))
        found += [
            Repeat(a, b, explanation(a, b, by_run[run_id], evidence.strikes)) for a, b in pairs
        ]
        if (unit, attempt) in suspending:
            # It is called once to ask and once with the answer.
            unexplained = (
                [one for one in found[-len(pairs) :] if one.cause is None] if pairs else []
            )
            if unexplained:
                found.remove(unexplained[0])
    return found


def explanation(
    before: Execution, again: Execution, run: Sequence[Execution], strikes: Sequence[Strike]
) -> Strike | None:
    """The fault between two beginnings that makes the second one right.

    It struck before the first was recorded: what is recorded is not done again, whatever is struck.

    A process that was killed, or stopped for so long that it could be taken for dead; a crash of
    Postgres, which may lose a claim; for a transactional step any loss of its connection. Nothing
    that happens to a broker, a relay or another process explains anything.
    """
    until = min(again.began, recorded_by(before, run, strikes))
    for strike in strikes:
        if strike.ended + BEGINS_WITHIN < before.began or strike.began > until:
            continue
        if before.pid in strike.killed:
            return strike
        is_long = strike.ended - strike.began > TTL - RENEWED_EVERY
        # The later one may be the one that was stopped, between its claim and its beginning.
        if is_long and strike.stopped & {before.pid, again.pid}:
            return strike
        if strike.kind == IMMEDIATE:
            return strike
        if before.unit in TRANSACTIONAL and strike.kind in CUTS:
            return strike
    return None


def recorded_by(done: Execution, run: Sequence[Execution], strikes: Sequence[Strike]) -> float:
    """When the end of a handler is recorded for certain; infinity where it never came to its end.

    That is when its run has gone on; else soon after, but later where Postgres was away or the
    process was stopped in between.
    """
    if done.ended is None:
        return math.inf
    went_on = (one.began for one in run if is_after(one, done))
    at = done.ended + COMMITS_WITHIN
    for strike in sorted(strikes, key=lambda one: one.began):
        delays = strike.kind in CUTS or done.pid in strike.stopped
        if delays and strike.began <= at and strike.ended >= done.ended:
            at = max(at, strike.ended + COMMITS_WITHIN)
    return min(at, *went_on, math.inf)


def is_after(one: Execution, done: Execution) -> bool:
    """Whether the one begins only when the other is recorded: a node after it, or its next try."""
    if done.ended is None or one.began < done.ended:
        return False
    if one.unit == done.unit:
        return one.attempt > done.attempt
    is_way_back = one.unit.endswith(UNDO) and done.unit.endswith(UNDO)
    return is_way_back or one.unit.partition("#")[0] != done.unit.partition("#")[0]


def takeovers(evidence: Evidence, *, alone: bool = False) -> list[float]:
    """Seconds from the death of a process to the next beginning of each unit it had in hand.

    `alone`: only where nothing else was broken at the time.
    """
    deaths = {
        pid: strike.began
        for strike in evidence.strikes
        for pid in strike.killed
        if not alone or is_alone(strike, evidence.strikes)
    }
    nexts: dict[tuple[UUID, str, int], list[Execution]] = defaultdict(list)
    for one in evidence.executions:
        nexts[one.run_id, one.unit, one.attempt].append(one)
    found: list[float] = []
    for one in evidence.executions:
        died = deaths.get(one.pid)
        if died is None or one.ended is not None or one.began > died:
            continue
        later = [e.began for e in nexts[one.run_id, one.unit, one.attempt] if e.began > died]
        found += [min(later) - died] if later else []
    return found


def is_alone(strike: Strike, strikes: Sequence[Strike], kinds: Collection[str] = OUTAGES) -> bool:
    """Whether broker, relays, other workers and Postgres are well, and have been for a while.

    Or what strikes of these `kinds` break.
    """
    return not any(
        other.kind in kinds
        and other.began < strike.began + LOOKED_AHEAD
        and other.ended > strike.began - LOOKED_BACK
        for other in strikes
        if other is not strike
    )


def story_of(run: RunAccount) -> list[str]:
    """What is recorded of a run, a line each."""
    return [
        f"{run.workflow} {run.id} {run.status} {run.error}",
        *(
            f"  {unit.unit} {unit.outcome} attempt {unit.attempt} {unit.error or ''}"
            for unit in run.units
        ),
    ]
