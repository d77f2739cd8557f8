"""`durable migrate`."""

from __future__ import annotations

import click
from rich.text import Text
from sqlalchemy.exc import DBAPIError

from celery_durable.cli.application import durable_of, json_option
from celery_durable.cli.output import Output
from celery_durable.database import schema
from celery_durable.durable import Durable
from celery_durable.store.sqlstates import raise_known


@click.command()
@json_option
@click.pass_context
def migrate(ctx: click.Context, /, *, as_json: bool) -> None:
    """Create the tables, or bring them to this release.

    Runs in one transaction; harmless when there is nothing to do, and when several run at once.
    """
    durable = durable_of(ctx)
    output = Output.of(ctx, as_json=as_json)
    before, name = _revision(durable), durable.settings.schema
    durable.migrate()
    after = _revision(durable)
    if before == after:
        text = Text(f"Schema {name!r} is at revision {after} already.")
    else:
        text = Text(f"Schema {name!r} migrated: {before or 'nothing'} -> {after}", "green")
    output.answer({"schema": name, "from": before, "to": after}, text)


def _revision(durable: Durable) -> str | None:
    """The revision of the tables; None where there are none."""
    try:
        with durable.database.engine.connect() as connection:
            return schema.current(connection, durable.settings.schema)
    except DBAPIError as error:
        raise_known(error.orig, durable.settings.schema)
        raise
