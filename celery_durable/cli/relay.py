"""`durable relay`."""

from __future__ import annotations

import logging
import signal
from functools import partial
from typing import Any

import click
from celery.bin.base import LOG_LEVEL
from rich.text import Text

from celery_durable.background.relay import Relay
from celery_durable.cli.application import durable_of, json_option
from celery_durable.cli.output import Form, Output
from celery_durable.worker.bootsteps import check_schema
from celery_durable.worker.configuration import check_configuration
from celery_durable.worker.loggers import enable_loggers
from celery_durable.worker.publisher import KombuPublisher, origin_of

logger = logging.getLogger(__name__)


@click.command()
@click.option("-l", "--loglevel", type=LOG_LEVEL, default="INFO", show_default=True)
@json_option
@click.pass_context
def relay(ctx: click.Context, /, *, loglevel: int, as_json: bool) -> None:
    """Publish the outbox until SIGINT or SIGTERM.

    Workers do it too unless they were started with --no-durable-relay; any number may run. Waits
    for a database or broker that is away.
    """
    durable = durable_of(ctx)
    output = Output.of(ctx, as_json=as_json)
    app = ctx.obj.app
    app.log.setup(loglevel=loglevel, redirect_stdouts=False, colorize=not ctx.obj.no_color)
    enable_loggers()
    check_configuration(durable, app)
    check_schema(durable)
    running = Relay(
        durable.database,
        KombuPublisher(app, partial(origin_of, durable.database)),
        durable.settings,
    )
    _stop_on_signals(running)
    broker = app.connection_for_write().as_uri()
    logger.info("The relay publishes schema %r to %s", durable.settings.schema, broker)
    running.run()
    logger.info("The relay ends; it published %d messages", running.published)
    if output.form is Form.JSON:
        output.document({"published": running.published})
    elif output.form is Form.TERMINAL:
        output.lines(Text(f"{running.published} messages published."))


def _stop_on_signals(running: Relay) -> None:
    """Stop the relay in good order on SIGINT or SIGTERM; a second one ends the process at once."""

    def stop(number: int, _: Any) -> None:
        signal.signal(number, signal.SIG_DFL)
        running.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
