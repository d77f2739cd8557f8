"""`durable history`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
from rich.text import Text

from celery_durable.cli.application import durable_of, json_option, run_named, run_options
from celery_durable.cli.formatting import clock, many_lines, one_line, span, why
from celery_durable.cli.output import Column, Form, Output, Row
from celery_durable.cli.run_view import counted_of, nodes_of
from celery_durable.core.decision import Outcome
from celery_durable.core.failure import FailedAttempt
from celery_durable.core.names import compensation_of, part_of
from celery_durable.durable import Durable
from celery_durable.errors import ErrorRecord, RunNotFound
from celery_durable.run import Run
from celery_durable.store.read import folded, views
from celery_durable.store.read.folded import Group, Line, Trying
from celery_durable.store.read.history import JournalEntry

T = TypeVar("T")

COLUMNS = (
    Column("unit", fixed=False),
    Column("outcome"),
    Column("attempt", right=True),
    Column("started"),
    Column("took", right=True),
    Column("worker"),
    Column("error", fixed=False),
)

WORKER = [column.title for column in COLUMNS].index("worker")

OUTCOME_STYLES = {
    Outcome.COMPLETED: "green",
    Outcome.FAILED: "bold red",
    Outcome.CANCELLED: "yellow",
}

SHORT_WORKER = 8
"""Characters of a worker's id that tell workers apart on a terminal."""

ROOM_FOR_WORKER = 100
"""Columns of a terminal from which workers are shown; on others, errors need the room."""


MOST_TRYING = 100
"""Units that are being tried again that are shown."""


@click.command()
@run_options
@click.option(
    "--all", "is_whole", is_flag=True, help="Each item and iteration on a line of its own."
)
@click.option(
    "--attempts",
    is_flag=True,
    help="Also the failed attempts before each ending that has a line of its own.",
)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many units, the first.")
@click.option("--after", metavar="UNIT", help="The last unit of the page before.")
@click.option("--no-results", is_flag=True, help="JSON without results: their sizes.")
@click.option("--traceback", is_flag=True, help="Also the tracebacks of what failed.")
@json_option
@click.pass_context
def history(ctx: click.Context, /, *, as_json: bool, **options: Any) -> None:
    """Show a run's journal: the units that ended, in order.

    The items of a map and the iterations of a loop share a line, and so do their compensations;
    --all, --limit and --json have each. What has failed and is tried again stands at the end.
    """
    durable = durable_of(ctx)
    output = Output.of(ctx, as_json=as_json)
    name = {key: options[key] for key in ("run_id", "workflow", "run_key")}
    run = run_named(durable, **name)
    page = {key: options[key] for key in ("limit", "after")}
    is_paged = any(value is not None for value in page.values())
    if output.form is Form.JSON:
        output.document(run.history(**page, results=not options["no_results"]))
        return
    trying = () if is_paged else tries_of(durable, run)
    lines: Sequence[Line]
    if is_paged or options["is_whole"]:
        lines = run.history(**page, results=False)
    else:
        lines = lines_of(durable, run)
    if output.form is Form.TERMINAL and not (lines or trying):
        output.lines(Text("No unit has ended yet.", "dim"))
        return
    attempts = options["attempts"]
    rows = [*_rows(output, lines, attempts=attempts), *_tries(output, trying, attempts=attempts)]
    output.table(_cells(output, COLUMNS), [_cells(output, row) for row in rows])
    if options["traceback"]:
        for title, error in _failures(lines, trying, attempts=attempts):
            output.lines(Text(), Text(title, "bold"), Text(many_lines(error.traceback)))


def lines_of(durable: Durable, run: Run) -> Sequence[Line]:
    """The journal, what maps and loops consist of counted. Raises `RunNotFound`."""
    with durable.database.snapshot() as connection:
        found = views.snapshot(connection, run.id, results=False)
        if found is None:
            raise RunNotFound(run.id)
        return folded.lines(connection, run.id, counted_of(nodes_of(connection, found)))


def tries_of(durable: Durable, run: Run) -> Sequence[Trying]:
    """What has failed and is tried again."""
    with durable.database.snapshot() as connection:
        return folded.trying(connection, run.id, MOST_TRYING)


def _cells(output: Output, cells: Sequence[T]) -> Sequence[T]:
    """The cells of a row that the reader has room for."""
    if output.form is Form.TERMINAL and output.console.width < ROOM_FOR_WORKER:
        return [*cells[:WORKER], *cells[WORKER + 1 :]]
    return cells


def _time(output: Output, at: datetime) -> Text:
    return Text(clock(at, datetime.now(UTC))) if output.form is Form.TERMINAL else output.time(at)


def _rows(output: Output, lines: Sequence[Line], *, attempts: bool) -> Iterator[Row]:
    for line in lines:
        if isinstance(line, Group):
            yield _group_row(output, line)
            continue
        if attempts:
            for failed in line.failures:
                yield _attempt_row(output, failed)
        yield _entry_row(output, line)


def _tries(output: Output, trying: Sequence[Trying], *, attempts: bool) -> Iterator[Row]:
    for unit in trying:
        if attempts:
            for failed in unit.failures:
                yield _attempt_row(output, failed)
        yield _trying_row(output, unit)


def _trying_row(output: Output, unit: Trying) -> Row:
    worker = str(unit.worker or "")
    return (
        Text(one_line(unit.unit), "bold"),
        Text("executing" if unit.worker else "tried again", "yellow"),
        Text(str(unit.attempt)),
        _time(output, unit.wake_at or unit.since),
        Text(),
        Text(worker[-SHORT_WORKER:] if output.form is Form.TERMINAL else worker, "dim"),
        Text(why(unit.failures[-1].error), "red"),
    )


def _entry_row(output: Output, entry: JournalEntry) -> Row:
    worker = str(entry.worker or "")
    return (
        Text(one_line(entry.unit), "bold"),
        Text(entry.outcome.value, OUTCOME_STYLES[entry.outcome]),
        Text(str(entry.attempt)),
        _time(output, entry.started_at),
        Text(span(entry.finished_at - entry.started_at)),
        Text(worker[-SHORT_WORKER:] if output.form is Form.TERMINAL else worker, "dim"),
        Text(why(entry.error) if entry.error else "", "red"),
    )


def _group_row(output: Output, group: Group) -> Row:
    return (
        Text(one_line(_title(group)), "bold"),
        Text(", ").join(
            Text(f"{count} {outcome.value}", OUTCOME_STYLES[outcome])
            for outcome, count in group.outcomes.items()
            if count
        ),
        Text(str(group.attempt)),
        _time(output, group.started_at),
        Text(span(group.finished_at - group.started_at)),
        Text(f"{group.workers} worker{'' if group.workers == 1 else 's'}", "dim"),
        Text(why(group.error) if group.error else "", "red"),
    )


def _title(group: Group) -> str:
    """`lines#* (1000)`."""
    unit = part_of(group.node, "*")
    return f"{compensation_of(unit) if group.is_undo else unit} ({group.size})"


def _attempt_row(output: Output, failed: FailedAttempt) -> Row:
    return (
        Text("  attempt", "dim"),
        Text("retried", "dim"),
        Text(str(failed.attempt), "dim"),
        _time(output, failed.started_at),
        Text(span(failed.failed_at - failed.started_at), "dim"),
        Text(),
        Text(why(failed.error), "dim red"),
    )


def _failures(
    lines: Sequence[Line], trying: Sequence[Trying], *, attempts: bool
) -> Iterator[tuple[str, ErrorRecord]]:
    """What failed and has a traceback, with a title."""
    for line in (*lines, *trying):
        if isinstance(line, Group):
            failed = [(line.attempt, line.error)] if line.error else []
            unit = line.error.unit if line.error else ""
        else:
            unit = line.unit
            tries = [(f.attempt, f.error) for f in line.failures]
            failed = tries if attempts else tries[-1:] if isinstance(line, Trying) else []
            if isinstance(line, JournalEntry) and line.error is not None:
                failed.append((line.attempt, line.error))
        for attempt, error in failed:
            if error.traceback:
                yield f"{one_line(unit)}, attempt {attempt}:", error
