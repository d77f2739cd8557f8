"""A JSON schema becomes fields, and what is typed into them a value, or errors beside them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from dataclasses import field as with_default
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, Literal
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, RootModel, field_validator

from celery_durable.errors import PayloadError
from celery_durable.web.fields import fields_of
from celery_durable.web.forms import beside, texts_of, value_of
from celery_durable.workflow.schemas import fitted, json_schema


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    street: str
    city: str = "Berlin"


class Approval(BaseModel):
    """Says whether the order may go out."""

    ok: bool
    amount: int = Field(ge=1, le=100, description="In euros")
    rate: float = 0.5
    price: Decimal | None = None
    note: str | None = None
    by: date
    at: datetime | None = None
    colour: Colour = Colour.RED
    size: Literal["S", "M", 3] | None = None
    lines: list[int] = []
    address: Address | None = None
    more: dict[str, Any] = {}

    @field_validator("note")
    @classmethod
    def is_polite(cls, note: str | None) -> str | None:
        if note == "no":
            raise ValueError("say why")
        return note


@dataclass
class Plain:
    name: str
    due: date
    count: int = 3
    price: Decimal | None = None
    ref: UUID | None = None
    start: time | None = None
    colour: Colour = Colour.RED
    words: list[str] = with_default(default_factory=list)


FIELDS = fields_of(json_schema(Approval))


def by_name(model: Any) -> dict[str, Any]:
    return {one.key: one for one in fields_of(json_schema(model))}


def test_each_type_of_a_model_has_its_control() -> None:
    kinds = {one.key: one.kind for one in FIELDS}
    assert kinds == {
        "ok": "boolean",
        "amount": "integer",
        "rate": "number",
        "price": "decimal",
        "note": "text",
        "by": "date",
        "at": "datetime",
        "colour": "choice",
        "size": "choice",
        "lines": "lines",
        "address": "group",
        "more": "json",
    }


def test_a_dataclass_has_the_controls_of_its_types() -> None:
    kinds = {key: one.kind for key, one in by_name(Plain).items()}
    assert kinds == {
        "name": "text",
        "due": "date",
        "count": "integer",
        "price": "decimal",
        "ref": "uuid",
        "start": "time",
        "colour": "choice",
        "words": "lines",
    }


def test_fields_come_in_the_order_of_the_model_after_postgres_has_sorted_its_names() -> None:
    stored = json.loads(json.dumps(json_schema(Approval), sort_keys=True))
    assert [one.key for one in fields_of(stored)] == list(Approval.model_fields)


def test_a_field_has_its_models_description_bounds_and_default() -> None:
    fields = by_name(Approval)
    assert fields["amount"].description == "In euros"
    assert fields["amount"].bounds == {"min": 1, "max": 100}
    assert fields["colour"].label == "Colour"
    assert texts_of(FIELDS)["data.rate"] == "0.5"
    assert texts_of(FIELDS)["data.colour"] == "0"


def test_what_is_typed_becomes_a_value_that_fits_the_model() -> None:
    typed = {
        "data.ok": "yes",
        "data.amount": "7",
        "data.rate": "0.25",
        "data.price": "19.90",
        "data.by": "2026-03-01",
        "data.at": "2026-03-01T12:30",
        "data.colour": "1",
        "data.size": "2",
        "data.lines": "1\r\n2\r\n\r\n",
        "data.address.street": "Main St",
        "data.address.city": "Rome",
        "data.more": '{"a": [1]}',
    }
    filled = value_of(FIELDS, typed)
    assert filled.is_right
    assert fitted(Approval, filled.value, "it") == Approval(
        ok=True,
        amount=7,
        rate=0.25,
        price=Decimal("19.90"),
        note=None,
        by=date(2026, 3, 1),
        at=datetime(2026, 3, 1, 12, 30, tzinfo=UTC),
        colour=Colour.BLUE,
        size=3,
        lines=[1, 2],
        address=Address(street="Main St", city="Rome"),
        more={"a": [1]},
    )


def test_a_box_that_is_not_ticked_is_false() -> None:
    assert value_of(fields_of(json_schema(Approval)), {}).value["ok"] is False  # type: ignore[index]


def test_a_group_that_is_left_empty_is_null_where_it_may_be() -> None:
    filled = value_of(FIELDS, {"data.amount": "1", "data.by": "2026-03-01"})
    assert filled.value["address"] is None  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("data.amount", "", "Fill in a whole number."),
        ("data.amount", "1.5", "This is no whole number."),
        ("data.rate", "nan", "This is no number."),
        ("data.rate", "", "Fill in a number."),
        ("data.price", "sNaN", "This is no number."),
        ("data.by", "1.3.2026", "This is no date: 2026-01-31 is one."),
        ("data.at", "noon", "This is no date and time: 2026-01-31T18:30 is one."),
        ("data.colour", "7", "Choose one of these."),
        ("data.colour", "²", "Choose one of these."),
        ("data.lines", "1\nx", "Line 2: This is no whole number."),
        ("data.more", "{", "This is no JSON: Expecting property name enclosed in double quotes,"),
        ("data.more", "NaN", "This is no JSON: it has no NaN."),
        ("data.more", "[" * 100_000, "This is nested too deep."),
        ("data.address.street", " ", "Fill in a value."),
    ],
)
def test_a_wrong_text_is_refused_beside_its_field_and_kept(
    name: str, text: str, error: str
) -> None:
    right = {
        "data.amount": "7",
        "data.rate": "1",
        "data.by": "2026-03-01",
        "data.colour": "0",
        "data.more": "{}",
        "data.address.street": "Main St",
        "data.address.city": "Rome",
    }
    filled = value_of(FIELDS, right | {name: text})
    assert not filled.is_right
    assert list(filled.errors) == [name]
    assert filled.errors[name].startswith(error)
    assert filled.texts[name] == text


def test_what_the_model_refuses_stands_beside_its_field() -> None:
    value = {
        "ok": True,
        "amount": 0,
        "note": "no",
        "lines": [1, "x"],
        "address": {"city": 5},
        "by": date(2026, 1, 1),
    }
    with pytest.raises(PayloadError) as refused:
        fitted(Approval, value, "it")
    errors = beside(FIELDS, refused.value.fields)
    assert errors["data.amount"] == "Input should be greater than or equal to 1"
    assert errors["data.note"] == "Value error, say why"
    assert errors["data.lines"].startswith("item 2: Input should be a valid integer")
    assert errors["data.address.street"] == "Field required"
    assert "data.address.city" in errors


def test_a_fault_of_no_field_is_the_forms() -> None:
    assert beside(FIELDS, {"": "these two do not go together"}) == {
        "": "these two do not go together"
    }
    assert beside(FIELDS, {"extra": "Extra inputs are not permitted"}) == {
        "": "extra: Extra inputs are not permitted"
    }


def test_a_dataclass_names_what_it_lacks_and_what_it_has_not() -> None:
    with pytest.raises(PayloadError) as refused:
        fitted(Plain, {"name": "x", "colour": "red", "size": 1}, "The data of 'a'")
    assert refused.value.fields == {"due": "Field required", "size": "There is no such field"}
    assert str(refused.value) == (
        "The data of 'a' is not a Plain: due: Field required; size: There is no such field"
    )


@pytest.mark.parametrize(
    "schema", [None, {}, {"title": "Word", "type": "string"}, {"type": "object"}]
)
def test_any_other_schema_is_one_field(schema: dict[str, Any] | None) -> None:
    (only,) = fields_of(schema)
    assert only.name == "data"
    assert only.key == ""
    text = "word" if only.kind == "text" else '{"a": 1}'
    expected = "word" if only.kind == "text" else {"a": 1}
    assert value_of((only,), {"data": text}).value == expected


def test_a_root_model_is_typed_as_its_root() -> None:
    class Numbers(RootModel[list[int]]):
        pass

    fields = fields_of(json_schema(Numbers))
    filled = value_of(fields, {"data": "1\n2"})
    assert fitted(Numbers, filled.value, "it") == Numbers([1, 2])


class Tree(BaseModel):
    name: str
    left: Tree | None = None
    twigs: list[Tree] = []


def test_what_contains_itself_is_typed_as_json() -> None:
    fields = fields_of(json_schema(Tree))
    assert [one.kind for one in fields] == ["text", "json", "json"]
    typed = {"data.name": "a", "data.left": '{"name": "b"}', "data.twigs": "[]"}
    filled = value_of(fields, typed)
    assert fitted(Tree, filled.value, "it") == Tree(name="a", left=Tree(name="b"))


@pytest.mark.parametrize("item", [Literal["a"], Literal["a", "b"]])
def test_a_list_of_given_values_is_typed_as_json(item: Any) -> None:
    (only,) = fields_of(json_schema(RootModel[list[item]]))
    assert value_of((only,), {"data": '["a"]'}).value == ["a"]


WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1).filter(
    lambda text: text.strip() != ""
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
MOMENTS = st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)).map(  # noqa: DTZ001
    lambda at: at.replace(tzinfo=UTC)
)
KINDS: list[tuple[dict[str, Any], st.SearchStrategy[Any]]] = [
    ({"type": "string"}, WORDS),
    ({"type": "integer"}, st.integers()),
    ({"type": "number"}, NUMBERS),
    ({"type": "boolean"}, st.booleans()),
    ({"type": "string", "format": "date"}, st.dates()),
    ({"type": "string", "format": "time"}, st.times()),
    ({"type": "string", "format": "date-time"}, MOMENTS),
    ({"type": "string", "format": "uuid"}, st.just(uuid4())),
    ({"type": "string", "format": "decimal"}, st.decimals(allow_nan=False, allow_infinity=False)),
    ({"enum": ["a", "1", 1, None, 2.5]}, st.sampled_from(["a", "1", 2.5])),
    ({"type": "array", "items": {"type": "integer"}}, st.lists(st.integers())),
    (
        {"type": "array", "items": {"type": "object"}},
        st.lists(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers())),
    ),
]


@st.composite
def schemas_with_values(draw: st.DrawFn, depth: int = 2) -> tuple[dict[str, Any], dict[str, Any]]:
    """An object schema, and a value that fits it."""
    schema: dict[str, Any] = {"type": "object", "properties": {}, "required": []}
    value: dict[str, Any] = {}
    for number in range(draw(st.integers(1, 5))):
        key = f"field_{number}"
        if depth and draw(st.booleans()):
            # One that may be left out is left out when all its fields are empty.
            schema["properties"][key], value[key] = draw(schemas_with_values(depth - 1))
            schema["required"].append(key)
            continue
        inner, values = draw(st.sampled_from(KINDS))
        found = draw(values)
        if draw(st.booleans()):
            schema["required"].append(key)
        if draw(st.booleans()):
            inner, found = {"anyOf": [inner, {"type": "null"}]}, found or None
        schema["properties"][key], value[key] = inner, found
    return schema, value


@given(schemas_with_values())
def test_a_value_that_is_shown_and_sent_again_is_the_same(
    given: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    schema, value = given
    fields = fields_of(schema)
    filled = value_of(fields, texts_of(fields, value))
    assert filled.errors == {}
    assert filled.value == value


@given(st.dictionaries(st.sampled_from([one.name for one in FIELDS] + ["x"]), st.text()))
def test_whatever_is_typed_is_a_value_or_an_error(typed: dict[str, str]) -> None:
    filled = value_of(FIELDS, typed)
    assert set(filled.errors) <= {one.name for one in FIELDS} | {
        "data.address.street",
        "data.address.city",
    }
