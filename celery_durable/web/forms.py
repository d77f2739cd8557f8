"""The fields of a form -> what they show -> a value. Pure: no request, no template, no database.

`texts_of` says what the fields show for a value, `readings` what the value is, to somebody who is
not to change it; `value_of` makes a value of what was typed,
`beside` puts the faults that a model has found next to their fields. What is left as it was shown
is left out, so that the model's own default holds. A date and time is UTC unless it says more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any

from celery_durable.web.fields import MISSING, NO, ROOT, YES, Field, Kind
from celery_durable.web.typed import from_text, moment_of
from celery_durable.workflow.scalars import is_same


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
            is_there = isinstance(found, Mapping)
            texts[one.name] = YES if is_there else ""
            texts |= texts_of(one.fields, found if is_there else MISSING)
        else:
            texts[one.name] = "" if found is MISSING else _text_of(one, found)
    return texts


def _inner(one: Field, value: object) -> object:
    if not one.key:
        return value
    return value.get(one.key, MISSING) if isinstance(value, Mapping) else MISSING


def _text_of(one: Field, value: object) -> str:  # noqa: PLR0911 - a table of cases
    match one.kind:
        case _ if value is None and (one.kind != "json" or one.is_nullable):
            return ""
        case "boolean":
            return YES if value else NO
        case "choice":
            return next(
                (str(n) for n, other in enumerate(one.choices) if is_same(other, value)), ""
            )
        case "lines" if isinstance(value, list | tuple):
            return "\n".join(_scalar_text(item) for item in value)
        case "json":
            return _json_text(value)
        case "datetime" | "time" if isinstance(value, str):
            return _time_text(one.kind, value)
        case _:
            return _scalar_text(value)


def _time_text(kind: Kind, text: str) -> str:
    """A time as its control takes it: without a zone."""
    parse: Callable[[str], datetime | time] = (
        moment_of if kind == "datetime" else time.fromisoformat
    )
    try:
        return _scalar_text(parse(text))
    except ValueError:
        return text


def _scalar_text(value: object) -> str:
    if isinstance(value, datetime) and value.tzinfo is not None:
        value = value.astimezone(UTC)
    if isinstance(value, datetime | time):
        # A browser knows milliseconds.
        timespec = "milliseconds" if value.microsecond else "seconds"
        return value.replace(tzinfo=None).isoformat(timespec=timespec)
    if isinstance(value, date):
        return value.isoformat()
    return repr(value) if isinstance(value, float) else str(value)


def _json_text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)


def readings(fields: Sequence[Field], value: object) -> Sequence[tuple[str, str]]:
    """Return the parts of a value, each with the label of its field, or with its name without one.

    There are none of a value that is no object.
    """
    found: list[tuple[str, str]] = []
    for one in fields:
        inner = _inner(one, value) if one.key else MISSING
        if one.kind == "group":
            found += [
                (f"{one.label}: {label}", text) for label, text in readings(one.fields, inner)
            ]
        elif inner is not MISSING:
            found.append((one.label, _reading(one, inner)))
    keys = {one.key for one in fields if one.key}
    if isinstance(value, Mapping) and keys:
        found += [(key, _json_text(other)) for key, other in value.items() if key not in keys]
    return found


def _reading(one: Field, value: object) -> str:
    if value is None:
        return "nothing"
    if one.kind == "choice":
        return str(value)
    return _text_of(one, value) + (" UTC" if one.kind == "datetime" else "")


def value_of(fields: Sequence[Field], form: Mapping[str, Any]) -> Filled:
    """Return the value of what was typed: `form` is text by the names of the fields.

    What shows what it did at first is left out, so that its default holds, unless it is required.
    Another empty field is null where it may be.
    """
    errors: dict[str, str] = {}
    texts = {one.name: _typed(one, form) for one in _controls(fields)}
    value = _values(fields, texts, errors)
    return Filled(value, errors, texts)


def _typed(one: Field, form: Mapping[str, Any]) -> str:
    text = _plain_lines(str(form.get(one.name) or ""))
    if one.is_box:  # one that is not ticked is not sent
        return NO if text in ("", NO) else YES
    return text


def _plain_lines(text: str) -> str:
    """The text with the line ends that a browser sends made one character."""
    return text.replace("\r\n", "\n")


def _controls(fields: Sequence[Field]) -> Iterator[Field]:
    """The fields that send a text of their own, as a group does that has a box."""
    for one in fields:
        if one.kind != "group" or one.is_optional_group:
            yield one
        yield from _controls(one.fields)


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
    if not one.is_required and _is_untouched(one, texts):
        return MISSING
    if one.kind == "group":
        if one.is_optional_group and not texts[one.name]:
            return None
        return _values(one.fields, texts, errors)
    text = texts[one.name]
    if not text.strip():
        return _value_of_nothing(one, errors)
    try:
        return from_text(one, text)
    except ValueError as error:
        errors[one.name] = str(error)
        return MISSING


def _is_untouched(one: Field, texts: Mapping[str, str]) -> bool:
    """True if its controls say what they were shown with; if a box says so, what is in it or not.

    A browser may write the same time in another way.
    """
    shown = texts_of((one,))
    if one.is_optional_group and not texts[one.name]:
        return not shown[one.name]
    return all(
        texts[inner.name] == _plain_lines(shown[inner.name])
        or (
            inner.kind in ("datetime", "time")
            and _time_text(inner.kind, texts[inner.name]) == shown[inner.name]
        )
        for inner in _controls((one,))
    )


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
    "boolean": "Choose yes or no.",
    "choice": "Choose one.",
    "integer": "Fill in a whole number.",
    "number": "Fill in a number.",
    "decimal": "Fill in a number.",
    "date": "Fill in a date.",
    "datetime": "Fill in a date and a time.",
    "time": "Fill in a time.",
    "json": "Fill in JSON; null is one.",
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
        place = ", ".join(f"item {int(part) + 1}" for part in below if _is_place(part))
        text = f"{place}: {fault}" if place and name else fault
        if not name and below[1:]:
            text = f"{'.'.join(below[1:])}: {fault}"
        found[name] = f"{found[name]} {text}" if name in found else text
    return found


def _is_place(part: str) -> bool:
    return part.isdecimal() and len(part) < 10  # noqa: PLR2004 - else it is a key of a mapping


def _with_groups(fields: Sequence[Field]) -> Iterator[Field]:
    for one in fields:
        yield one
        yield from _with_groups(one.fields)
