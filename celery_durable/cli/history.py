"""`durable history`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
from rich.text import Text

from celery_durable.cli.application import durable_of, json_option, run_named, run_options
from celery_durable.cli.output import Column, Form, Output, Row
from celery_durable.cli.phrases import clock, many_lines, one_line, span, why
from celery_durable.core.decision import Outcome
from celery_durable.core.failure import ErrorRecord, FailedAttempt
from celery_durable.core.names import compensated_by, compensation_of, part_of
from celery_durable.store.views import JournalEntry

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


Group = Sequence[JournalEntry]
"""Entries that share a line."""


def folded(entries: Sequence[JournalEntry]) -> list[Group]:
    """Items and iterations of a node together, where the first of them is; others alone."""
    numbered = {entry.unit for entry in entries if is_numbered(entry)}
    groups: dict[str, list[JournalEntry]] = {}
    for entry in entries:
        title = entry.unit
        if is_numbered(entry):
            title = part_of(entry.node, "*")
        elif compensated_by(entry.unit) in numbered:
            title = compensation_of(part_of(entry.node, "*"))
        groups.setdefault(title, []).append(entry)
    return list(groups.values())


def is_numbered(entry: JournalEntry) -> bool:
    """Whether it is an item or an iteration; a branch has a name besides its number."""
    return entry.position is not None and entry.branch is None


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
@click.option("--traceback", is_flag=True, help="Also the tracebacks of what failed.")
@json_option
@click.pass_context
def history(
    ctx: click.Context,
    /,
    *,
    is_whole: bool,
    attempts: bool,
    traceback: bool,
    as_json: bool,
    **name: Any,
) -> None:
    """Show a run's journal: the units that ended, in order.

    The items of a map and the iterations of a loop share a line, and so do their compensations;
    --all and --json have each.
    """
    durable = durable_of(ctx)
    output = Output.of(ctx, as_json=as_json)
    entries = durable.history(run_named(durable, **name).id)
    if output.form is Form.JSON:
        output.document(entries)
        return
    if output.form is Form.TERMINAL and not entries:
        output.lines(Text("No unit has ended yet.", "dim"))
        return
    groups = [[entry] for entry in entries] if is_whole else folded(entries)
    rows = [_cells(output, row) for row in _rows(output, groups, attempts=attempts)]
    output.table(_cells(output, COLUMNS), rows)
    if traceback:
        for title, error in _failures(entries, attempts=attempts):
            output.lines(Text(), Text(title, "bold"), Text(many_lines(error.traceback)))


def _cells(output: Output, cells: Sequence[T]) -> Sequence[T]:
    """The cells of a row that the reader has room for."""
    if output.form is Form.TERMINAL and output.console.width < ROOM_FOR_WORKER:
        return [*cells[:WORKER], *cells[WORKER + 1 :]]
    return cells


def _time(output: Output, at: datetime) -> Text:
    return Text(clock(at, datetime.now(UTC))) if output.form is Form.TERMINAL else output.time(at)


def _rows(output: Output, groups: Sequence[Group], *, attempts: bool) -> Iterator[Row]:
    for group in groups:
        if len(group) > 1:
            yield _group_row(output, group)
            continue
        (entry,) = group
        if attempts:
            for failed in entry.failures:
                yield _attempt_row(output, failed)
        yield _entry_row(output, entry)


def _entry_row(output: Output, entry: JournalEntry) -> Row:
    worker = str(entry.worker)
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
    """Counts; the most attempts, the first start, the time until the last end, the first error."""
    started_at = min(entry.started_at for entry in group)
    finished_at = max(entry.finished_at for entry in group)
    outcomes = Counter(entry.outcome for entry in group)
    workers = {entry.worker for entry in group}
    errors = [entry.error for entry in group if entry.error is not None]
    return (
        Text(one_line(_title(group)), "bold"),
        Text(", ").join(
            Text(f"{outcomes[one]} {one.value}", OUTCOME_STYLES[one])
            for one in Outcome
            if outcomes[one]
        ),
        Text(str(max(entry.attempt for entry in group))),
        _time(output, started_at),
        Text(span(finished_at - started_at)),
        Text(f"{len(workers)} worker{'' if len(workers) == 1 else 's'}", "dim"),
        Text(why(errors[0]) if errors else "", "red"),
    )


def _title(group: Group) -> str:
    """`lines#* (1000)`."""
    first = group[0]
    unit = part_of(first.node, "*")
    is_undo = first.unit.endswith(compensation_of(""))
    return f"{compensation_of(unit) if is_undo else unit} ({len(group)})"


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
    entries: Sequence[JournalEntry], *, attempts: bool
) -> Iterator[tuple[str, ErrorRecord]]:
    """What failed and has a traceback, with a title."""
    for entry in entries:
        failed = [(f.attempt, f.error) for f in entry.failures] if attempts else []
        if entry.error is not None:
            failed.append((entry.attempt, entry.error))
        for attempt, error in failed:
            if error.traceback:
                yield f"{one_line(entry.unit)}, attempt {attempt}:", error
