"""What is said of a node below its name: how it stands, what it waits for, counts and errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from celery_durable.core.failure import attempt_text
from celery_durable.store.read.position import Forked
from celery_durable.store.read.units import UnitInHand
from celery_durable.view.formatting import error_line, nonzero, plural, span
from celery_durable.view.nodes import ACTIVE, NOT_BEGUN, NodeState, NodeView
from celery_durable.view.picture.blocks import Bar, Line, Tone
from celery_durable.view.picture.sizes import ROOM, SMALL
from celery_durable.view.picture.text import Count, plain, since, until, wrapped

LONGEST = 200
"""Characters of a message or an error that are kept; a picture shows the beginning of these."""


def standing(view: NodeView, unit: str, now: datetime) -> Iterator[Line]:
    """Yield the state with how long it has taken, and below that the attempt."""
    text, count = _duration(view, unit, now)
    yield Line(text, Tone.STATE, _word(view, unit), count)
    if view.attempt > 1:
        yield _attempt(view, now)


def _word(view: NodeView, unit: str) -> str:
    if view.is_skipped:
        return "skipped"
    return "queued" if is_queued(view, unit) else view.state.value


def _duration(view: NodeView, unit: str, now: datetime) -> tuple[str, Count | None]:
    """How long it has taken, or takes; the duration in that which goes on."""
    current = _current(view, unit)
    if view.state not in ACTIVE:
        return span(view.took) if view.took is not None else "", None
    begin = None if current is None else _begin(current)
    if current is None or begin is None or (view.state is NodeState.PAUSED and not _waits(view)):
        return "", None
    count = since(begin, now)
    if current.is_executing:
        return f"{count.text} so far", count
    has_wait = current.waits_for is not None or view.wake_at is not None
    queued = view.state is NodeState.COMPENSATING and not has_wait
    return f"{'queued ' if queued else ''}for {count.text}", count


def _begin(unit: UnitInHand) -> datetime | None:
    """Since when it is executed, queued, or waits; not of one that is tried again later."""
    if unit.waits_for is not None and not unit.is_executing:
        return unit.waiting_since
    return unit.since if unit.is_executing or unit.wake_at is None else None


def is_queued(view: NodeView, unit: str) -> bool:
    """True if it is current, and no worker has begun with it, or with a part of it."""
    executing = view.forked.executing if view.forked is not None else 0
    return view.state is NodeState.CURRENT and not executing and not moves(view, unit)


def moves(view: NodeView, unit: str) -> bool:
    """True if a worker executes the unit, or a part of it."""
    return any(one.is_executing for one in _units(view, unit))


def _units(view: NodeView, unit: str) -> list[UnitInHand]:
    """What the node stands at: the unit itself, its parts, its compensation."""
    return [one for one in view.units if one.unit == unit or one.unit.startswith(f"{unit}#")]


def _current(view: NodeView, unit: str) -> UnitInHand | None:
    """The one unit that it stands at; None if there are several."""
    found = _units(view, unit)
    return found[0] if len(found) == 1 else None


def _attempt(view: NodeView, now: datetime) -> Line:
    if view.state not in ACTIVE:
        return Line(f"{view.attempt} attempts")
    text = attempt_text(view.attempt, view.max_attempts)
    if view.wake_at is None or view.state is NodeState.PAUSED or _waits(view):
        return Line(text)
    count = until(view.wake_at, now)
    return Line(f"{text} in {count.text}", count=count)


def _waits(view: NodeView) -> bool:
    return any(unit.waits_for for unit in view.units)


def of(view: NodeView, unit: str, now: datetime) -> Iterator[Line]:
    """Yield the lines below the state: counts, what is waited for, progress, the error."""
    for counts in wrapped(_counts(view), ", ", SMALL, ROOM):
        yield Line(counts)
    current = _current(view, unit)
    if view.state in ACTIVE and current is not None:
        for text in wrapped(_wait_text(current, now), " ", SMALL, ROOM):
            yield Line(text, Tone.WAIT)
        progress = view.progress.get(current.unit)
        if progress is not None:
            share = "" if progress.fraction is None else f"{progress.fraction:.0%}"
            said = plain(f"{share} {progress.message[:LONGEST]}")
            if said:
                yield Line(said)
    if view.is_skipped and view.error is not None:
        yield Line(plain(view.error.message))
    elif view.error is not None:
        yield Line(plain(error_line(view.error)[:LONGEST]), Tone.ERROR)


def _counts(view: NodeView) -> Sequence[str]:
    """`812 of 1000`, `3 failed`; of a loop the iterations; the case that a route has chosen."""
    if view.kind == "route" and view.branch is not None:
        return [plain(f"takes {view.branch}")]
    if not view.is_fork:
        undone = view.tally.undone if view.tally else 0
        return [plural(undone, "iteration") + " undone"] if undone else []
    if view.forked is not None and view.state in ACTIVE:
        return fork_counts(view, view.forked)
    if view.tally is None:
        return [f"{len(view.parts)} branches"] if view.kind == "parallel" else []
    tally = view.tally
    others = {
        "failed": tally.failed,
        "cancelled": tally.cancelled,
        "undone": tally.undone,
        "not undone": tally.undo_failed,
    }
    return [plural(tally.ended, "item"), *nonzero(others)]


def fork_counts(view: NodeView, forked: Forked) -> list[str]:
    """How many branches or items of a fork have ended, and how the others stand."""
    counts = {
        "failed": _failed(view),
        "executing": forked.executing,
        "waiting": forked.waiting,
        "queued": forked.queued - view.not_begun,
        "not begun": view.not_begun,
    }
    return [f"{forked.ended} of {forked.total}", *nonzero(counts)]


def _failed(view: NodeView) -> int:
    """How many branches or items have failed; a fork does not count errors that are kept."""
    return max(view.forked.failed if view.forked else 0, view.tally.failed if view.tally else 0)


def bar_of(view: NodeView) -> Bar | None:
    """How many of the items have ended, as fractions of all; None for a node that has not begun."""
    if view.state in NOT_BEGUN:
        return None
    if view.forked is not None and view.state in ACTIVE:
        total, ended = view.forked.total, view.forked.ended
    elif view.tally is not None:
        # How many there were to be is gone with the token of a map that has ended.
        total = ended = view.tally.ended
    else:
        return Bar(1.0) if view.state is NodeState.COMPLETED else None
    if not total:
        return Bar(1.0)
    failed = min(_failed(view), ended)
    return Bar((ended - failed) / total, failed / total)


def _wait_text(unit: UnitInHand, now: datetime) -> Sequence[str]:
    """What a unit waits for, and until when."""
    time = [f"until {moment(unit.wake_at, now)}"] if unit.wake_at is not None else []
    match unit.waits_for:
        case "signal":
            return [plain(f"waits for {unit.signal}"), *time]
        case "timer":
            return ["sleeps", *time]
        case "operator":
            return ["has used up its attempts"]
        case _:
            return []


def moment(at: datetime, now: datetime) -> str:
    """A time in UTC, with its date if that is not today's."""
    there, today = at.astimezone(UTC), now.astimezone(UTC).date()
    date = "" if there.date() == today else f"{there:%Y-%m-%d} "
    return f"{date}{there:%H:%M} UTC"
