"""A dataclass is filled from plain values as its types say, or what does not fit is named."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, asdict, dataclass, field, make_dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from enum import Enum, IntEnum
from typing import Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic.dataclasses import dataclass as pydantic_dataclass

from celery_durable.errors import PayloadError
from celery_durable.workflow.filling import filled
from celery_durable.workflow.schemas import fitted, json_schema


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Size(IntEnum):
    SMALL = 1
    LARGE = 2


@dataclass
class Address:
    street: str
    number: int | None = None


@dataclass
class Line:
    sku: str
    price: Decimal


class Parcel(BaseModel):
    weight: int


@dataclass
class Order:
    """What is ordered."""

    color: Color
    address: Address
    price: Decimal
    deliver_on: date
    lines: list[Line]
    at: datetime | None = None
    time: time | None = None
    id: UUID | None = None
    size: Size = Size.SMALL
    way: Literal["post", "bike", 7, True] = "post"
    billing: Address | None = None
    tags: tuple[str, ...] = ()
    pair: tuple[int, str] = (1, "a")
    colors: frozenset[Color] = frozenset()
    stock: Mapping[str, Decimal] = field(default_factory=dict)
    by_number: dict[int, Color] = field(default_factory=dict)
    words: Sequence[str] = ()
    rate: float = 0.5
    is_gift: bool = False
    amount: Decimal | str = "none"
    parcel: Parcel | None = None
    more: Any = None


PLAIN: dict[str, Any] = {
    "color": "red",
    "address": {"street": "Main St"},
    "price": "1.50",
    "deliver_on": "2026-03-01",
    "lines": [{"sku": "A1", "price": "2"}],
}


def fit(value: object, model: Any = Order) -> Any:
    return fitted(model, value, "It")


def refused(value: object, model: Any = Order) -> Mapping[str, str]:
    with pytest.raises(PayloadError) as error:
        fit(value, model)
    return error.value.fields


def test_a_dataclass_is_filled_from_json() -> None:
    assert fit(PLAIN) == Order(
        color=Color.RED,
        address=Address("Main St"),
        price=Decimal("1.50"),
        deliver_on=date(2026, 3, 1),
        lines=[Line("A1", Decimal(2))],
    )


def test_what_does_not_fit_is_named_by_its_path_all_at_once() -> None:
    wrong = {
        "color": "green",
        "address": {"street": 7, "town": "Rome"},
        "price": "much",
        "deliver_on": datetime(2026, 3, 1, tzinfo=UTC),
        "lines": [{"sku": "A1", "price": "2"}, {"price": True}],
        "billing": {"street": "x", "number": "7"},
        "size": True,
        "way": 1,
        "pair": [1],
        "stock": {"a": "x"},
        "is_gift": 1,
        "rate": False,
        "words": "abc",
        "parcel": {"weight": "heavy"},
    }
    assert refused(wrong) == {
        "color": "This is none of 'red', 'blue'",
        "address.street": "This is no text",
        "address.town": "There is no such field",
        "price": "This is no number",
        "deliver_on": "This is no date",
        "lines.1.sku": "Field required",
        "lines.1.price": "This is no number",
        "billing.number": "This is no whole number",
        "size": "This is none of 1, 2",
        "way": "This is none of 'post', 'bike', 7, True",
        "pair": "This is no list of 2",
        "stock.a": "This is no number",
        "is_gift": "This is neither true nor false",
        "rate": "This is no number",
        "words": "This is no list",
        "parcel.weight": "Input should be a valid integer, unable to parse string as an integer",
    }


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (list[int], [1, 2]),
        (tuple[int, ...], (1,)),
        (Mapping[str, int], {"a": 1}),
        (set[str] | None, {"a"}),
        (Address, Address("x")),
        (date | str, "2026-03-01"),
        (float, 7),
        (int | float, 0.5),
        (Address | dict[str, Any], {"street": "x"}),
        (Any, {"street": "x"}),
        (object, [1]),
    ],
)
def test_what_is_right_stays_the_very_same(hint: Any, value: Any) -> None:
    assert filled(hint, value) is value


@pytest.mark.parametrize(
    ("hint", "value", "expected"),
    [
        (date | int, "2026-03-01", date(2026, 3, 1)),
        (Decimal, 1.1, Decimal("1.1")),
        (Line | Address, {"street": "x"}, Address("x")),
        (frozenset[int], [1, 1], frozenset({1})),
        (dict[int, Color], {"7": "red"}, {7: Color.RED}),
        (Literal[Color.RED], "red", Color.RED),
        (list[Address | None], [None, {"street": "x"}], [None, Address("x")]),
        (datetime, "2026-01-01T10:00:00Z", datetime(2026, 1, 1, 10, tzinfo=UTC)),
    ],
)
def test_a_value_becomes_one_of_the_type(hint: Any, value: Any, expected: Any) -> None:
    assert filled(hint, value) == expected
    assert type(filled(hint, value)) is type(expected)


def test_a_default_stays_what_the_model_says() -> None:
    made = fit(PLAIN)
    assert made.size is Size.SMALL
    assert made.stock == {}


class NoMessage(Exception):
    def __str__(self) -> str:
        raise AttributeError("lost")


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (AssertionError(), "AssertionError"),
        (AssertionError("too few"), "AssertionError: too few"),
        (ValueError("too few"), "too few"),
        (InvalidOperation("x"), "InvalidOperation: x"),
        (KeyError("x"), "KeyError: 'x'"),
        (NoMessage(), "NoMessage"),
    ],
)
def test_whatever_a_model_raises_is_a_misfit(error: Exception, fault: str) -> None:
    @dataclass
    class Checked:
        amount: int

        def __post_init__(self) -> None:
            raise error

    outer = make_dataclass("Outer", [("inner", Checked | None)])
    assert refused({"amount": 1}, Checked) == {"": fault}
    assert refused({"inner": {"amount": 1}}, outer) == {"inner": fault}


def test_a_model_of_pydantic_that_raises_is_a_misfit() -> None:
    class Odd(BaseModel):
        amount: int

        def model_post_init(self, _: Any) -> None:
            raise AttributeError("no such thing")

    assert refused({"amount": 1}, Odd) == {"": "AttributeError: no such thing"}


def test_a_dataclass_of_pydantic_converts_as_pydantic_does() -> None:
    @pydantic_dataclass
    class Lax:
        amount: int

    assert fit({"amount": "7"}, Lax) == Lax(amount=7)
    assert set(refused({"amount": "x"}, Lax)) == {"amount"}


def test_what_only_init_takes_is_filled_too() -> None:
    @dataclass
    class Sealed:
        word: InitVar[Color]
        kept: str = field(init=False)

        def __post_init__(self, word: Color) -> None:
            self.kept = word.value

    assert fit({"word": "red"}, Sealed).kept == "red"
    assert refused({"word": "red", "kept": "x"}, Sealed) == {"kept": "There is no such field"}


@dataclass
class Partly:
    ghost: Nowhere  # type: ignore[name-defined] # noqa: F821
    color: Color


@dataclass
class PartlyToo(Partly):
    due: date


def test_a_type_that_is_not_found_takes_whatever_comes_and_the_others_hold() -> None:
    made = fit({"ghost": 7, "color": "red", "due": "2026-03-01"}, PartlyToo)
    assert made == PartlyToo(7, Color.RED, date(2026, 3, 1))
    assert refused({"ghost": 7, "color": "x", "due": 1}, PartlyToo).keys() == {"color", "due"}
    assert json_schema(PartlyToo)["properties"]["ghost"] == {}  # type: ignore[index]


@dataclass
class Tree:
    name: str
    twigs: list[Tree] = field(default_factory=list)


def test_a_value_that_is_nested_too_deep_is_a_misfit() -> None:
    value: dict[str, Any] = {"name": "leaf"}
    for _ in range(10_000):
        value = {"name": "twig", "twigs": [value]}
    with pytest.raises(PayloadError):
        fit(value, Tree)


WORDS = st.text(max_size=5)
NUMBERS = st.decimals(allow_nan=False, allow_infinity=False)
ADDRESSES = st.builds(Address, WORDS, st.none() | st.integers())
ORDERS = st.builds(
    Order,
    color=st.sampled_from(Color),
    address=ADDRESSES,
    price=NUMBERS,
    deliver_on=st.dates(),
    lines=st.lists(st.builds(Line, WORDS, NUMBERS), max_size=3),
    at=st.none() | st.datetimes() | st.datetimes(timezones=st.just(UTC)),
    time=st.none() | st.times(),
    id=st.none() | st.uuids(),
    size=st.sampled_from(Size),
    way=st.sampled_from(["post", "bike", 7, True]),
    billing=st.none() | ADDRESSES,
    tags=st.lists(WORDS, max_size=3).map(tuple),
    pair=st.tuples(st.integers(), WORDS),
    colors=st.frozensets(st.sampled_from(Color)),
    stock=st.dictionaries(WORDS, NUMBERS, max_size=3),
    by_number=st.dictionaries(st.integers(), st.sampled_from(Color), max_size=3),
    words=st.lists(WORDS, max_size=3),
    rate=st.floats(allow_nan=False, allow_infinity=False),
    is_gift=st.booleans(),
    amount=st.just("none"),
    parcel=st.none(),
    more=st.none() | st.lists(st.integers(), max_size=2),
)


def as_text(value: object) -> object:
    """What JSON has no word for."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, frozenset):
        return [one.value for one in value]
    return value.isoformat() if isinstance(value, date | datetime | time) else str(value)


@given(ORDERS)
def test_an_instance_comes_back_from_its_json(order: Order) -> None:
    assert fit(json.loads(json.dumps(asdict(order), default=as_text))) == order
    parts = {name: getattr(order, name) for name in order.__dataclass_fields__}
    again = fit(parts)
    assert all(getattr(again, name) is one for name, one in parts.items())


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.sampled_from(["red", "1"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*json_schema(Order)["properties"], "x"]), ANYTHING))  # type: ignore[index]
def test_anything_is_filled_or_refused_beneath_its_fields(given: dict[str, Any]) -> None:
    faults: Mapping[str, str] = {}
    try:
        made = fit({**PLAIN, **given})
    except PayloadError as error:
        faults = error.fields
    assert {path.partition(".")[0] for path in faults} <= {*given}
    if not faults:
        assert isinstance(made.color, Color)
        assert isinstance(made.address, Address)
        assert isinstance(made.price, Decimal)
        assert all(isinstance(line, Line) for line in made.lines)
