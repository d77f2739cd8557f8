"""`durable queues`."""

from __future__ import annotations

from datetime import UTC, datetime

import click
from rich.text import Text

from celery_durable.cli.application import durable_of, json_option
from celery_durable.cli.output import Column, Form, Output, Row
from celery_durable.core.fleet import QueueInfo
from celery_durable.view.formatting import coarse, one_line

COLUMNS = (
    Column("queue", fixed=False),
    Column("to publish", right=True),
    Column("published", right=True),
    Column("executing", right=True),
    Column("oldest", right=True),
    Column("later", right=True),
    Column("refused", right=True),
    Column("workers", right=True),
    Column("busy", right=True),
    Column("slots", right=True),
)


@click.command()
@json_option
@click.pass_context
def queues(ctx: click.Context, /, *, as_json: bool) -> None:
    """List queues: what waits for each, since when, and who consumes it.

    "to publish" waits in the outbox for a relay, "published" in the broker for a worker, and
    "later" for its time. Counts stop at 100,000+.
    """
    durable = durable_of(ctx)
    output = Output.of(ctx, as_json=as_json)
    found = durable.queues()
    if output.form is Form.JSON:
        output.document(found)
        return
    now = datetime.now(UTC)
    output.table(COLUMNS, [_row(queue, now) for queue in found], if_empty="No queues.")


def _row(queue: QueueInfo, now: datetime) -> Row:
    waiting = queue.waiting_since
    is_deserted = queue.holds_work and not queue.workers
    return (
        Text(one_line(queue.queue) or "(by the app's routes)"),
        _count(queue, "due", queue.due),
        _count(queue, "published", queue.published),
        _count(queue, "claimed", queue.claimed),
        Text(coarse(now - waiting) if waiting else "", "dim"),
        _count(queue, "later", queue.later),
        Text(f"{queue.refused:,}", "bold red" if queue.refused else ""),
        Text(str(queue.workers), "bold red" if is_deserted else ""),
        Text(str(queue.busy)),
        Text(str(queue.slots)),
    )


def _count(queue: QueueInfo, name: str, count: int) -> Text:
    """`100,000+` where counting stopped."""
    return Text(f"{count:,}{'+' if name in queue.at_least else ''}", "" if count else "dim")
