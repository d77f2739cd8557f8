"""Shows a run until it has ended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from celery_durable.cli.drawing import picture
from celery_durable.cli.node_notes import wait_text
from celery_durable.cli.output import Form, Output
from celery_durable.cli.standstill import Standstill, Told
from celery_durable.cli.why import lines as why_lines
from celery_durable.core.failure import attempt_text
from celery_durable.core.status import Status
from celery_durable.durable import Durable
from celery_durable.run import Run
from celery_durable.store.read.history import JournalEntry
from celery_durable.store.read.units import UnitInHand
from celery_durable.view.formatting import error_line, nonzero, one_line, span, utc
from celery_durable.view.run import RunReader, RunView, document_of

POLL_SECONDS = 0.25

OTHER_LINES = 16
"""Most lines of a picture that are not nodes; the rest of a terminal's height is for nodes."""

FEWEST_NODES = 3
"""Nodes that are shown on the lowest terminal."""

MOST_WAITS = 3
"""Waiting units up to which a line says what each waits for."""


def follow(
    durable: Durable, run: Run, output: Output, app: str, *, with_results: bool = True
) -> RunView:
    """Show the run in the form of `output` until it has ended; return its last view.

    Only JSON has results. Where the run stands, the others say why; `app` is what -A takes.
    """
    is_json = output.form is Form.JSON
    reader = RunReader(durable, run, with_results=with_results and is_json)
    if is_json:
        return _print_documents(reader, output)
    if output.form is Form.TERMINAL:
        return _redraw(reader, output, Standstill(run), app)
    return _print_changes(reader, output, Standstill(run), app)


def _views(reader: RunReader) -> Iterator[RunView]:
    """Poll the run; the last view is of the ended run."""
    while True:
        view = reader.read()
        yield view
        if view.has_ended:
            return
        time.sleep(POLL_SECONDS)


def _redraw(reader: RunReader, output: Output, standstill: Standstill, app: str) -> RunView:
    most_nodes = max(output.console.height - OTHER_LINES, FEWEST_NODES)
    view = reader.read()  # raises RunNotFound before the terminal is taken over
    with Live(console=output.console, auto_refresh=False) as live:
        for view in _views(reader):
            # The last picture stays on the screen, and is whole.
            shown = None if view.has_ended else most_nodes
            parts: list[RenderableType] = [picture(output, view, datetime.now(UTC), shown)]
            found = None if view.has_ended else standstill.look(view)
            if found is not None:
                parts += [Text(), *why_lines(output, found, app)]
            live.update(Group(*parts), refresh=not view.has_ended)
    return view


def _print_documents(reader: RunReader, output: Output) -> RunView:
    """Print the run after each change, on one line."""
    view = before = None
    for view in _views(reader):
        if view != before:
            output.json_line(document_of(view))
        before = view
    assert view is not None
    return view


def _print_changes(reader: RunReader, output: Output, standstill: Standstill, app: str) -> RunView:
    """Print lines for each change, and why the run stands."""
    before: RunView | None = None
    told = Told()
    for view in _views(reader):
        output.lines(*map(Text, _change_lines(output, before, view)))
        found = None if view.has_ended else standstill.look(view)
        if told.is_new(found) and found is not None:
            output.lines(*why_lines(output, found, app))
        before = view
    assert before is not None
    return before


def _change_lines(output: Output, before: RunView | None, view: RunView) -> Iterator[str]:
    """A line for each change between two views; items and iterations are counted."""
    now = datetime.now(UTC)
    known = {entry.unit for entry in before.entries} if before else set()
    snapshot = view.snapshot
    for entry in view.entries:
        if entry.unit not in known:
            yield f"{utc(entry.finished_at)}  {_entry_text(entry)}"
    for name in view.tallies:
        if before is None or before.tallies.get(name) != view.tallies[name]:
            yield f"{utc(now)}  {_tally_text(view, name)}"
    if before is None or before.snapshot.status != snapshot.status:
        reason = f": {error_line(snapshot.error)}" if snapshot.error else ""
        yield f"{utc(snapshot.finished_at or now)}  run {snapshot.status}{reason}"
    if snapshot.current and (before is None or _position(before) != _position(view)):
        yield f"{utc(now)}  {_position_text(output, view, now)}"


def _entry_text(entry: JournalEntry) -> str:
    attempt = f", attempt {entry.attempt}" if entry.attempt > 1 else ""
    reason = f": {error_line(entry.error)}" if entry.error else ""
    took = span(entry.finished_at - entry.started_at)
    return f"{one_line(entry.unit)} {entry.outcome} after {took}{attempt}{reason}"


def _tally_text(view: RunView, name: str) -> str:
    """How far a map or loop has come: `lines 730/1000, 2 failed`."""
    tally, forked = view.tallies[name], view.snapshot.forks.get(name)
    total = f"/{forked.total}" if forked else ""
    counts = nonzero(
        {
            "failed": tally.failed,
            "cancelled": tally.cancelled,
            "undone": tally.undone,
            "not undone": tally.undo_failed,
        }
    )
    return ", ".join([f"{one_line(name)} {tally.ended}{total}", *counts])


def _position(view: RunView) -> tuple[object, ...]:
    """The part of a view that `_position_text` shows, without times that pass."""
    at = view.snapshot
    waits = [(unit.waits_for, unit.signal, unit.child_run_id) for unit in _shown_waits(view)]
    return at.current, at.attempt, at.wake_at, at.status, waits


def _shown_waits(view: RunView) -> list[UnitInHand]:
    """The units that wait, where they are few enough for a line."""
    waits = [unit for unit in view.snapshot.units if unit.waits_for not in (None, "branches")]
    return waits if len(waits) <= MOST_WAITS else []


def _position_text(output: Output, view: RunView, now: datetime) -> str:
    at = view.snapshot
    verb = "compensating" if at.status is Status.COMPENSATING else "at"
    most = next((unit.max_attempts for unit in at.units if unit.attempt == at.attempt), None)
    attempt = f", {attempt_text(at.attempt, most)}" if at.attempt > 1 else ""
    waits = "".join(f", {wait_text(unit, output, now)}" for unit in _shown_waits(view))
    begins = f", in {span(at.wake_at - now)}" if at.wake_at and not waits else ""
    error = next((unit.error for unit in at.units if unit.error is not None), None)
    after = f", after {error_line(error)}" if error else ""
    return f"{verb} {one_line(', '.join(at.current))}{attempt}{waits}{begins}{after}"
