"""A run as it moves, until it ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from rich.live import Live
from rich.text import Text

from celery_durable.cli.document import fields_of
from celery_durable.cli.exits import Exit
from celery_durable.cli.output import Form, Output
from celery_durable.cli.phrases import one_line, span, utc, why
from celery_durable.cli.picture import Seen, drawn, look
from celery_durable.core.status import Status
from celery_durable.durable import Durable
from celery_durable.run import Run
from celery_durable.store.views import JournalEntry

LOOK_EVERY = 0.25
"""Seconds between looks at the run."""

LINES_AROUND_STEPS = 16
"""Lines of a picture that are not steps, at most; those a terminal has besides are for steps."""


def follow(durable: Durable, run: Run, output: Output) -> Seen:
    """Show the run in the form of `output` until it has ended; how it ended."""
    match output.form:
        case Form.TERMINAL:
            return _redraw(durable, run, output)
        case Form.PIPE:
            return _tell(durable, run, output)
        case Form.JSON:
            return _document_changes(durable, run, output)


def exit_of(seen: Seen) -> Exit:
    """What scripts are told of how the run ended."""
    return Exit.OK if seen.snapshot.status is Status.COMPLETED else Exit.RUN_ENDED_BADLY


def document_of(seen: Seen) -> dict[str, object]:
    """A run as JSON: its snapshot, and the state of each step."""
    return {
        **fields_of(seen.snapshot),
        "states": {step.name: step.state.value for step in seen.steps},
    }


def _looks(durable: Durable, run: Run) -> Iterator[Seen]:
    """One look after another, the last when the run has ended."""
    while True:
        seen = look(durable, run)
        yield seen
        if seen.is_over:
            return
        time.sleep(LOOK_EVERY)


def _redraw(durable: Durable, run: Run, output: Output) -> Seen:
    room = max(output.console.height - LINES_AROUND_STEPS, 3)
    seen = look(durable, run)
    with Live(console=output.console, auto_refresh=False) as live:
        for seen in _looks(durable, run):
            # The last picture stays on the screen, and is whole.
            shown = None if seen.is_over else room
            live.update(drawn(output, seen, datetime.now(UTC), shown), refresh=not seen.is_over)
    return seen


def _tell(durable: Durable, run: Run, output: Output) -> Seen:
    """A line for each change."""
    before: Seen | None = None
    for seen in _looks(durable, run):
        for line in changes(before, seen, datetime.now(UTC)):
            output.lines(Text(line))
        before = seen
    assert before is not None
    return before


def _document_changes(durable: Durable, run: Run, output: Output) -> Seen:
    before: Seen | None = None
    for seen in _looks(durable, run):
        if seen != before:
            output.json_line(document_of(seen))
        before = seen
    assert before is not None
    return before


def changes(before: Seen | None, seen: Seen, now: datetime) -> Iterator[str]:
    """What happened between two looks, a line each."""
    known = {entry.unit for entry in before.entries} if before else set()
    was = before.snapshot if before else None
    snapshot = seen.snapshot
    for entry in seen.entries:
        if entry.unit not in known:
            yield f"{utc(entry.finished_at)}  {_ending(entry)}"
    if was is None or was.status != snapshot.status:
        at = utc(snapshot.finished_at or now)
        reason = f": {why(snapshot.error)}" if snapshot.error else ""
        yield f"{at}  run {snapshot.status}{reason}"
    if snapshot.current and (was is None or _position(before) != _position(seen)):
        yield f"{utc(now)}  {_standing(seen, now)}"


def _position(seen: Seen | None) -> tuple[object, ...]:
    if seen is None:
        return ()
    at = seen.snapshot
    return at.current, at.attempt, at.wake_at, at.status


def _ending(entry: JournalEntry) -> str:
    attempt = f", attempt {entry.attempt}" if entry.attempt > 1 else ""
    reason = f": {why(entry.error)}" if entry.error else ""
    took = span(entry.finished_at - entry.started_at)
    return f"{one_line(entry.unit)} {entry.outcome} after {took}{attempt}{reason}"


def _standing(seen: Seen, now: datetime) -> str:
    at = seen.snapshot
    verb = "compensating" if at.status is Status.COMPENSATING else "at"
    attempt = f", attempt {at.attempt}" if at.attempt > 1 else ""
    wait = f", in {span(at.wake_at - now)}" if at.wake_at else ""
    return f"{verb} {one_line(', '.join(at.current))}{attempt}{wait}"
