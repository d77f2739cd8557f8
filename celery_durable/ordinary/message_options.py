"""Refuses options of `apply_async` that Celery, kombu or a worker would choke on.

Their own errors name neither the option nor the task, and some come when the relay publishes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from kombu.compression import get_encoder
from kombu.entity import Exchange, Queue
from kombu.serialization import registry

from celery_durable.errors import ConfigurationError

Check = tuple[str, Callable[[Any], bool]]


def refuse_odd(options: Mapping[str, Any]) -> None:
    """Raise `ConfigurationError` for an option that has no value of its kind; None is left out."""
    for name, (expected, is_right) in OPTIONS.items():
        value = options.get(name)
        if value is not None and not is_right(value):
            raise ConfigurationError(f"{name}= of a task takes {expected}, not {value!r:.80}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_seconds(value: Any) -> bool:
    return _is_number(value) and 0 <= value < float("inf")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_time(value: Any) -> bool:
    """True for a time, and for what `Task.retry` hands on: the text of one."""
    if isinstance(value, str):
        try:
            datetime.fromisoformat(value)
        except ValueError:
            return False
        return True
    return isinstance(value, datetime) or _is_number(value)


def _is_queue(value: Any) -> bool:
    return isinstance(value, str | Queue)


def _is_exchange(value: Any) -> bool:
    return isinstance(value, str | Exchange)


def _are_headers(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_is_text, value))


def _is_serializer(value: Any) -> bool:
    return _is_text(value) and value in registry.name_to_type


def _is_compression(value: Any) -> bool:
    try:
        get_encoder(value)
    except (KeyError, AttributeError, TypeError):
        return False
    return True


_SECONDS: Check = ("a number of seconds", _is_seconds)
_TEXT: Check = ("a string", _is_text)

OPTIONS: Mapping[str, Check] = {
    "headers": ("a mapping of names to values", _are_headers),
    "expires": ("a number of seconds or a datetime", _is_time),
    "time_limit": _SECONDS,
    "soft_time_limit": _SECONDS,
    "task_id": _TEXT,
    "shadow": _TEXT,
    "routing_key": _TEXT,
    "reply_to": _TEXT,
    "queue": ("the name of a queue, or a Queue", _is_queue),
    "exchange": (
        "the name of an exchange, or an Exchange",
        _is_exchange,
    ),
    "serializer": ("the name of a serializer", _is_serializer),
    "compression": ("the name of a compression", _is_compression),
}
