"""The row of one unit: what it did from its first attempt to its end, or to now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from celery_durable.core.decision import Outcome
from celery_durable.core.failure import FailedAttempt, attempt_text
from celery_durable.store.read.history import JournalEntry
from celery_durable.store.read.units import UnitInHand
from celery_durable.view.formatting import error_line, span
from celery_durable.view.nodes import NodeState, is_by_hand, state_of, took_of
from celery_durable.view.picture.bars import BarRow, Look, Segment, Told, is_undo
from celery_durable.view.picture.notes import LONGEST
from celery_durable.view.picture.text import Count, plain, since, until

LOOKS = {"map": Look.SPAN, "parallel": Look.SPAN, "sleep": Look.WAITED, "signal": Look.WAITED}
"""What a node of a kind does in its own unit, if it is not executing something."""

WAITS: Mapping[str, tuple[Look, str]] = {
    "signal": (Look.WAITED, "waits for"),
    "timer": (Look.WAITED, "sleeps"),
    "child": (Look.CHILD, "waits for its child run"),
    "branches": (Look.SPAN, ""),
    "operator": (Look.WAITED, "has used up its attempts"),
}
"""How each wait looks, and its words."""


def ended_row(told: Told, entry: JournalEntry, kind: str, label: str) -> BarRow:
    """The row of a unit that has ended, of a node of this kind."""
    state = _state_of(entry)
    error = plain(error_line(entry.error)[:LONGEST]) if entry.error is not None else ""
    took = took_of(entry)
    said = "skipped" if is_by_hand(entry.error) else "" if took is None else span(took)
    text = ", ".join(part for part in (said, error) if part)
    last = Segment(entry.started_at, entry.finished_at, _look_of(entry, kind), state, text)
    attempts = f"{entry.attempt} attempts" if entry.attempt > 1 else ""
    segments = tuple(_with_failures(entry.failures, last))
    return BarRow(
        label,
        state,
        segments,
        note=", ".join(part for part in (said, attempts) if part),
        run=entry.child_run_id,
        is_undo=is_undo(entry),
        is_inherited=entry.finished_at < told.created_at,
    )


def _look_of(entry: JournalEntry, kind: str) -> Look:
    if entry.child_run_id is not None:
        return Look.CHILD
    return Look.WAITED if took_of(entry) is None else LOOKS.get(kind, Look.RAN)


def _state_of(entry: JournalEntry) -> NodeState:
    if not is_undo(entry):
        return NodeState(entry.outcome.value)
    is_undone = entry.outcome is Outcome.COMPLETED
    return NodeState.COMPENSATED if is_undone else NodeState.COMPENSATION_FAILED


def _with_failures(failures: Sequence[FailedAttempt], last: Segment) -> Iterator[Segment]:
    """Yield a segment for each failed attempt, one for what lies between it and the next."""
    if failures and last.look is Look.GAP:
        last = replace(last, begin=failures[-1].failed_at)
    nexts = [*(failure.started_at for failure in failures), last.begin][1:]
    for failure, following in zip(failures, nexts, strict=True):
        error = plain(error_line(failure.error)[:LONGEST])
        text = f"{attempt_text(failure.attempt, None)} failed: {error}"
        yield Segment(failure.started_at, failure.failed_at, Look.RAN, NodeState.FAILED, text)
        if following > failure.failed_at:
            yield Segment(failure.failed_at, following, Look.GAP, NodeState.PENDING)
    yield last


def current_row(told: Told, unit: UnitInHand, label: str) -> BarRow:
    """The row of a unit that the run stands at."""
    begin = (unit.since if unit.is_executing else unit.waiting_since or unit.since) or told.now
    look, state, text, count = _doing(told, unit)
    if look is not Look.GAP:
        count = since(begin, told.now)
    so_far = text if look is Look.GAP or count is None else f"{count.text} so far"
    attempts = attempt_text(unit.attempt, unit.max_attempts) if unit.attempt > 1 else ""
    trying = told.trying.get(unit.unit)
    failures = trying.failures if trying is not None else ()
    segments = tuple(_with_failures(failures, Segment(begin, None, look, state, text)))
    return BarRow(
        label,
        state,
        segments,
        note=", ".join(part for part in (so_far, attempts) if part),
        count=count,
        is_queued=look is Look.GAP and state not in (NodeState.WAITING, NodeState.PAUSED),
        run=unit.child_run_id,
        is_undo=is_undo(unit),
    )


def _doing(told: Told, unit: UnitInHand) -> tuple[Look, NodeState, str, Count | None]:
    """What a current unit does; of one that does nothing, why not, and the duration in that."""
    state = NodeState.COMPENSATING if is_undo(unit) else state_of(unit, told.status)
    if unit.is_executing:
        return Look.RAN, state, "is executed", None
    if unit.waits_for is not None:
        look, words = WAITS[unit.waits_for]
        text = f"{words} {unit.signal}" if unit.waits_for == "signal" else words
        return look, state_of(unit, told.status), plain(text), None
    if state is NodeState.PAUSED:
        return Look.GAP, state, "paused", None
    if unit.wake_at is not None:
        count = until(unit.wake_at, told.now)
        return Look.GAP, NodeState.WAITING, f"goes on in {count.text}", count
    if unit.since is None:
        return Look.GAP, state, "queued", None
    count = since(unit.since, told.now)
    return Look.GAP, state, f"queued for {count.text}", count
