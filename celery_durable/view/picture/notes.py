"""What is said of a node below its name: how it stands, what it waits for, counts and errors."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from celery_durable.core.failure import attempt_text
from celery_durable.store.read.units import UnitInHand
from celery_durable.view.formatting import error_line, nonzero, plural, span
from celery_durable.view.nodes import ACTIVE, NOT_BEGUN, NodeState, NodeView
from celery_durable.view.picture.blocks import Bar, Line, Tone
from celery_durable.view.picture.text import plain

LONGEST = 200
"""Characters of a message or an error that are kept; a picture shows the beginning of these."""


def state_line(view: NodeView, unit: str, now: datetime) -> Line:
    """The state, how long it has taken, and the attempt."""
    parts = [_duration(view, unit, now), _attempt(view, now)]
    return Line(" · ".join(part for part in parts if part), Tone.STATE, view.state.value)


def _duration(view: NodeView, unit: str, now: datetime) -> str:
    current = _current(view, unit)
    if view.state in NOT_BEGUN:
        return ""
    if current is None or view.state not in ACTIVE:
        return span(view.took) if view.took is not None else ""
    if current.is_executing and current.since is not None:
        return f"{span(now - current.since)} so far"
    if current.waits_for is None and view.wake_at is None and current.since is not None:
        return f"queued for {span(now - current.since)}"
    if current.waiting_since is not None:
        return f"for {span(now - current.waiting_since)}"
    return ""


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


def _attempt(view: NodeView, now: datetime) -> str:
    if view.attempt <= 1:
        return ""
    if view.state not in ACTIVE:
        return f"{view.attempt} attempts"
    begins = f" in {span(view.wake_at - now)}" if view.wake_at and not _waits(view) else ""
    return attempt_text(view.attempt, view.max_attempts) + begins


def _waits(view: NodeView) -> bool:
    return any(unit.waits_for for unit in view.units)


def of(view: NodeView, unit: str, now: datetime) -> Iterator[Line]:
    """Yield the lines below the state: counts, what is waited for, progress, the error."""
    counts = _counts(view)
    if counts:
        yield Line(counts)
    current = _current(view, unit)
    if view.state in ACTIVE and current is not None:
        text = _wait_text(current, now)
        if text:
            yield Line(plain(text), Tone.WAIT)
        progress = view.progress.get(current.unit)
        if progress is not None:
            share = "" if progress.fraction is None else f"{progress.fraction:.0%}"
            said = plain(f"{share} {progress.message[:LONGEST]}")
            if said:
                yield Line(said)
    if view.error is not None:
        yield Line(plain(error_line(view.error)[:LONGEST]), Tone.ERROR)


def _counts(view: NodeView) -> str:
    """`812 of 1000, 3 failed`; of a loop the iterations; the case that a route has chosen."""
    if view.kind == "route" and view.branch is not None:
        return plain(f"takes {view.branch}")
    if not view.is_fork:
        undone = view.tally.undone if view.tally else 0
        return plural(undone, "iteration") + " undone" if undone else ""
    if view.forked is not None and view.state in ACTIVE:
        forked = view.forked
        counts = {
            "failed": _failed(view),
            "executing": forked.executing,
            "waiting": forked.waiting,
        }
        return ", ".join((f"{forked.ended} of {forked.total}", *nonzero(counts)))
    if view.tally is None:
        return f"{len(view.parts)} branches" if view.kind == "parallel" else ""
    tally = view.tally
    others = {
        "failed": tally.failed,
        "cancelled": tally.cancelled,
        "undone": tally.undone,
        "not undone": tally.undo_failed,
    }
    return ", ".join((plural(tally.ended, "item"), *nonzero(others)))


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


def _wait_text(unit: UnitInHand, now: datetime) -> str:
    """What a unit waits for, and until when."""
    until = f" until {moment(unit.wake_at, now)}" if unit.wake_at is not None else ""
    match unit.waits_for:
        case "signal":
            return f"waits for {unit.signal}{until}"
        case "timer":
            return f"sleeps{until}"
        case "operator":
            return "has used up its attempts"
        case _:
            return ""


def moment(at: datetime, now: datetime) -> str:
    """A time in UTC, with its date if that is not today's."""
    there, today = at.astimezone(UTC), now.astimezone(UTC).date()
    date = "" if there.date() == today else f"{there:%Y-%m-%d} "
    return f"{date}{there:%H:%M} UTC"
