"""What the Celery configuration of an app is to durable steps: taken, refused or warned of."""

from __future__ import annotations

import logging
from typing import Any

from kombu.exceptions import EncodeError, SerializerNotInstalled
from kombu.serialization import dumps, registry

from celery_durable.errors import ConfigurationError
from celery_durable.worker.host import Host

logger = logging.getLogger(__name__)


def serializer_of(conf: Any) -> str | None:
    """The serializer of our messages: JSON, or else one that the app accepts; None if none is.

    They carry ids only, which any serializer can. An app that only takes signed messages gets
    signed ones.
    """
    if conf.accept_content is None:
        return "json"
    # By name or by MIME type, as `accept_content` may have them.
    names = {**registry.type_to_name, **{name: name for name in registry.name_to_type}}
    found = [names[one] for one in conf.accept_content if one in names]
    wanted = [one for one in ("json", conf.task_serializer) if one in found]
    return next(iter([*wanted, *found]), None)


def check_configuration(durable: Host, app: Any) -> None:
    """`ConfigurationError` for what lets no durable step run; a warning of what does not hold."""
    refuse_unreadable_messages(app.conf)
    refuse_undeclared_queues(durable, app)
    warn_of_annotations(app)


def refuse_unreadable_messages(conf: Any) -> None:
    """`ConfigurationError` where no message of ours could be written, or would be taken."""
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
    """`ConfigurationError` for a queue that nothing could be published to."""
    if app.conf.task_create_missing_queues:
        return
    undeclared = sorted({durable.settings.queue, *durable.registry.queues()} - {*app.amqp.queues})
    if undeclared:
        raise ConfigurationError(
            f"The workflows of this app need the queues {', '.join(undeclared)}. They are not in"
            " task_queues, and task_create_missing_queues is off. Declare them there."
        )


def warn_of_annotations(app: Any) -> None:
    """One warning of annotations that name tasks of ours: their options do not hold."""
    named = {
        name
        for name, task in app.tasks.items()
        if name.startswith("durable.")
        for annotation in app.annotations
        if annotation.annotate(task) is not None
    }
    if named:
        logger.warning(
            "task_annotations name %s: durable tasks have options of their own, which they keep",
            ", ".join(sorted(named)),
        )
