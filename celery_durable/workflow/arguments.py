"""Checks arguments of the builder's methods: each wrong value raises an error that names it.

`owner` is what the argument belongs to, as errors call it: "map 'lines'".
"""

from __future__ import annotations

from celery_durable.arguments import flag_of, whole_of
from celery_durable.errors import InvalidWorkflow, nearest, seconds_of

YEARS = "at most 100 years"
DURATION = f"seconds or a timedelta, not negative and {YEARS}"
TIMEOUT = f"seconds or a timedelta, above 0 and {YEARS}"
FLAG = "True or False"


def wrong(owner: str, name: str, expected: str, value: object) -> InvalidWorkflow:
    """Return the error for a wrong value of the argument `name`."""
    return InvalidWorkflow(f"{owner}: {name}= takes {expected}, not {value!r}.")


def timeout_of(value: object) -> float | None:
    """Return a timeout in seconds; None if `value` is not one, or is 0."""
    return seconds_of(value) or None


def duration(owner: str, name: str, value: object) -> float | None:
    """Return a duration in seconds; None for None."""
    if value is None:
        return None
    seconds = seconds_of(value)
    if seconds is None:
        raise wrong(owner, name, DURATION, value)
    return seconds


def deadline(owner: str, name: str, value: object) -> float | None:
    """Return a duration above 0 in seconds; None for None."""
    seconds = timeout_of(value)
    if seconds is None and value is not None:
        raise wrong(owner, name, TIMEOUT, value)
    return seconds


def count(owner: str, name: str, value: object, highest: int) -> int:
    """Return `value` if it is a whole number from 1 to `highest`."""
    number = whole_of(value, 1, highest)
    if number is None:
        raise wrong(owner, name, f"a whole number from 1 to {highest}", value)
    return number


def flag(owner: str, name: str, value: object) -> bool:
    """Return `value` if it is True or False."""
    checked = flag_of(value)
    if checked is None:
        raise wrong(owner, name, FLAG, value)
    return checked


def choice(owner: str, name: str, value: object, choices: tuple[str, ...]) -> str:
    """Return `value` if it is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        hint = nearest(value, choices) if isinstance(value, str) else ""
        words = " or ".join(map(repr, choices))
        raise InvalidWorkflow(f"{owner}: {name}= takes {words}, not {value!r}.{hint}")
    return value
