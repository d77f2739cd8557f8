"""JSON schema -> the fields of a form -> a value. Pure: no request, no template, no database.

`fields_of` makes fields of a schema, as `workflow.schemas.json_schema` makes it of a pydantic model
or a dataclass. `texts_of` says what the fields show for a value, `value_of` makes a value of what
was typed, `beside` puts the faults that a model has found next to their fields.

What has no control of its own, such as a list of objects, is typed as JSON. Dates, times, decimals
and UUIDs become the Python values: a dataclass converts nothing. A time is UTC unless it says more.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, Literal
from uuid import UUID

Kind = Literal[
    "text",
    "integer",
    "number",
    "decimal",
    "uuid",
    "date",
    "time",
    "datetime",
    "boolean",
    "choice",
    "lines",
    "group",
    "json",
]
"""The control of a field. `lines` is a list of scalars, one to a line; `group` has `fields`."""

ROOT = "data"
"""The name of the form's value; its fields are `data.amount`, `data.address.street`."""

MOST_NESTED = 5
"""Levels of groups; what is nested deeper, or contains itself, is typed as JSON."""

YES, NO = "yes", "no"


class Missing(Enum):
    """The type of `MISSING`."""

    MISSING = "MISSING"


MISSING = Missing.MISSING
"""No default; no value."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a form. `name` is that of its control, `key` that of its value.

    `bounds` are the attributes of the control: `min`, `max`, `minlength`, `maxlength`. `choices`
    are the values of a choice; its control's text is the number of one. `item` is the kind of each
    line of `lines`.
    """

    name: str
    key: str
    label: str
    kind: Kind
    is_required: bool = True
    is_nullable: bool = False
    default: object = MISSING
    description: str = ""
    bounds: Mapping[str, float] = field(default_factory=dict)
    choices: tuple[object, ...] = ()
    fields: tuple[Field, ...] = ()
    item: Kind = "text"
    input_type: str = "text"

    @property
    def id(self) -> str:
        """The id of the control: a name may hold what ids are parted by."""
        return re.sub(r"[^\w.-]", "_", self.name)

    @property
    def shows_default(self) -> bool:
        """True if the control shows a default, which is not meant where it is emptied."""
        return self.default not in (MISSING, None, "")

    @property
    def may_be_left_out(self) -> bool:
        """True if an empty control means null, or nothing."""
        return self.is_nullable or not (self.is_required or self.shows_default)

    @property
    def must_be_filled(self) -> bool:
        """True if an empty control is a fault."""
        return self.is_required and not self.is_nullable and self.kind not in ("boolean", "lines")


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


Schema = Mapping[str, Any]


def fields_of(schema: Schema | None) -> tuple[Field, ...]:
    """Return the fields of a form for values of this schema.

    A schema that is no object with named properties, or None, is one field for JSON, called `data`.
    """
    root = schema or {}
    top = _resolved(root, root)
    if _is_group(top):
        return _members(top, root, ROOT, 1)
    label = str(top.get("title") or "Data")
    return (replace(_field(top, root, ROOT, label, MOST_NESTED), key="", label=label),)


def _members(schema: Schema, root: Schema, name: str, depth: int) -> tuple[Field, ...]:
    required = schema.get("required", ())
    properties: Mapping[str, Any] = schema["properties"]
    # Postgres does not keep the order of an object's names.
    order = [key for key in schema.get("propertyOrder", ()) if key in properties]
    order += [key for key in properties if key not in order]
    return tuple(
        replace(
            _field(properties[key], root, f"{name}.{key}", key, depth),
            key=key,
            is_required=key in required,
        )
        for key in order
    )


def _field(schema: Any, root: Schema, name: str, key: str, depth: int) -> Field:
    found, is_nullable = _without_null(_resolved(schema, root), root)
    # The title of what a reference leads to is the name of a class.
    title = schema.get("title") if isinstance(schema, Mapping) else None
    kind, more = _kind_of(found, root, name, depth)
    return Field(
        name,
        key,
        label=str(title or key.replace("_", " ").capitalize()),
        kind=kind,
        is_nullable=is_nullable,
        default=found.get("default", MISSING),
        description=str(found.get("description") or ""),
        **more,
    )


def _resolved(schema: Any, root: Schema) -> Schema:
    """The schema that `$ref` and a single `allOf` lead to, with what is said beside them."""
    if not isinstance(schema, Mapping):
        return {}
    found: Schema = schema
    for _ in range(MOST_NESTED):
        inner = found.get("$ref") or found.get("allOf")
        if isinstance(inner, str) and inner.startswith("#/"):
            target: Any = root
            for part in inner[2:].split("/"):
                target = target.get(part, {}) if isinstance(target, Mapping) else {}
        elif isinstance(inner, list) and len(inner) == 1:
            target = inner[0]
        else:
            break
        own = {name: one for name, one in found.items() if name not in ("$ref", "allOf")}
        found = {**target, **own} if isinstance(target, Mapping) else own
    return found


def _without_null(schema: Schema, root: Schema) -> tuple[Schema, bool]:
    """The schema without the alternative null, and whether it had that."""
    kinds = schema.get("type")
    if isinstance(kinds, list) and "null" in kinds:
        others = [kind for kind in kinds if kind != "null"]
        return {**schema, "type": others[0] if len(others) == 1 else others}, True
    options = schema.get("anyOf") or schema.get("oneOf")
    if not isinstance(options, list):
        return schema, False
    others = [one for one in options if not _is_null(one)]
    own = {name: one for name, one in schema.items() if name not in ("anyOf", "oneOf")}
    if len(others) == 1:
        return {**_resolved(others[0], root), **own}, len(others) < len(options)
    return {**own, "anyOf": others}, len(others) < len(options)


def _is_null(schema: Any) -> bool:
    return isinstance(schema, Mapping) and schema.get("type") == "null"


_FORMATS: Mapping[object, tuple[Kind, str]] = {
    "date": ("date", "date"),
    "time": ("time", "time"),
    "date-time": ("datetime", "datetime-local"),
    "uuid": ("uuid", "text"),
    "decimal": ("decimal", "text"),
    "email": ("text", "email"),
    "uri": ("text", "url"),
    "password": ("text", "password"),
}

_SCALARS: Mapping[object, Kind] = {"integer": "integer", "number": "number"}


def _kind_of(  # noqa: PLR0911 - a table of cases
    schema: Schema, root: Schema, name: str, depth: int
) -> tuple[Kind, dict[str, Any]]:
    """The control for values of the schema, and what else its field says."""
    if "const" in schema:
        return "choice", {"choices": (schema["const"],)}
    choices = schema.get("enum")
    if isinstance(choices, list) and choices:
        return "choice", {"choices": tuple(choices)}
    if _is_decimal(schema):
        return "decimal", {"bounds": _bounds(schema)}
    if _is_group(schema) and depth < MOST_NESTED and not _holds_itself(schema, root):
        return "group", {"fields": _members(schema, root, name, depth + 1)}
    match schema.get("type"):
        case "boolean":
            return "boolean", {}
        case "string":
            kind, input_type = _FORMATS.get(schema.get("format"), ("text", "text"))
            return kind, {"input_type": input_type, "bounds": _bounds(schema)}
        case "integer" | "number" as number:
            return _SCALARS[number], {"input_type": "number", "bounds": _bounds(schema)}
        case "array" if (item := _item_of(schema, root)) is not None:
            return "lines", {"item": item}
        case _:
            return "json", {}


def _is_decimal(schema: Schema) -> bool:
    """True if it is how pydantic describes a Decimal: a number, or a string that is one."""
    options = schema.get("anyOf")
    if not isinstance(options, list):
        return False
    return sorted(str(one.get("type")) for one in options if isinstance(one, Mapping)) == [
        "number",
        "string",
    ]


def _is_group(schema: Schema) -> bool:
    properties = schema.get("properties")
    return isinstance(properties, Mapping) and bool(properties)


def _holds_itself(schema: Schema, root: Schema) -> bool:
    """True if a property leads back to an object of the same title: a tree has no last field."""
    title = schema.get("title")
    return title is not None and any(one.get("title") == title for one in _below(schema, root))


def _below(schema: Schema, root: Schema, depth: int = 0) -> Iterator[Schema]:
    if depth > MOST_NESTED:
        return
    for one in schema.get("properties", {}).values():
        options = one.get("anyOf", [one]) if isinstance(one, Mapping) else []
        for option in options:
            found = _resolved(option, root)
            if _is_group(found):
                yield found
                yield from _below(found, root, depth + 1)


def _item_of(schema: Schema, root: Schema) -> Kind | None:
    """The kind of each line of a list; None if its items are no scalars that fit on a line."""
    item = _resolved(schema.get("items"), root)
    if item.get("type") not in ("string", "integer", "number") or "enum" in item:
        return None
    kind = _kind_of(item, root, "", MOST_NESTED)[0]
    return kind if kind in _FROM_TEXT else None


_BOUNDS = (
    *(("minimum", "min"), ("maximum", "max")),
    *(("minLength", "minlength"), ("maxLength", "maxlength")),
)


def _bounds(schema: Schema) -> Mapping[str, float]:
    return {
        attribute: schema[word]
        for word, attribute in _BOUNDS
        if isinstance(schema.get(word), int | float)
    }


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
