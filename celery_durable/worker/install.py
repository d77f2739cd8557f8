"""Joining a Celery app."""

from __future__ import annotations

from typing import Any

import click

from celery_durable.errors import ConfigurationError
from celery_durable.worker import tasks
from celery_durable.worker.bootsteps import relay_step
from celery_durable.worker.host import Host
from celery_durable.worker.lifecycle import Lifecycle
from celery_durable.worker.limits import limits_step
from celery_durable.worker.reconnect import ForgetLostChannel


def install(durable: Host, app: Any) -> None:
    """Tasks, boot step, routes, signals and the worker's command-line option."""
    if getattr(app, "durable", None) is not None:
        raise ConfigurationError(
            f"The Celery app {app.main!r} has a Durable already; one app has one."
        )
    app.durable = durable
    tasks.register(durable, app)
    lifecycle = Lifecycle(durable, app)
    app.steps["worker"].add(relay_step(durable, lifecycle))
    app.steps["worker"].add(limits_step(durable))
    app.steps["consumer"].add(ForgetLostChannel)
    _add_worker_option(app)
    app.on_after_configure.connect(_route, weak=False)
    app.on_after_finalize.connect(_route, weak=False)  # the routes may have been set since
    if app.configured:
        _route(app)
    lifecycle.connect()


def _add_worker_option(app: Any) -> None:
    app.user_options["worker"].add(
        click.Option(
            ("--durable-relay/--no-durable-relay",),
            default=True,
            help="Publish the outbox of durable runs from this worker.",
        )
    )


class OwnRoute(dict[str, Any]):
    """Our entry among the app's routes."""


def _route(sender: Any, **_: Any) -> None:
    """Our tasks go to our queue, unless the user routes them elsewhere: the first match wins."""
    conf = sender.conf
    routes = conf.task_routes or ()
    found = routes if isinstance(routes, list | tuple) else (routes,)
    theirs = [route for route in found if not isinstance(route, OwnRoute)]
    queue = conf.get("durable_queue") or "durable"
    conf.task_routes = [*theirs, OwnRoute({"durable.*": {"queue": queue}})]
    if "amqp" in vars(sender):  # it has read the routes, or will
        sender.amqp.flush_routes()
        sender.amqp.router = sender.amqp.Router()
