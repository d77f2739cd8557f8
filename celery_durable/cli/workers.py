"""`durable workers`."""

from __future__ import annotations

from datetime import UTC, datetime

import click
from rich.text import Text

from celery_durable.cli.application import durable_of, json_option
from celery_durable.cli.output import Column, Form, Output, Row
from celery_durable.core.fleet import WorkerInfo, WorkerState
from celery_durable.view.formatting import coarse, one_line

COLUMNS = (
    Column("node", fixed=False),
    Column("pid", right=True),
    Column("pool"),
    Column("state"),
    Column("busy", right=True),
    Column("slots", right=True),
    Column("renewed", right=True),
    Column("queues", fixed=False),
    Column("executing", fixed=False),
)

STYLES = {
    WorkerState.ALIVE: "green",
    WorkerState.DRAINING: "yellow",
    WorkerState.OVERDUE: "bold red",
    WorkerState.DEAD: "bold red",
}


@click.command()
@json_option
@click.pass_context
def workers(ctx: click.Context, /, *, as_json: bool) -> None:
    """List worker processes, and what each executes.

    A process that hangs is "overdue" once it has not renewed its row in time; one that has ended
    without a word is "dead" until a relay has noticed.
    """
    durable = durable_of(ctx)
    output = Output.of(ctx, as_json=as_json)
    found = durable.workers()
    if output.form is Form.JSON:
        output.document(found)
        return
    now = datetime.now(UTC)
    rows = [_row(worker, now) for worker in found]
    output.table(COLUMNS, rows, if_empty="No worker of a durable queue lives.")


def _row(worker: WorkerInfo, now: datetime) -> Row:
    return (
        Text(one_line(worker.hostname)),
        Text(str(worker.pid)),
        Text(worker.pool),
        Text(worker.state.value, STYLES[worker.state]),
        Text(str(worker.busy)),
        Text(str(worker.slots)),
        Text(f"{coarse(now - worker.renewed_at)} ago", "dim"),
        Text(one_line(", ".join(sorted(worker.queues)))),
        Text(_executing(worker, now)),
    )


def _executing(worker: WorkerInfo, now: datetime) -> str:
    """The claim that it has had for longest, and how many more there are."""
    if not worker.executing:
        return ""
    first = worker.executing[0]
    more = f" (and {worker.busy - 1} more)" if worker.busy > 1 else ""
    what = f"{first.workflow}.{first.unit} of {first.run_id}"
    return one_line(f"{what} for {coarse(now - first.since)}{more}")
