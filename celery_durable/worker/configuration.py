"""Checks the Celery configuration of an app: takes, refuses or warns of what concerns us."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import Any

from kombu.exceptions import EncodeError, SerializerNotInstalled
from kombu.serialization import dumps, registry

from celery_durable.errors import ConfigurationError
from celery_durable.worker.host import Host

logger = logging.getLogger(__name__)


def serializer_of(conf: Any) -> str | None:
    """Return the serializer of our messages: JSON, or else one that the app accepts, or None.

    Any serializer will do, since our messages carry ids only. An app that accepts only signed
    messages gets signed ones.
    """
    if conf.accept_content is None:
        return "json"
    # `accept_content` holds names or MIME types.
    names = {**registry.type_to_name, **{name: name for name in registry.name_to_type}}
    found = [names[one] for one in conf.accept_content if one in names]
    wanted = [one for one in ("json", conf.task_serializer) if one in found]
    return next(iter([*wanted, *found]), None)


PACKAGES = {"redis": "redis", "rediss": "redis", "sentinel": "redis"}
"""The packages that transports need which say so in other words."""


def refuse_missing_driver(app: Any) -> None:
    """Raise `ConfigurationError` if the package is not installed that a broker's URL needs."""
    for url in (app.conf.broker_read_url, app.conf.broker_write_url, app.conf.broker_url):
        for each in url.split(";") if isinstance(url, str) else (url or ()):
            transport = each.partition("://")[0]
            package = PACKAGES.get(transport)
            if package is not None and find_spec(package) is None:
                raise ConfigurationError(
                    f"The broker's URL begins with {transport}://, and the package {package} is not"
                    f" installed: pip install {package}"
                )


def check_configuration(durable: Host, app: Any) -> None:
    """Raise `ConfigurationError` if no durable step could run; warn of options without effect."""
    refuse_eager(app)
    refuse_missing_driver(app)
    refuse_unreadable_messages(app.conf)
    refuse_undeclared_queues(durable, app)
    warn_of_annotations(app)


def refuse_eager(app: Any) -> None:
    """Raise `ConfigurationError` if runs are executed in their callers."""
    if app.conf.task_always_eager:
        raise ConfigurationError(
            "task_always_eager is set: runs are executed in their callers, which is for tests."
            " Neither a worker nor a relay takes part in that; turn it off."
        )


def refuse_unreadable_messages(conf: Any) -> None:
    """Raise `ConfigurationError` if our messages could not be written, or would be rejected."""
    serializer = serializer_of(conf)
    try:
        if serializer is not None:
            dumps([], serializer)
            return
        why = "this worker would reject every message of a durable run"
    except (EncodeError, SerializerNotInstalled) as error:
        why = f"messages cannot be written: {error}"
    raise ConfigurationError(f"accept_content is {conf.accept_content!r}: {why}. Add 'json' to it.")


def refuse_undeclared_queues(durable: Host, app: Any) -> None:
    """Raise `ConfigurationError` for a queue that could not be published to."""
    if app.conf.task_create_missing_queues:
        return
    undeclared = sorted({durable.settings.queue, *durable.registry.queues()} - {*app.amqp.queues})
    if undeclared:
        raise ConfigurationError(
            f"The workflows of this app need the queues {', '.join(undeclared)}. They are not in"
            " task_queues, and task_create_missing_queues is off. Declare them there."
        )


def warn_of_annotations(app: Any) -> None:
    """Warn once of annotations that name our tasks: they have no effect."""
    named = {
        name
        for name, task in app.tasks.items()
        if name.startswith("durable.")
        for annotation in app.annotations
        if annotation.annotate(task) is not None
    }
    if named:
        logger.warning(
            "task_annotations name %s: they have no effect, durable tasks keep their own options",
            ", ".join(sorted(named)),
        )
