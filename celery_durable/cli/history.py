"""`durable history`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

import click
from rich.text import Text

from celery_durable.cli.application import durable_of, json_option, run_named, run_options
from celery_durable.cli.output import Column, Form, Output, Row
from celery_durable.core.decision import Outcome
from celery_durable.core.failure import FailedAttempt, attempt_text
from celery_durable.core.names import compensation_of, subunit_of
from celery_durable.durable import Durable
from celery_durable.errors import ErrorRecord, RunNotFound
from celery_durable.run import Run
from celery_durable.store.read import folded, views
from celery_durable.store.read.folded import Group, Line, Trying
from celery_durable.store.read.history import JournalEntry
from celery_durable.view.document import fields_of
from celery_durable.view.formatting import error_line, many_lines, one_line, plural, span
from celery_durable.view.run import counted_nodes, plan_nodes

T = TypeVar("T")

HistoryLine = Line | Trying

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
"""Last characters of a worker's id, which are enough to tell workers apart on a terminal."""

WIDTH_FOR_WORKER = 100
"""Columns from which a terminal shows workers; on a narrower one, errors need the space."""

MOST_RETRIES = 100
"""Units that failed and are tried again that are shown."""


@click.command()
@run_options
@click.option(
    "--all", "is_whole", is_flag=True, help="Each item and iteration on a line of its own."
)
@click.option(
    "--attempts",
    is_flag=True,
    help="Also the failed attempts, at most 20 of a unit, where a unit has a line of its own.",
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
    --all, --limit and --json list each. Units that failed and are tried again come last; JSON has
    them with --attempts, and no `outcome` of theirs.
    """
    durable = durable_of(ctx)
    output = Output.of(ctx, as_json=as_json)
    run = run_named(durable, options["run_id"], options["workflow"], options["run_key"])
    page = {key: options[key] for key in ("limit", "after")}
    is_json = output.form is Form.JSON
    if is_json or options["is_whole"] or any(value is not None for value in page.values()):
        ended: Sequence[Line] = run.history(**page, results=is_json and not options["no_results"])
    else:
        ended = _read_folded(durable, run)
    is_last_page = page["limit"] is None or len(ended) < page["limit"]
    retries = _read_retries(durable, run) if is_last_page else ()
    if is_json:
        output.document([*ended, *(map(_document, retries) if options["attempts"] else ())])
        return
    lines = (*ended, *retries)
    rows = _rows(output, lines, attempts=options["attempts"])
    output.table(
        _fitting(output, COLUMNS),
        [_fitting(output, row) for row in rows],
        if_empty="No unit has ended yet." if page["after"] is None else "No unit follows.",
    )
    if output.form is Form.TERMINAL and not is_last_page:
        after = shlex.quote(_last_unit(ended))
        output.lines(Text(f"There may be more: --after {after}", "dim"))
    if options["traceback"]:
        for title, error in _errors(lines, attempts=options["attempts"]):
            if error.traceback:
                output.lines(Text(), Text(title, "bold"), Text(many_lines(error.traceback)))


def _read_folded(durable: Durable, run: Run) -> Sequence[Line]:
    """The journal, with items and iterations counted. Raises `RunNotFound`."""
    with durable.database.read_only() as connection:
        snapshot = views.snapshot(connection, run.id, results=False)
        if snapshot is None:
            raise RunNotFound(run.id)
        nodes = plan_nodes(connection, snapshot)
        return folded.lines(connection, run.id, counted_nodes(nodes))


def _read_retries(durable: Durable, run: Run) -> Sequence[Trying]:
    with durable.database.read_only() as connection:
        return folded.trying(connection, run.id, MOST_RETRIES)


def _last_unit(ended: Sequence[Line]) -> str:
    return next((line.unit for line in reversed(ended) if isinstance(line, JournalEntry)), "")


def _document(unit: Trying) -> Mapping[str, object]:
    return {**fields_of(unit), "outcome": None}


def _fitting(output: Output, cells: Sequence[T]) -> Sequence[T]:
    """The cells of a row, without the worker on a narrow terminal."""
    if output.form is Form.TERMINAL and output.console.width < WIDTH_FOR_WORKER:
        return [*cells[:WORKER], *cells[WORKER + 1 :]]
    return cells


def _rows(output: Output, lines: Sequence[HistoryLine], *, attempts: bool) -> Iterator[Row]:
    now = datetime.now(UTC)
    for line in lines:
        if attempts and not isinstance(line, Group):
            for failure in line.failures:
                yield _failure_row(output, failure, now)
        match line:
            case Group():
                yield _group_row(output, line, now)
            case Trying():
                yield _retry_row(output, line, now)
            case JournalEntry():
                yield _entry_row(output, line, now)


def _entry_row(output: Output, entry: JournalEntry, now: datetime) -> Row:
    return (
        Text(one_line(entry.unit), "bold"),
        Text(entry.outcome.value, OUTCOME_STYLES[entry.outcome]),
        Text(str(entry.attempt)),
        Text(output.short_time(entry.started_at, now)),
        Text(span(entry.finished_at - entry.started_at)),
        _worker(output, entry.worker),
        Text(error_line(entry.error) if entry.error else "", "red"),
    )


def _retry_row(output: Output, unit: Trying, now: datetime) -> Row:
    return (
        Text(one_line(unit.unit), "bold"),
        Text("executing" if unit.worker else "tried again", "yellow"),
        Text(attempt_text(unit.attempt, unit.max_attempts).removeprefix("attempt ")),
        Text(output.short_time(unit.wake_at or unit.since, now)),
        Text(),
        _worker(output, unit.worker),
        Text(error_line(unit.failures[-1].error), "red"),
    )


def _worker(output: Output, worker: UUID | None) -> Text:
    worker_id = str(worker or "")
    is_short = output.form is Form.TERMINAL
    return Text(worker_id[-SHORT_WORKER:] if is_short else worker_id, "dim")


def _group_row(output: Output, group: Group, now: datetime) -> Row:
    return (
        Text(one_line(_title(group)), "bold"),
        Text(", ").join(
            Text(f"{count} {outcome.value}", OUTCOME_STYLES[outcome])
            for outcome, count in group.outcomes.items()
            if count
        ),
        Text(str(group.attempt)),
        Text(output.short_time(group.started_at, now)),
        Text(span(group.finished_at - group.started_at)),
        Text(plural(group.workers, "worker"), "dim"),
        Text(error_line(group.error) if group.error else "", "red"),
    )


def _title(group: Group) -> str:
    """`lines#* (1000)`."""
    unit = subunit_of(group.node, "*")
    return f"{compensation_of(unit) if group.is_undo else unit} ({group.size})"


def _failure_row(output: Output, failure: FailedAttempt, now: datetime) -> Row:
    return (
        Text("  attempt", "dim"),
        Text("retried", "dim"),
        Text(str(failure.attempt), "dim"),
        Text(output.short_time(failure.started_at, now)),
        Text(span(failure.failed_at - failure.started_at), "dim"),
        Text(),
        Text(error_line(failure.error), "dim red"),
    )


def _errors(lines: Sequence[HistoryLine], *, attempts: bool) -> Iterator[tuple[str, ErrorRecord]]:
    """The errors that `lines` show, with titles; of a group the first."""
    for line in lines:
        if not isinstance(line, Group):
            last = line.failures[-1:] if isinstance(line, Trying) else ()
            for failure in line.failures if attempts else last:
                yield _attempt_title(line.unit, failure.attempt), failure.error
        if not isinstance(line, Trying) and line.error is not None:
            unit = line.error.unit if isinstance(line, Group) else line.unit
            yield _attempt_title(unit, line.attempt), line.error


def _attempt_title(unit: str, attempt: int) -> str:
    return f"{one_line(unit)}, attempt {attempt}:"
