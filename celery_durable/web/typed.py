"""Reads what was typed into one control. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from celery_durable.web.fields import NO, YES, Field, Kind


def from_text(one: Field, text: str) -> Any:
    """Return the value of a text that is not empty. Raises `ValueError` that says what is wrong."""
    return _READERS[one.kind](one, text)


LONGEST_NUMBER = 1_000
"""Characters; Python reads no number of very many digits, and nobody means one."""


def _number_text(text: str) -> str:
    if len(text.strip()) > LONGEST_NUMBER:
        raise ValueError("This number is too long.")
    return text.strip()


def _integer(_: Field, text: str) -> int:
    digits = _number_text(text)
    try:
        return int(digits)
    except ValueError:
        raise ValueError("This is no whole number.") from None


def _number(_: Field, text: str) -> float | int:
    digits = _number_text(text)
    try:
        found = float(digits)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise ValueError("This is no number.")
    return int(digits) if digits.lstrip("+-").isdecimal() else found


def _decimal(_: Field, text: str) -> Decimal:
    try:
        found = Decimal(_number_text(text))
    except InvalidOperation:
        found = Decimal("nan")
    if not found.is_finite():
        raise ValueError("This is no number.")
    return found


def _parsed(parse: Callable[[str], Any], fault: str) -> Callable[[Field, str], Any]:
    def read(_: Field, text: str) -> Any:
        try:
            return parse(text.strip())
        except ValueError:
            raise ValueError(fault) from None

    return read


def moment_of(text: str) -> datetime:
    """Return a date and time, in UTC unless it says more. Raises `ValueError`."""
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def _chosen(one: Field, text: str) -> object:
    for number, choice in enumerate(one.choices):
        if text == str(number):
            return choice
    raise ValueError("Choose one of these.")


def _yes_or_no(_: Field, text: str) -> bool:
    if text not in (YES, NO):
        raise ValueError("Choose yes or no.")
    return text == YES


def _lines(one: Field, text: str) -> list[object]:
    found: list[object] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                found.append(_READERS[one.item](one, line))
            except ValueError as error:
                raise ValueError(f"Line {number}: {error}") from None
    return found


def _json(_: Field, text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant, parse_int=_int_in_json)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"This is no JSON: {error.msg}, {where}.") from None
    except RecursionError:
        raise ValueError("This is nested too deep.") from None


def _int_in_json(digits: str) -> int:
    return int(_number_text(digits))


def _no_constant(name: str) -> Any:
    raise ValueError(f"This is no JSON: it has no {name}.")


_READERS: Mapping[Kind, Callable[[Field, str], Any]] = {
    "text": lambda _, text: text,
    "integer": _integer,
    "number": _number,
    "decimal": _decimal,
    "uuid": _parsed(UUID, "This is no UUID."),
    "date": _parsed(date.fromisoformat, "This is no date: 2026-01-31 is one."),
    "time": _parsed(time.fromisoformat, "This is no time: 18:30 is one."),
    "datetime": _parsed(moment_of, "This is no date and time: 2026-01-31T18:30 is one."),
    "boolean": _yes_or_no,
    "choice": _chosen,
    "lines": _lines,
    "json": _json,
}
