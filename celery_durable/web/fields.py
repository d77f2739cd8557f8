"""Makes the fields of a form of a JSON schema. Pure: no request, no template, no database.

The schema is one that `workflow.schemas.json_schema` makes of a pydantic model or a dataclass. What
has no control of its own, such as a list of objects, is typed as JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Literal

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

    `limits` are the words of the schema that bound the value, such as `minimum`. `choices` are the
    values of a choice; its control's text is the number of one. `item` is the kind of each line of
    `lines`.
    """

    name: str
    key: str
    label: str
    kind: Kind
    is_required: bool = True
    is_nullable: bool = False
    default: object = MISSING
    description: str = ""
    limits: Mapping[str, float] = field(default_factory=dict)
    choices: tuple[object, ...] = ()
    fields: tuple[Field, ...] = ()
    item: Kind = "text"
    input_type: str = "text"

    @property
    def id(self) -> str:
        """The id of the control: a name may hold what ids are parted by."""
        return re.sub(r"[^\w.-]", "_", self.name)

    @property
    def bounds(self) -> Mapping[str, float]:
        """The attributes of the control: `min`, `max`, `minlength`, `maxlength`."""
        return {_ATTRIBUTES[word]: one for word, one in self.limits.items() if word in _ATTRIBUTES}

    @property
    def is_box(self) -> bool:
        """True if it is a box to tick: without a default, one that is left alone would say no."""
        return self.kind == "boolean" and not self.is_nullable and isinstance(self.default, bool)

    @property
    def is_optional_group(self) -> bool:
        """True if it is a group with a box, which has to be ticked for it to count."""
        is_told = self.is_required or self.default is not MISSING
        return self.kind == "group" and (self.is_nullable or not is_told)

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
        return self.is_required and not (self.is_nullable or self.is_box or self.kind == "lines")


_ATTRIBUTES: Mapping[str, str] = {
    "minimum": "min",
    "maximum": "max",
    "minLength": "minlength",
    "maxLength": "maxlength",
}

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
    if kind == "lines" and not _are_lines(found.get("default")):
        kind, more = "json", {}
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


def _are_lines(default: object) -> bool:
    """False for a list that is another one once its texts were written one to a line."""
    texts = [one for one in default if isinstance(one, str)] if isinstance(default, list) else []
    return all(one.strip() and len(one.splitlines()) == 1 for one in texts)


def _without_null(schema: Schema, root: Schema) -> tuple[Schema, bool]:
    """The schema without the alternative null, and whether it had that."""
    choices = schema.get("enum")
    if isinstance(choices, list) and None in choices and len(choices) > 1:
        return {**schema, "enum": [one for one in choices if one is not None]}, True
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
    if schema.get("format") == "decimal":
        return "decimal", {"limits": _limits(schema)}
    if _is_group(schema) and depth < MOST_NESTED and not _holds_itself(schema, root):
        return "group", {"fields": _members(schema, root, name, depth + 1)}
    match schema.get("type"):
        case "boolean":
            return "boolean", {}
        case "string":
            kind, input_type = _FORMATS.get(schema.get("format"), ("text", "text"))
            return kind, {"input_type": input_type, "limits": _limits(schema)}
        case "integer" | "number" as number:
            return _SCALARS[number], {"input_type": "number", "limits": _limits(schema)}
        case "array" if (item := _item_of(schema, root)) is not None:
            return "lines", {"item": item, "limits": _limits(schema)}
        case _:
            return "json", {}


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
    is_scalar = item.get("type") in ("string", "integer", "number")
    if not is_scalar or "enum" in item or "const" in item:
        return None
    kind: Kind = _kind_of(item, root, "", MOST_NESTED)[0]
    return kind


_LIMITS = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("minLength", "maxLength", "minItems", "maxItems"),
)


def _limits(schema: Schema) -> Mapping[str, float]:
    # pydantic's Decimal is a number that has them, or a text.
    for one in (schema, *schema.get("anyOf", ())):
        found = {word: one[word] for word in _LIMITS if isinstance(one.get(word), int | float)}
        if found:
            return found
    return {}
