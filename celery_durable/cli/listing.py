"""`durable list`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

import click
from rich.text import Text

from celery_durable.cli.application import durable_of, json_option, tag_option
from celery_durable.cli.document import fields_of
from celery_durable.cli.formatting import coarse, elapsed, error_line, one_line, shortened
from celery_durable.cli.output import Column, Form, Output, Row, status_text, workflow_text
from celery_durable.core.status import FINISHED, Status
from celery_durable.core.why import Reason
from celery_durable.durable import Durable
from celery_durable.store.read import facts
from celery_durable.store.read.views import RunSummary

COLUMNS = (
    Column("run"),
    Column("workflow", fixed=False),
    Column("status"),
    Column("key", fixed=False),
    Column("age", right=True),
    Column("took", right=True),
    Column("error", fixed=False),
)

LONGEST_ERROR = 60
"""Characters of an error that are shown; `durable show` has the rest."""


@click.command("list")
@click.option("--status", type=click.Choice([status.value for status in Status]))
@click.option("--workflow", help="The runs of this workflow.")
@click.option("--parent", type=click.UUID, metavar="RUN", help="The runs that this one started.")
@tag_option
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--before", type=click.UUID, metavar="RUN", help="The last run of the page before.")
@click.option("--why", "is_explained", is_flag=True, help="Say why each run stands where it does.")
@json_option
@click.pass_context
def list_runs(
    ctx: click.Context,
    /,
    *,
    status: str | None,
    workflow: str | None,
    parent: UUID | None,
    tags: dict[str, str],
    limit: int,
    before: UUID | None,
    is_explained: bool,
    as_json: bool,
) -> None:
    """List runs, newest first."""
    output = Output.of(ctx, as_json=as_json)
    durable = durable_of(ctx)
    runs = durable.list(
        status=status,
        workflow=workflow,
        parent=parent,
        tags=tags or None,
        limit=limit,
        before=before,
    )
    why = _reasons(durable, runs) if is_explained else {}
    if output.form is Form.JSON:
        output.document([_document(run, why) for run in runs] if is_explained else runs)
        return
    now = datetime.now(UTC)
    columns = (*COLUMNS, Column("why", fixed=False)) if is_explained else COLUMNS
    rows = [(*_row(run, now), *_why_cells(run, why)) for run in runs]
    output.table(columns, rows, if_empty="No runs.")
    if output.form is Form.TERMINAL and len(runs) == limit:
        output.lines(Text(f"There may be more: --before {runs[-1].run_id}", "dim"))


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


def _row(run: RunSummary, now: datetime) -> Row:
    return (
        Text(str(run.run_id)),
        workflow_text(run.workflow, run.version),
        status_text(run.status),
        Text(one_line(run.key or "")),
        Text(coarse(now - run.created_at), "dim"),
        Text(elapsed(run.started_at, run.finished_at, now)),
        Text(shortened(error_line(run.error), LONGEST_ERROR) if run.error else "", "red"),
    )
