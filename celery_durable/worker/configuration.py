"""What the Celery configuration of an app is to durable steps: taken, refused or warned of."""

from __future__ import annotations

from typing import Any

from kombu.serialization import registry


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
