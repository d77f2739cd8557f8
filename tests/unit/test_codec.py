"""Values <-> JSON text: what a value was, it is again."""

import importlib
import json
from collections import OrderedDict, defaultdict
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings

from celery_durable.store import codec
from celery_durable.store.codec import MOST_NESTED
from tests.unit import shapes
from tests.unit.shapes import (
    Address,
    AddressOfAnOlderRelease,
    Box,
    Color,
    Counted,
    Customer,
    Extensible,
    Invoice,
    Level,
    Line,
    Marked,
    Money,
    MoneyOfAnOlderRelease,
    MoneyPage,
    Order,
    Outer,
    Parcel,
    Permission,
    Point,
    Prices,
    Secretive,
    Shade,
    Size,
    Slotted,
)
from tests.unit.storable import portrait, values
from tests.unit.values import NOW, written

BERLIN = ZoneInfo("Europe/Berlin")


def returned(value: object) -> Any:
    return codec.loads(written(value))


@given(values)
@settings(max_examples=200)
@example(datetime.max)  # noqa: DTZ901 - naive
@example(datetime.max.replace(tzinfo=BERLIN))
@example(datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1))
@example(time(12, tzinfo=BERLIN))
@example(datetime(2026, 3, 1, tzinfo=timezone(timedelta(hours=1), "CET")))
@example(time(0, tzinfo=timezone(timedelta(microseconds=1))))
@example(Path("/tmp"))
@example({True: "b", "1": "c", 1.5: "d", None: "e", (1, "x"): "f"})
def test_every_value_that_can_be_stored_comes_back_as_it_was(value: object) -> None:
    text = written(value)
    json.loads(text, parse_constant=pytest.fail)
    back = codec.loads(text)
    assert portrait(back) == portrait(value)
    assert written(back) == text


@pytest.mark.parametrize("number", [1.0, 1e16, -0.0, 1e-7, 1.7976931348623157e308, 5e-324])
def test_a_float_stays_a_float(number: float) -> None:
    assert repr(returned(number)) == repr(number)


@pytest.mark.parametrize("number", [0, True, 2**53 + 1, -(10**400)])
def test_a_whole_number_stays_exact(number: int) -> None:
    assert returned(number) == number
    assert type(returned(number)) is type(number)


@pytest.mark.parametrize("number", ["1.00", "0E-10", "NaN", "sNaN", "Infinity", "-0"])
def test_a_decimal_keeps_its_digits(number: str) -> None:
    assert str(returned(Decimal(number))) == number


def test_a_time_keeps_its_offset_and_a_naive_one_has_none() -> None:
    offset = timezone(timedelta(hours=5, minutes=45))
    assert returned(NOW.astimezone(offset)).utcoffset() == timedelta(hours=5, minutes=45)
    assert returned(datetime(2026, 3, 1)).tzinfo is None  # noqa: DTZ001
    assert returned(time(12, tzinfo=offset)).utcoffset() == timedelta(hours=5, minutes=45)
    assert type(returned(date(2026, 3, 1))) is date


def test_a_time_of_a_named_zone_keeps_the_zone() -> None:
    summer = datetime(2026, 7, 1, tzinfo=BERLIN)
    assert returned(summer).tzinfo is BERLIN
    assert returned(summer) + timedelta(days=180) == summer + timedelta(days=180)


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
        "\\u0000",
    ],
)
def test_a_users_own_value_that_looks_like_a_tag_comes_back_as_it_was(own: object) -> None:
    assert returned(own) == own


def test_a_field_that_is_called_like_a_tag_comes_back_as_it_was() -> None:
    tags = {"__type__": "uuid", "__value__": {"hex": "no"}}
    model = Extensible.model_validate({"name": "Ada"} | tags)
    assert returned(model) == model


@pytest.mark.parametrize("tag", ['"x"', "1", "[]", "{}", "null"])
def test_a_tag_that_nobody_knows_comes_back_as_it_stands(tag: str) -> None:
    assert codec.loads(f'{{"__type__": {tag}, "__value__": 1}}') == {
        "__type__": json.loads(tag),
        "__value__": 1,
    }


def test_the_same_set_is_the_same_text() -> None:
    assert written({"a", "b", "c"}) == written({"c", "b", "a"})


def test_none_is_a_value_and_nothing_stored_is_none() -> None:
    assert written(None) == "null"
    assert codec.loads("null") is None
    assert codec.loads(None) is None


@pytest.mark.parametrize(
    "member",
    [
        *(Level.HIGH, Size.LARGE, Color.RED, Shade.DARK, Shade.PALE, Permission.READ),
        Permission.READ | Permission.WRITE,
    ],
    ids=str,
)
def test_a_member_of_an_enum_comes_back_as_itself(member: object) -> None:
    assert returned(member) is member
    assert returned({member: [member]}) == {member: [member]}


LINE = Line("A1", Money(Decimal("9.90")), {"gift": True, "at": NOW})
CUSTOMER = Customer(fullName="Ada", address=Address("Main St"))
OBJECTS: list[object] = [
    Address("Main St", None),
    LINE,
    Order(lines=[LINE, LINE], to=Address("Main St"), placed_at=NOW),
    Outer.Inner(3),
    Box[Color](Color.RED),
    CUSTOMER,
    Invoice(customer=CUSTOMER, total=Money(Decimal(1)), due=NOW, notes=[CUSTOMER]),
    Prices({"A1": Decimal("9.90")}),
    MoneyPage(items=[Money(Decimal(1))]),
    Extensible.model_validate({"name": "Ada", "nick": "A", "since": NOW}),
    Secretive(name="Ada"),
    Point(1, 2),
    Marked(NOW, (1, {2})),
    OrderedDict(b=1, a=2),
    defaultdict(list, {"a": [1]}),
]


@pytest.mark.parametrize("value", OBJECTS, ids=lambda value: type(value).__name__)
def test_objects_come_back_equal_and_of_their_class(value: object) -> None:
    back = returned({"in": [value]})["in"][0]
    assert back == value
    assert type(back) is type(value)


def test_a_model_of_every_kind_of_field_comes_back_as_pydantic_made_it() -> None:
    text = """{"color": "red", "shade": ["pale", 1], "labels": ["red"], "sizes": [1, 2],
        "pair": [3, "b"], "by_level": {"3": "1.50"}, "link": "https://example.org/x",
        "blob": "abc", "path": "/tmp", "host": "::1", "at": "2026-03-01T12:00:00+02:00"}"""
    model = Parcel.model_validate(json.loads(text) | {"shade": Shade.PALE})
    model._seen.add(7)
    assert model.key
    back = returned(model)
    assert back == model
    assert (back._seen, back.at.tzinfo, type(back.link)) == (
        {7},
        model.at and model.at.tzinfo,
        type(model.link),
    )
    assert "key" not in vars(back)


def test_a_pydantic_model_still_knows_which_fields_were_set() -> None:
    invoice = Invoice(customer=CUSTOMER, total=Money(Decimal(1)))
    assert returned(invoice).model_fields_set == invoice.model_fields_set


def test_a_private_attribute_of_a_pydantic_model_comes_back() -> None:
    model = Secretive(name="Ada")
    model._seen = 5
    assert returned(model)._seen == 5


def test_an_attribute_that_is_no_field_comes_back() -> None:
    counted = Counted("Ada")
    assert counted.shout == "ADA"
    back = returned(counted)
    assert vars(back) == {"name": "Ada", "length": 3}
    slotted = Slotted("Ada")
    slotted.knot = 4  # type: ignore[misc]
    assert returned(slotted).knot == 4


def test_a_model_is_not_validated_again() -> None:
    unchecked = Customer.model_construct(name=7, address=None)
    assert returned(unchecked) == unchecked


def test_a_field_that_was_added_since_has_its_default() -> None:
    older = written(AddressOfAnOlderRelease("Main St"))
    assert codec.loads(older.replace("AddressOfAnOlderRelease", "Address")) == Address("Main St")
    older = written(Point(1, 2)).replace("Point", "Marked").replace('"x":1,"y":2', '"at":1')
    assert codec.loads(older) == Marked(1)  # type: ignore[arg-type]
    older = written(Customer(fullName="Ada", address=Address("x"))).replace("Customer", "Secretive")
    assert codec.loads(older)._seen == 0


def test_a_field_with_a_default_factory_that_was_added_since_has_its_default() -> None:
    older = written(Line("A1", Money(Decimal(1)))).replace(',"tags":{}', "")
    assert "tags" not in older
    assert codec.loads(older) == Line("A1", Money(Decimal(1)))
    older = written(Parcel(color=Color.RED, shade=Shade.DARK)).replace('"blob":', '"gone":')
    assert codec.loads(older).blob == b""


def test_a_field_that_was_removed_since_does_no_harm() -> None:
    older = written(MoneyOfAnOlderRelease(Decimal(1), "EUR", "€"))
    back = codec.loads(older.replace("MoneyOfAnOlderRelease", "Money"))
    assert back == Money(Decimal(1))


def test_a_removed_field_of_a_class_with_slots_does_no_harm() -> None:
    older = written(LINE).replace('"sku":', '"since":1,"sku":')
    assert codec.loads(older) == LINE


def test_the_classes_here_are_those_that_another_process_would_import() -> None:
    assert importlib.import_module("tests.unit.shapes") is shapes


def nested(levels: int) -> object:
    value: object = 1
    for n in range(levels):
        value = [[value], {"a": value}, (value,), Box(value)][n % 4]
    return value


def test_as_many_levels_as_are_allowed_come_back() -> None:
    assert returned(nested(MOST_NESTED)) == nested(MOST_NESTED)
