"""Values <-> JSON text: what can be stored comes back as it was."""

import importlib
import json
from collections import OrderedDict
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_durable.store import codec
from tests.unit import shapes
from tests.unit.shapes import (
    Address,
    AddressOfAnOlderRelease,
    Color,
    Customer,
    Extensible,
    Invoice,
    Level,
    Line,
    Money,
    MoneyOfAnOlderRelease,
    Order,
    Outer,
    Point,
    Prices,
    Secretive,
    Shouting,
    Size,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
zones = st.none() | st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m)))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
    st.datetimes(timezones=zones),
    st.dates(),
    st.times(timezones=zones),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
)
keys = texts | st.sampled_from(["__type__", "__value__", "class", "state"])
money = st.builds(Money, st.decimals(allow_nan=False), texts)
lines = st.builds(Line, texts, money, st.dictionaries(keys, scalars, max_size=3))
addresses = st.builds(Address, texts, st.none() | texts)
customers = st.builds(Customer.model_construct, name=texts, address=addresses)
values = st.recursive(
    scalars | money | lines | customers,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


def written(value: object) -> str:
    return codec.dumps(value, what="the result of charge", limit=100_000)


def returned(value: object) -> Any:
    return codec.loads(written(value))


@given(values)
def test_every_value_that_can_be_stored_comes_back_as_it_was(value: object) -> None:
    back = returned(value)
    assert back == value
    assert type(back) is type(value)
    assert written(back) == written(value)


@given(values)
def test_what_is_stored_is_plain_json(value: object) -> None:
    json.loads(written(value), parse_constant=pytest.fail)


@pytest.mark.parametrize("number", [1.0, 1e16, -0.0, 1e-7, 1.7976931348623157e308, 5e-324])
def test_a_float_stays_a_float(number: float) -> None:
    assert repr(returned(number)) == repr(number)


@pytest.mark.parametrize("number", [0, True, 2**53 + 1, -(10**400)])
def test_a_whole_number_stays_exact(number: int) -> None:
    assert returned(number) == number
    assert type(returned(number)) is type(number)


@pytest.mark.parametrize("number", ["1.00", "0E-10", "NaN", "Infinity", "-0"])
def test_a_decimal_keeps_its_digits(number: str) -> None:
    assert str(returned(Decimal(number))) == number


def test_a_time_keeps_its_offset_and_a_naive_one_has_none() -> None:
    offset = timezone(timedelta(hours=5, minutes=45))
    assert returned(NOON.astimezone(offset)).utcoffset() == timedelta(hours=5, minutes=45)
    assert returned(datetime(2026, 3, 1)).tzinfo is None  # noqa: DTZ001
    assert returned(time(12, tzinfo=offset)).utcoffset() == timedelta(hours=5, minutes=45)
    assert type(returned(date(2026, 3, 1))) is date


def test_keys_keep_their_order() -> None:
    assert list(returned({"b": 1, "a": 2, "c": {"z": 1, "y": 2}})) == ["b", "a", "c"]
    tagged = returned({"b": 1, "__type__": "x", "a": {"z": 1, "__type__": 2, "y": 3}})
    assert list(tagged) == ["b", "__type__", "a"]
    assert list(tagged["a"]) == ["z", "__type__", "y"]


@pytest.mark.parametrize(
    "own",
    [
        {"__type__": "datetime", "__value__": "2026-03-01"},
        {"__type__": "dataclass", "__value__": {"class": "os:system", "state": {}}},
        {"__type__": "mapping", "__value__": [["a", 1]]},
        {"__type__": None},
        {"__value__": 1},
        {"a": [{"__type__": "uuid", "__value__": {"hex": "no"}}]},
        ["__type__"],
        "__type__",
    ],
)
def test_a_users_own_value_that_looks_like_a_tag_comes_back_as_it_was(own: object) -> None:
    assert returned(own) == own


def test_a_tag_that_nobody_knows_comes_back_as_it_stands() -> None:
    assert codec.loads('{"__type__": "x", "__value__": 1}') == {"__type__": "x", "__value__": 1}


def test_tuples_come_back_as_lists() -> None:
    assert returned((1, (2, 3), Point(4, 5))) == [1, [2, 3], [4, 5]]


def test_other_mappings_come_back_as_dicts() -> None:
    assert returned(OrderedDict(b=1, a=2)) == {"b": 1, "a": 2}
    assert returned(MappingProxyType({"a": UUID(int=1)})) == {"a": UUID(int=1)}


def test_none_is_a_value_and_nothing_stored_is_none() -> None:
    assert written(None) == "null"
    assert codec.loads("null") is None
    assert codec.loads(None) is None


@pytest.mark.parametrize(
    ("value", "plain"),
    [(Level.HIGH, 3), (Size.LARGE, "large"), (Color.RED, "red"), (Shouting("low"), "low")],
    ids=lambda value: type(value).__name__,
)
def test_a_kind_of_str_or_int_comes_back_as_the_value_it_holds(
    value: object, plain: object
) -> None:
    assert returned(value) == value == plain
    assert type(returned(value)) is type(plain)
    assert returned({"in": [value]}) == {"in": [plain]}


def test_a_kind_of_str_as_a_key_comes_back_as_the_value_it_holds() -> None:
    assert returned({Size.LARGE: 1}) == {"large": 1}
    assert returned({Color.RED: 1}) == {"red": 1}


LINE = Line("A1", Money(Decimal("9.90")), {"gift": True, "at": NOON})
CUSTOMER = Customer(fullName="Ada", address=Address("Main St"))
OBJECTS: list[object] = [
    Address("Main St", None),
    LINE,
    Order(lines=[LINE, LINE], to=Address("Main St"), placed_at=NOON),
    Outer.Inner(3),
    CUSTOMER,
    Invoice(customer=CUSTOMER, total=Money(Decimal(1)), due=NOON, notes=[CUSTOMER]),
    Prices({"A1": Decimal("9.90")}),
    Extensible.model_validate({"name": "Ada", "nick": "A", "since": NOON}),
    Secretive(name="Ada"),
]


@pytest.mark.parametrize("value", OBJECTS, ids=lambda value: type(value).__name__)
def test_dataclasses_and_pydantic_models_come_back_equal(value: object) -> None:
    back = returned({"in": [value]})["in"][0]
    assert back == value
    assert type(back) is type(value)


def test_a_pydantic_model_still_knows_which_fields_were_set() -> None:
    invoice = Invoice(customer=CUSTOMER, total=Money(Decimal(1)))
    assert returned(invoice).model_fields_set == invoice.model_fields_set


def test_a_private_attribute_of_a_pydantic_model_can_be_used_again() -> None:
    assert returned(Secretive(name="Ada"))._seen == 0


def test_a_model_is_not_validated_again() -> None:
    unchecked = Customer.model_construct(name=7, address=None)
    assert returned(unchecked) == unchecked


@pytest.mark.parametrize("gone", ["tests.unit.no_module:Address", "tests.unit.shapes:NoClass"])
def test_an_object_of_a_class_that_cannot_be_imported_comes_back_as_its_plain_state(
    gone: str,
) -> None:
    text = written(Line("A1", Money(Decimal(1)))).replace("tests.unit.shapes:Line", gone)
    assert gone in text
    assert codec.loads(text) == {"sku": "A1", "price": Money(Decimal(1)), "tags": {}}


@pytest.mark.parametrize("now", ["tests.unit.shapes:Level", "os:system", "tests.unit.shapes:field"])
def test_only_dataclasses_and_models_are_made_of_what_is_stored(now: str) -> None:
    text = written(Address("Main St")).replace("tests.unit.shapes:Address", now)
    assert now in text
    assert codec.loads(text) == {"street": "Main St", "zip": None}


def test_a_field_that_was_added_since_has_its_default() -> None:
    older = written(AddressOfAnOlderRelease("Main St"))
    assert codec.loads(older.replace("AddressOfAnOlderRelease", "Address")) == Address("Main St")


def test_a_field_with_a_default_factory_that_was_added_since_has_its_default() -> None:
    older = written(Line("A1", Money(Decimal(1)))).replace(',"tags":{}', "")
    assert "tags" not in older
    assert codec.loads(older) == Line("A1", Money(Decimal(1)))


def test_a_field_that_was_removed_since_does_no_harm() -> None:
    older = written(MoneyOfAnOlderRelease(Decimal(1), "EUR", "€"))
    back = codec.loads(older.replace("MoneyOfAnOlderRelease", "Money"))
    assert back == Money(Decimal(1))


def test_a_removed_field_of_a_class_with_slots_does_no_harm() -> None:
    older = written(LINE).replace('"sku":', '"since":1,"sku":')
    assert codec.loads(older) == LINE


def test_the_classes_here_are_those_that_another_process_would_import() -> None:
    assert importlib.import_module("tests.unit.shapes") is shapes
