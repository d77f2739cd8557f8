"""Joins a Celery app."""

from __future__ import annotations

from typing import Any

import click

from celery_durable.errors import ConfigurationError
from celery_durable.worker import remote, tasks
from celery_durable.worker.bootsteps import relay_step
from celery_durable.worker.host import Host
from celery_durable.worker.lifecycle import Lifecycle
from celery_durable.worker.limits import limits_step
from celery_durable.worker.loggers import LogSetup
from celery_durable.worker.reconnect import ForgetLostChannel


def install(durable: Host, app: Any) -> None:
    """Add our tasks, boot steps, routes, signal handlers and the worker's option to the app."""
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
    remote.register()
    app.on_after_configure.connect(_route, weak=False)
    app.on_after_finalize.connect(_route, weak=False)  # routes may be set in between
    if app.configured:
        _route(app)
    lifecycle.connect()
    LogSetup(app).connect()


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
    """Route our tasks to our queue, unless a route of the user's matches first."""
    conf = sender.conf
    routes = conf.task_routes or ()
    found = routes if isinstance(routes, list | tuple) else (routes,)
    theirs = [route for route in found if not isinstance(route, OwnRoute)]
    queue = conf.get("durable_queue") or "durable"
    conf.task_routes = [*theirs, OwnRoute({"durable.*": {"queue": queue}})]
    if "amqp" in vars(sender):  # it may have read the routes already
        sender.amqp.flush_routes()
        sender.amqp.router = sender.amqp.Router()
