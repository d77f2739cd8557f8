"""The fields of a form -> what they show -> a value. Pure: no request, no template, no database.

`texts_of` says what the fields show for a value, `value_of` makes a value of what was typed,
`beside` puts the faults that a model has found next to their fields. Dates, times, decimals and
UUIDs become the Python values: a dataclass converts nothing. A time is UTC unless it says more.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from celery_durable.web.fields import MISSING, NO, ROOT, YES, Field, Kind


@dataclass(frozen=True, slots=True)
class Filled:
    """What was typed into a form: its value, or the faults by the names of the fields.

    `texts` is what was typed, to be shown again.
    """

    value: object
    errors: Mapping[str, str]
    texts: Mapping[str, str]

    @property
    def is_right(self) -> bool:
        """True if there is a value."""
        return not self.errors


def texts_of(fields: Sequence[Field], value: object = MISSING) -> Mapping[str, str]:
    """Return what the controls show for `value`; without one, the defaults."""
    texts: dict[str, str] = {}
    for one in fields:
        inner = _inner(one, value)
        found = one.default if inner is MISSING else inner
        if one.kind == "group":
            texts |= texts_of(one.fields, found if found is not None else MISSING)
        elif found is not MISSING:
            texts[one.name] = _text_of(one, found)
    return texts


def _inner(one: Field, value: object) -> object:
    if not one.key:
        return value
    return value.get(one.key, MISSING) if isinstance(value, Mapping) else MISSING


def _text_of(one: Field, value: object) -> str:
    match one.kind:
        case _ if value is None and one.kind != "json":
            return ""
        case "boolean":
            return YES if value else NO
        case "choice":
            return str(one.choices.index(value)) if value in one.choices else ""
        case "lines" if isinstance(value, list | tuple):
            return "\n".join(_scalar_text(item) for item in value)
        case "json":
            return "" if value is None and one.is_nullable else _json_text(value)
        case _:
            return _scalar_text(value)


def _scalar_text(value: object) -> str:
    if isinstance(value, datetime):
        if value.tzinfo is not None:
            value = value.astimezone(UTC).replace(tzinfo=None)
        return value.isoformat()
    if isinstance(value, date | time):
        return value.isoformat()
    return repr(value) if isinstance(value, float) else str(value)


def _json_text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)


def value_of(fields: Sequence[Field], form: Mapping[str, Any]) -> Filled:
    """Return the value of what was typed: `form` is text by the names of the fields.

    An empty field is null where it may be; else it is left out, so that its default holds, unless
    it is required, or shows a default.
    """
    errors: dict[str, str] = {}
    texts = {one.name: _plain_lines(str(form.get(one.name) or "")) for one in _controls(fields)}
    value = _values(fields, texts, errors)
    return Filled(value, errors, texts)


def _plain_lines(text: str) -> str:
    """The text with the line ends that a browser sends made one character."""
    return text.replace("\r\n", "\n")


def _controls(fields: Sequence[Field]) -> Iterator[Field]:
    for one in fields:
        if one.kind == "group":
            yield from _controls(one.fields)
        else:
            yield one


def _values(fields: Sequence[Field], texts: Mapping[str, str], errors: dict[str, str]) -> object:
    values: dict[str, object] = {}
    for one in fields:
        found = _value(one, texts, errors)
        if not one.key:
            return None if found is MISSING else found
        if found is not MISSING:
            values[one.key] = found
    return values


def _value(one: Field, texts: Mapping[str, str], errors: dict[str, str]) -> object:
    if one.kind == "group":
        is_blank = not any(texts[inner.name].strip() for inner in _controls(one.fields))
        if is_blank and (one.is_nullable or not one.is_required):
            return None if one.is_nullable else MISSING
        return _values(one.fields, texts, errors)
    text = texts[one.name]
    if one.kind == "boolean" and not one.is_nullable:
        return text not in ("", NO)
    if not text.strip():
        return _value_of_nothing(one, errors)
    try:
        return _FROM_TEXT[one.kind](one, text)
    except ValueError as error:
        errors[one.name] = str(error)
        return MISSING


def _value_of_nothing(one: Field, errors: dict[str, str]) -> object:
    if one.is_nullable:
        return None
    if one.kind == "lines":
        return []
    if one.shows_default and one.kind == "text":
        return ""
    if not one.may_be_left_out:
        errors[one.name] = _NEEDS.get(one.kind, "Fill in a value.")
    return MISSING


_NEEDS: Mapping[Kind, str] = {
    "choice": "Choose one.",
    "integer": "Fill in a whole number.",
    "number": "Fill in a number.",
    "decimal": "Fill in a number.",
    "date": "Fill in a date.",
    "datetime": "Fill in a date and a time.",
    "time": "Fill in a time.",
    "json": "Fill in JSON; null is one.",
}


def _integer(_: Field, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("This is no whole number.") from None


def _number(_: Field, text: str) -> float | int:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise ValueError("This is no number.")
    return int(text) if text.strip().lstrip("+-").isdecimal() else found


def _decimal(_: Field, text: str) -> Decimal:
    try:
        found = Decimal(text.strip())
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


def _moment(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def _chosen(one: Field, text: str) -> object:
    if text.isdecimal() and text.isascii() and int(text) < len(one.choices):
        return one.choices[int(text)]
    raise ValueError("Choose one of these.")


def _lines(one: Field, text: str) -> list[object]:
    found: list[object] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                found.append(_FROM_TEXT[one.item](one, line))
            except ValueError as error:
                raise ValueError(f"Line {number}: {error}") from None
    return found


def _json(_: Field, text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"This is no JSON: {error.msg}, {where}.") from None
    except RecursionError:
        raise ValueError("This is nested too deep.") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"This is no JSON: it has no {name}.")


_FROM_TEXT: Mapping[Kind, Callable[[Field, str], Any]] = {
    "text": lambda _, text: text,
    "integer": _integer,
    "number": _number,
    "decimal": _decimal,
    "uuid": _parsed(UUID, "This is no UUID."),
    "date": _parsed(date.fromisoformat, "This is no date: 2026-01-31 is one."),
    "time": _parsed(time.fromisoformat, "This is no time: 18:30 is one."),
    "datetime": _parsed(_moment, "This is no date and time: 2026-01-31T18:30 is one."),
    "boolean": lambda _, text: text != NO,
    "choice": _chosen,
    "lines": _lines,
    "json": _json,
}


def beside(fields: Sequence[Field], faults: Mapping[str, str]) -> Mapping[str, str]:
    """Return the faults of a model, by paths such as `address.street`, by the names of fields.

    A path below a field, as into a list, is that field's. What is no field's is under "".
    """
    names = {one.name for one in _with_groups(fields)}
    found: dict[str, str] = {}
    for path, fault in faults.items():
        parts = [ROOT, *path.split(".")] if path else [ROOT]
        below: list[str] = []
        while parts and ".".join(parts) not in names:
            below.insert(0, parts.pop())
        name = ".".join(parts)
        # Below a list the place is a number; a choice between types has a word, which says nothing.
        place = ", ".join(f"item {int(part) + 1}" for part in below if part.isdecimal())
        text = f"{place}: {fault}" if place and name else fault
        if not name and below[1:]:
            text = f"{'.'.join(below[1:])}: {fault}"
        found[name] = f"{found[name]} {text}" if name in found else text
    return found


def _with_groups(fields: Sequence[Field]) -> Iterator[Field]:
    for one in fields:
        yield one
        yield from _with_groups(one.fields)
