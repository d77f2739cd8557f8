"""What the builder's methods are given, checked: each wrong value has an error that names it."""

from __future__ import annotations

from celery_durable.arguments import flag_of, whole_of
from celery_durable.errors import InvalidWorkflow, nearest, seconds_of

YEARS = "at most 100 years"
DURATION = f"seconds or a timedelta, not negative and {YEARS}"
TIMEOUT = f"seconds or a timedelta, above 0 and {YEARS}"
FLAG = "True or False"


def wrong(of: str, name: str, expected: str, value: object) -> InvalidWorkflow:
    """The error for a wrong value of the argument `name`."""
    return InvalidWorkflow(f"{of}: {name}= takes {expected}, not {value!r}.")


def timeout_of(value: object) -> float | None:
    """A time to finish something, in seconds; None if it is not one, or no time at all."""
    return seconds_of(value) or None


def duration(of: str, name: str, value: object) -> float | None:
    """A duration in seconds; None for None."""
    if value is None:
        return None
    seconds = seconds_of(value)
    if seconds is None:
        raise wrong(of, name, DURATION, value)
    return seconds


def count(of: str, name: str, value: object, highest: int) -> int:
    """A whole number from 1 to `highest`; True is none."""
    number = whole_of(value, 1, highest)
    if number is None:
        raise wrong(of, name, f"a whole number from 1 to {highest}", value)
    return number


def flag(of: str, name: str, value: object) -> bool:
    """True or False, and not what is as good as that."""
    checked = flag_of(value)
    if checked is None:
        raise wrong(of, name, FLAG, value)
    return checked


def choice(of: str, name: str, value: object, choices: tuple[str, ...]) -> str:
    """One of the words of `choices`."""
    if not isinstance(value, str) or value not in choices:
        hint = nearest(value, choices) if isinstance(value, str) else ""
        words = " or ".join(map(repr, choices))
        raise InvalidWorkflow(f"{of}: {name}= takes {words}, not {value!r}.{hint}")
    return value
