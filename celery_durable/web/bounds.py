"""Holds a form's value against the bounds of its schema, where no model can. Pure."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from celery_durable.web.fields import Field

Rules = Mapping[str, tuple[Callable[[Any, Any], bool], str]]

_OF_NUMBERS: Rules = {
    "minimum": (operator.ge, "This has to be {} or more."),
    "maximum": (operator.le, "This has to be {} or less."),
    "exclusiveMinimum": (operator.gt, "This has to be more than {}."),
    "exclusiveMaximum": (operator.lt, "This has to be less than {}."),
}
_OF_TEXTS: Rules = {
    "minLength": (operator.ge, "This has to have {} characters or more."),
    "maxLength": (operator.le, "This has to have {} characters or less."),
}
_OF_LISTS: Rules = {
    "minItems": (operator.ge, "This has to have {} lines or more."),
    "maxItems": (operator.le, "This has to have {} lines or less."),
}


def beyond(fields: Sequence[Field], value: object) -> Mapping[str, str]:
    """Return what is beyond its bounds, by the names of the fields."""
    return dict(_faults(fields, value))


def _faults(fields: Sequence[Field], value: object) -> Iterator[tuple[str, str]]:
    for one in fields:
        inner = value
        if one.key:
            inner = value.get(one.key) if isinstance(value, Mapping) else None
        yield from _faults(one.fields, inner)
        rules, measure = _rules(inner)
        for word, limit in one.limits.items():
            is_within, fault = rules.get(word, (None, ""))
            if is_within is not None and not is_within(measure, limit):
                yield one.name, fault.format(int(limit) if limit == int(limit) else limit)


def _rules(value: object) -> tuple[Rules, object]:
    """The rules for a value, and what they measure."""
    match value:
        case bool():
            return {}, value
        case int() | float() | Decimal():
            return _OF_NUMBERS, value
        case str():
            return _OF_TEXTS, len(value)
        case list():
            return _OF_LISTS, len(value)
        case _:
            return {}, value
