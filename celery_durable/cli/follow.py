"""A run as it moves, until it ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from rich.live import Live
from rich.text import Text

from celery_durable.cli.drawing import drawn
from celery_durable.cli.exit_codes import Exit
from celery_durable.cli.formatting import one_line, span, utc, why
from celery_durable.cli.node_notes import waiting
from celery_durable.cli.output import Form, Output
from celery_durable.cli.run_view import Seen, Watch, document_of
from celery_durable.core.status import Status
from celery_durable.durable import Durable
from celery_durable.run import Run
from celery_durable.store.read.history import JournalEntry
from celery_durable.store.read.position import UnitInHand

LOOK_EVERY = 0.25
"""Seconds between looks at the run."""

LINES_AROUND_STEPS = 16
"""Lines of a picture that are not steps, at most; those a terminal has besides are for steps."""

WAITS_TOLD = 3
"""Units in hand that a line says of what they wait for."""


def follow(durable: Durable, run: Run, output: Output, *, with_results: bool = True) -> Seen:
    """Show the run in the form of `output` until it has ended; how it ended.

    Only JSON has results.
    """
    match output.form:
        case Form.TERMINAL:
            return _redraw(durable, run, output)
        case Form.PIPE:
            return _tell(durable, run, output)
        case Form.JSON:
            return _document_changes(durable, run, output, with_results=with_results)


def exit_of(seen: Seen) -> Exit:
    """What scripts are told of how the run ended."""
    return Exit.OK if seen.snapshot.status is Status.COMPLETED else Exit.RUN_ENDED_BADLY


def _looks(watch: Watch) -> Iterator[Seen]:
    """One look after another, the last when the run has ended."""
    while True:
        seen = watch.look()
        yield seen
        if seen.is_over:
            return
        time.sleep(LOOK_EVERY)


def _redraw(durable: Durable, run: Run, output: Output) -> Seen:
    room = max(output.console.height - LINES_AROUND_STEPS, 3)
    watch = Watch(durable, run, with_results=False)
    seen = watch.look()
    with Live(console=output.console, auto_refresh=False) as live:
        for seen in _looks(watch):
            # The last picture stays on the screen, and is whole.
            shown = None if seen.is_over else room
            live.update(drawn(output, seen, datetime.now(UTC), shown), refresh=not seen.is_over)
    return seen


def _tell(durable: Durable, run: Run, output: Output) -> Seen:
    """A line for each change."""
    before: Seen | None = None
    for seen in _looks(Watch(durable, run, with_results=False)):
        for line in changes(output, before, seen):
            output.lines(Text(line))
        before = seen
    assert before is not None
    return before


def _document_changes(durable: Durable, run: Run, output: Output, *, with_results: bool) -> Seen:
    before: Seen | None = None
    for seen in _looks(Watch(durable, run, with_results=with_results)):
        if seen != before:
            output.json_line(document_of(seen))
        before = seen
    assert before is not None
    return before


def changes(output: Output, before: Seen | None, seen: Seen) -> Iterator[str]:
    """What happened between two looks, a line each; items and iterations are counted."""
    now = datetime.now(UTC)
    known = {entry.unit for entry in before.entries} if before else set()
    was = before.snapshot if before else None
    snapshot = seen.snapshot
    for entry in seen.entries:
        if entry.unit not in known:
            yield f"{utc(entry.finished_at)}  {_ending(entry)}"
    yield from _counts(before, seen, now)
    if was is None or was.status != snapshot.status:
        at = utc(snapshot.finished_at or now)
        reason = f": {why(snapshot.error)}" if snapshot.error else ""
        yield f"{at}  run {snapshot.status}{reason}"
    if snapshot.current and (was is None or _position(before) != _position(seen)):
        yield f"{utc(now)}  {_standing(output, seen, now)}"


def _counts(before: Seen | None, seen: Seen, now: datetime) -> Iterator[str]:
    """How far each map and loop has come, where that has changed."""
    totals = {name: forked.total for name, forked in seen.snapshot.forks.items()}
    for name, tally in seen.tallies.items():
        if before is not None and before.tallies.get(name) == tally:
            continue
        of = f"/{totals[name]}" if name in totals else ""
        words = ("failed", "cancelled", "undone", "undo_failed")
        counts = [
            (getattr(tally, word), word.replace("undo_failed", "not undone")) for word in words
        ]
        more = "".join(f", {count} {word}" for count, word in counts if count)
        yield f"{utc(now)}  {one_line(name)} {tally.ended}{of}{more}"


def _position(seen: Seen | None) -> tuple[object, ...]:
    """What a line on where the run stands is made of."""
    if seen is None:
        return ()
    at = seen.snapshot
    waits = [(unit.waits_for, unit.signal, unit.child_run_id) for unit in _told(seen)]
    return at.current, at.attempt, at.wake_at, at.status, waits


def _told(seen: Seen) -> list[UnitInHand]:
    """The units that wait for something, where these are not too many for a line."""
    waits = [unit for unit in seen.snapshot.units if unit.waits_for not in (None, "branches")]
    return waits if len(waits) <= WAITS_TOLD else []


def _ending(entry: JournalEntry) -> str:
    attempt = f", attempt {entry.attempt}" if entry.attempt > 1 else ""
    reason = f": {why(entry.error)}" if entry.error else ""
    took = span(entry.finished_at - entry.started_at)
    return f"{one_line(entry.unit)} {entry.outcome} after {took}{attempt}{reason}"


def _standing(output: Output, seen: Seen, now: datetime) -> str:
    at = seen.snapshot
    verb = "compensating" if at.status is Status.COMPENSATING else "at"
    attempt = f", attempt {at.attempt}" if at.attempt > 1 else ""
    waits = "".join(f", {waiting(unit, output, now)}" for unit in _told(seen))
    wait = f", in {span(at.wake_at - now)}" if at.wake_at and not waits else ""
    error = next((unit.error for unit in at.units if unit.error is not None), None)
    after = f", after {why(error)}" if error else ""
    return f"{verb} {one_line(', '.join(at.current))}{attempt}{waits}{wait}{after}"
