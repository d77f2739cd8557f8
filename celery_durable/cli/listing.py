"""`durable list`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import click
from rich.text import Text

from celery_durable.cli.application import durable_of, json_option
from celery_durable.cli.filters import filter_options, time_option
from celery_durable.cli.output import Column, Form, Output, Row, Rows, status_text, workflow_text
from celery_durable.core.failure import attempt_text
from celery_durable.core.reason import Reason
from celery_durable.core.status import FINISHED
from celery_durable.durable import Durable
from celery_durable.store.read import facts
from celery_durable.store.read.listing import RunSummary
from celery_durable.store.read.units import UnitInHand
from celery_durable.view.document import fields_of
from celery_durable.view.formatting import coarse, elapsed, error_line, one_line, shortened, utc

COLUMNS = (
    Column("run"),
    Column("workflow", fixed=False),
    Column("status"),
    Column("key", fixed=False),
    Column("age", right=True),
    Column("took", right=True),
    Column("at", fixed=False),
    Column("tags", fixed=False),
    Column("error", fixed=False),
)

LONGEST_ERROR = 60
"""Characters of an error that are shown; `durable show` has the rest."""


@click.command("list")
@filter_options
@time_option("--ended-since", "Ended then or later, with --status: runs that are no children.")
@time_option("--standing-since", "Unfinished, and nothing has moved since then: 1h.")
@click.option("--parent", type=click.UUID, metavar="RUN", help="The runs that this one started.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--before", type=click.UUID, metavar="RUN", help="The last run of the page before.")
@click.option("--why", "is_explained", is_flag=True, help="Say why each run stands where it does.")
@json_option
@click.pass_context
def list_runs(
    ctx: click.Context,
    /,
    *,
    limit: int,
    before: UUID | None,
    is_explained: bool,
    as_json: bool,
    **filters: Any,
) -> None:
    """List runs, newest first: where each stands, and why it failed or is tried again.

    Only those of which every filter is true. In a pipe every column is there; on a terminal those
    that are not empty.
    """
    output = Output.of(ctx, as_json=as_json)
    durable = durable_of(ctx)
    runs = durable.list(limit=limit, before=before, **filters)
    why = _reasons(durable, runs) if is_explained else {}
    if output.form is Form.JSON:
        output.document([_document(run, why) for run in runs] if is_explained else runs)
        return
    now = datetime.now(UTC)
    columns = (*COLUMNS, Column("why", fixed=False)) if is_explained else COLUMNS
    rows = [(*_row(output, run, now), *_why_cells(run, why)) for run in runs]
    if_empty = "No run matches." if any(filters.values()) or before else "No runs."
    output.table(*_fitting(output, columns, rows), if_empty=if_empty)
    if output.form is Form.PIPE and not runs:
        click.echo(if_empty, err=True)
    if output.form is Form.TERMINAL and len(runs) == limit:
        output.lines(Text(f"There may be more: --before {runs[-1].run_id}", "dim"))


def _fitting(
    output: Output, columns: Sequence[Column], rows: Rows
) -> tuple[Sequence[Column], Rows]:
    """The table, on a terminal without the columns that are empty."""
    if output.form is not Form.TERMINAL:
        return columns, rows
    shown = [at for at in range(len(columns)) if any(row[at].plain for row in rows)]
    return [columns[at] for at in shown], [[row[at] for at in shown] for row in rows]


def _reasons(durable: Durable, runs: Sequence[RunSummary]) -> Mapping[UUID, Sequence[Reason]]:
    with durable.database.read_only() as connection:
        found = facts.diagnoses(connection, [run.run_id for run in runs])
    return {one.run_id: one.reasons for one in found}


def _document(run: RunSummary, why: Mapping[UUID, Sequence[Reason]]) -> Mapping[str, object]:
    return {**fields_of(run), "why": why.get(run.run_id, ())}


def _why_cells(run: RunSummary, why: Mapping[UUID, Sequence[Reason]]) -> Row:
    """What keeps an unfinished run, in a cell; no cell where nobody has asked."""
    if not why:
        return ()
    reasons = () if run.status in FINISHED else why.get(run.run_id, ())
    return (Text("; ".join(one_line(reason.text) for reason in reasons)),)


def _row(output: Output, run: RunSummary, now: datetime) -> Row:
    return (
        Text(str(run.run_id)),
        workflow_text(run.workflow, run.version),
        status_text(run.status),
        Text(one_line(run.key or "")),
        Text(coarse(now - run.created_at), "dim"),
        Text(elapsed(run.started_at, run.finished_at, now)),
        Text(_standing(output, run.standing, now) if run.standing else ""),
        Text(one_line(" ".join(f"{name}={value}" for name, value in run.tags.items())), "dim"),
        Text(shortened(error_line(run.error), LONGEST_ERROR) if run.error else "", "red"),
    )


def _standing(output: Output, unit: UnitInHand, now: datetime) -> str:
    """`charge for 3m, attempt 2 of 5`; in a pipe, since when."""
    parts = [one_line(unit.unit)]
    if unit.since is not None:
        is_terminal = output.form is Form.TERMINAL
        parts.append(
            f"for {coarse(now - unit.since)}" if is_terminal else f"since {utc(unit.since)}"
        )
    text = " ".join(parts)
    is_repeated = unit.attempt > 1 or unit.failure is not None
    return f"{text}, {attempt_text(unit.attempt, unit.max_attempts)}" if is_repeated else text
