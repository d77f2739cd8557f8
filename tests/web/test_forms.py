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
from celery_durable.web.bounds import beyond
from celery_durable.web.fields import fields_of
from celery_durable.web.forms import beside, readings, texts_of, value_of
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
        "data.address": "yes",
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


def test_yes_or_no_has_to_be_chosen_where_there_is_no_default() -> None:
    """A box that nobody has looked at would say no."""
    shown = {**texts_of(FIELDS), "data.amount": "1", "data.by": "2026-03-01"}
    assert value_of(FIELDS, shown).errors == {"data.ok": "Choose yes or no."}


def made_of(model: Any, said: dict[str, str] | None = None) -> Any:
    """What the form of a model makes, as it is shown, but for what is `said`."""
    fields = fields_of(json_schema(model))
    shown = {name: text for name, text in texts_of(fields).items() if text}
    filled = value_of(fields, {**shown, **(said or {})})
    assert filled.errors == {}
    return fitted(model, filled.value, "it")


class Inner(BaseModel):
    amount: int = 5


@dataclass
class Lamp:
    """Of watts."""

    watts: int = 5


TEN = datetime(2026, 1, 1, 10, tzinfo=UTC)


class Defaults(BaseModel):
    """Every way to leave a default as it is."""

    none: Inner | None = None
    nine: Inner = Inner(amount=9)
    nine_or_none: Inner | None = Inner(amount=9)
    made: Inner = Field(default_factory=lambda: Inner(amount=9))
    made_or_none: Inner | None = Field(default_factory=lambda: Inner(amount=9))
    words: list[str] = Field(default_factory=lambda: ["a"])
    flag: bool = Field(default_factory=lambda: True)
    yes: bool = True
    no: bool = False
    which: Literal[True, 1, "1", None] = 1  # noqa: PYI061
    letter: Literal["a", "b"] | None = "a"
    odd_lines: list[str] = ["a\nb", "", " c "]
    blank: str = " "
    nothing: str | None = ""
    two_lines: str = "a\r\nb"
    number: float | str = 0.5
    price: Decimal = Decimal("1.10")
    aware: datetime = TEN
    naive: datetime = datetime(2026, 1, 1, 10, 0, 0, 123456)  # noqa: DTZ001
    at: time = time(10, tzinfo=UTC)
    many: dict[str, int] = {"a": 1}
    text_made: str | None = Field(default_factory=lambda: "x")
    lamp: Lamp | None = None


@dataclass
class Dark:
    none: Lamp | None = None
    made: Lamp = with_default(default_factory=lambda: Lamp(9))
    words: list[str] = with_default(default_factory=lambda: ["a"])
    flag: bool = with_default(default_factory=lambda: True)
    which: Literal[True, 1, "1", None] = 1  # noqa: PYI061
    blank: str = " "
    naive: datetime = datetime(2026, 1, 1, 10)  # noqa: DTZ001


@pytest.mark.parametrize("model", [Defaults, Dark])
def test_a_form_that_is_left_alone_makes_what_the_model_does(model: Any) -> None:
    made = made_of(model)
    assert made == model()
    assert made.which is model().which


@dataclass
class Endless:
    rate: float = float("inf")


class EndlessToo(BaseModel):
    rate: float = float("inf")


@pytest.mark.parametrize("model", [Endless, EndlessToo])
def test_a_default_that_json_does_not_have_is_not_told(model: Any) -> None:
    json.dumps(json_schema(model), allow_nan=False)
    assert made_of(model) == model()


def test_what_an_answer_is_can_be_read_with_the_labels_of_the_fields() -> None:
    value = {
        "ok": False,
        "at": "2026-01-01T10:00:00Z",
        "colour": "blue",
        "address": {"street": "Main St", "floor": 2},
        "note": None,
        "secret": "extra",
    }
    assert readings(FIELDS, value) == [
        ("Ok", "no"),
        ("Note", "nothing"),
        ("At", "2026-01-01T10:00:00 UTC"),
        ("Colour", "blue"),
        ("Address: Street", "Main St"),
        ("Address: floor", "2"),
        ("secret", '"extra"'),
    ]
    assert readings(fields_of(None), "yes") == []


def test_what_is_typed_over_a_default_counts() -> None:
    made = made_of(
        Defaults,
        {
            "data.none": "yes",
            "data.nine_or_none": "",
            "data.made": "yes",
            "data.made.amount": "7",
            "data.words": "b",
            "data.flag": "no",
            "data.yes": "",
            "data.no": "yes",
            "data.nothing": "x",
            "data.aware": "2026-01-01T11:00",
            "data.at": "11:00",
        },
    )
    expected = {
        "none": Inner(),
        "nine_or_none": None,
        "made": Inner(amount=7),
        "words": ["b"],
        "flag": False,
        "yes": False,
        "no": True,
        "nothing": "x",
        "aware": TEN.replace(hour=11),
        "at": time(11),
    }
    assert made == Defaults().model_copy(update=expected)


def test_a_time_that_a_browser_writes_in_another_way_is_left_alone() -> None:
    said = {"data.naive": "2026-01-01T10:00"}
    assert made_of(Dark, said).naive == Dark().naive


def test_a_time_is_shown_as_its_control_takes_it() -> None:
    texts = texts_of(fields_of(json_schema(Defaults)))
    assert texts["data.aware"] == "2026-01-01T10:00:00"
    assert texts["data.naive"] == "2026-01-01T10:00:00.123"
    assert texts["data.at"] == "10:00:00"


def test_only_a_decimal_is_a_decimal() -> None:
    kinds = {key: one.kind for key, one in by_name(Defaults).items()}
    assert (kinds["price"], kinds["number"]) == ("decimal", "json")


def test_a_choice_of_what_python_thinks_equal_is_the_one_that_was_chosen() -> None:
    for number, value in enumerate([True, 1, "1"]):
        assert made_of(Defaults, {"data.which": str(number)}).which is value
    assert made_of(Defaults, {"data.which": ""}).which is None


def test_a_group_counts_once_its_box_is_ticked() -> None:
    right = {"data.ok": "no", "data.amount": "1", "data.by": "2026-03-01", "data.rate": "1"}
    right |= {"data.colour": "0", "data.more": "{}", "data.address.street": "Main St"}
    assert "address" not in value_of(FIELDS, right).value  # type: ignore[operator]
    ticked = value_of(FIELDS, {**right, "data.address": "yes", "data.address.city": "Rome"})
    assert ticked.value["address"] == {"street": "Main St", "city": "Rome"}  # type: ignore[index]
    empty = value_of(FIELDS, {**right, "data.address": "yes", "data.address.street": ""})
    assert empty.errors == {"data.address.street": "Fill in a value."}


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("data.amount", "", "Fill in a whole number."),
        ("data.amount", "1.5", "This is no whole number."),
        ("data.rate", "nan", "This is no number."),
        ("data.amount", "1" * 5_000, "This number is too long."),
        ("data.rate", "1" * 5_000, "This number is too long."),
        ("data.price", "1" * 5_000, "This number is too long."),
        ("data.more", "1" * 5_000, "This number is too long."),
        ("data.ok", "perhaps", "Choose yes or no."),
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
        "data.ok": "yes",
        "data.address": "yes",
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


def test_a_key_of_many_digits_is_no_place_in_a_list() -> None:
    assert beside(FIELDS, {f"more.{'9' * 5_000}": "odd"}) == {"data.more": "odd"}


def test_bounds_are_held_without_the_model() -> None:
    class Bound(BaseModel):
        least: int = Field(ge=1)
        most: float = Field(lt=2)
        price: Decimal = Field(gt=0)
        word: str = Field(min_length=2)
        lines: list[int] = Field(max_length=1)
        free: int | None = Field(None, ge=1)
        inner: Inner | None = None

    fields = fields_of(json.loads(json.dumps(json_schema(Bound))))
    said = {"data.least": "0", "data.most": "2", "data.price": "0", "data.word": "a"}
    filled = value_of(fields, {**said, "data.lines": "1\n2"})
    assert filled.errors == {}
    assert beyond(fields, filled.value) == {
        "data.least": "This has to be 1 or more.",
        "data.most": "This has to be less than 2.",
        "data.price": "This has to be more than 0.",
        "data.word": "This has to have 2 characters or more.",
        "data.lines": "This has to have 1 lines or less.",
    }
    right = {"data.least": "1", "data.most": "1.5", "data.price": "1", "data.word": "ab"}
    assert beyond(fields, value_of(fields, {**right, "data.lines": "1"}).value) == {}


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


def in_milliseconds(at: Any) -> Any:
    """The time that a browser can show."""
    return at.replace(microsecond=at.microsecond // 1_000 * 1_000)


MOMENTS = st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)).map(  # noqa: DTZ001
    lambda at: in_milliseconds(at.replace(tzinfo=UTC))
)
KINDS: list[tuple[dict[str, Any], st.SearchStrategy[Any]]] = [
    ({"type": "string"}, WORDS),
    ({"type": "integer"}, st.integers()),
    ({"type": "number"}, NUMBERS),
    ({"type": "boolean"}, st.booleans()),
    ({"type": "string", "format": "date"}, st.dates()),
    ({"type": "string", "format": "time"}, st.times().map(in_milliseconds)),
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
            schema["properties"][key], value[key] = draw(schemas_with_values(depth - 1))
            if draw(st.booleans()):
                schema["required"].append(key)
            continue
        inner, values = draw(st.sampled_from(KINDS))
        found = draw(values)
        is_required = draw(st.booleans())
        if draw(st.booleans()):
            inner, found = {"anyOf": [inner, {"type": "null"}]}, found or None
        schema["properties"][key] = inner
        if is_required:
            schema["required"].append(key)
        if is_required or found not in (None, []):  # an empty field that is left alone says nothing
            value[key] = found
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
