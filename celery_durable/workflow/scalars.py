"""Checks values without parts against their types, and reads those that JSON has not from text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, get_args
from uuid import UUID

Faults = Mapping[str, str]


class Misfit(ValueError):
    """A value does not fit its type; `faults` says why, by the paths of its parts."""

    def __init__(self, faults: Faults) -> None:
        super().__init__(faults)
        self.faults = faults


def is_same(one: object, value: object) -> bool:
    """True if they are equal, and of one type: True is not 1."""
    return type(one) is type(value) and one == value


def literal(hint: Any, value: object) -> Any:
    """Return `value` if it is one of a `Literal`'s, or the member of an `Enum` with that value."""
    options = get_args(hint)
    for one in options:
        if is_same(one, value):
            return value
    for one in options:
        if isinstance(one, Enum) and is_same(one.value, value):
            return one
    raise _none_of(options)


def member(kind: type[Enum], value: object) -> Any:
    """Return the member of an `Enum` with this value."""
    for one in kind:
        if is_same(one.value, value):
            return one
    if isinstance(value, bool):  # which is equal to a number
        raise _none_of([*kind])
    try:
        return kind(value)  # a combination of flags, or what its `_missing_` knows
    except ValueError:
        raise _none_of([*kind]) from None


def _none_of(options: Sequence[object]) -> Misfit:
    values = (one.value if isinstance(one, Enum) else one for one in options)
    return Misfit({"": f"This is none of {', '.join(map(repr, values))}"})


def _checked(name: str, is_one: Callable[[Any], bool]) -> Callable[[object], Any]:
    def check(value: object) -> Any:
        if is_one(value):
            return value
        raise Misfit({"": f"This is {name}"})

    return check


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _read(
    name: str,
    is_one: Callable[[Any], bool],
    read: Callable[[str], Any],
    *,
    takes_numbers: bool = False,
) -> Callable[[object], Any]:
    """Make a function that takes instances as they are, and reads others from their text."""

    def fill(value: object) -> Any:
        if is_one(value):
            return value
        try:
            if isinstance(value, str) or (takes_numbers and _is_number(value)):
                return read(str(value))
        except (ValueError, ArithmeticError):
            pass
        raise Misfit({"": f"This is {name}"})

    return fill


def _is_date(value: object) -> bool:
    return isinstance(value, date) and not isinstance(value, datetime)


def _decimal(text: str) -> Decimal:
    found = Decimal(text)
    if not found.is_finite():
        raise ValueError(text)
    return found


SCALARS: Mapping[type, Callable[[object], Any]] = {
    str: _checked("no text", lambda value: isinstance(value, str)),
    bool: _checked("neither true nor false", lambda value: isinstance(value, bool)),
    int: _checked(
        "no whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)
    ),
    float: _checked("no number", _is_number),
    type(None): _checked("not null", lambda value: value is None),
    date: _read("no date", _is_date, date.fromisoformat),
    datetime: _read(
        "no date and time", lambda value: isinstance(value, datetime), datetime.fromisoformat
    ),
    time: _read("no time", lambda value: isinstance(value, time), time.fromisoformat),
    Decimal: _read(
        "no number", lambda value: isinstance(value, Decimal), _decimal, takes_numbers=True
    ),
    UUID: _read("no UUID", lambda value: isinstance(value, UUID), UUID),
}
"""Functions that return a value as one of the type, or raise `Misfit`."""
