"""Joining a Celery app."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from celery import Celery

from celery_durable.errors import ConfigurationError
from celery_durable.worker import tasks
from celery_durable.worker.bootsteps import relay_step
from celery_durable.worker.lifecycle import Lifecycle
from celery_durable.worker.limits import limits_step
from celery_durable.worker.reconnect import ForgetLostChannel

if TYPE_CHECKING:
    from celery_durable.durable import Durable


def install(durable: Durable, app: Any) -> None:
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


def refuse_eager(app: Celery) -> None:
    """`ConfigurationError` when tasks would run inside of their caller."""
    if app.conf.task_always_eager:
        raise ConfigurationError(
            "task_always_eager runs tasks inside their caller, before it commits; durable runs need"
            " a worker. Turn it off; celery_durable.testing has a Postgres to test on."
        )


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
