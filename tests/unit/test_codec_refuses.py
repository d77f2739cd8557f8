"""What the codec refuses, and that it says where the value is."""

import contextlib
import time
import traceback
from collections import OrderedDict, defaultdict, deque
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from celery_durable.errors import NotSerializable, PayloadTooLarge
from celery_durable.store.codec import MOST_NESTED
from tests.unit.shapes import (
    Address,
    Box,
    Customer,
    Guarded,
    Halting,
    Line,
    Listing,
    Marked,
    Money,
    Page,
    Row,
    Secretive,
    Shouting,
    Span,
    Stamp,
    Wide,
)
from tests.unit.values import NOW, RESULT, written


class Plain:
    pass


class Foreign(tzinfo):
    """A time zone of another library."""

    def utcoffset(self, _: datetime | None) -> timedelta:
        return timedelta(hours=1)

    def dst(self, _: datetime | None) -> None:
        return None

    def tzname(self, _: datetime | None) -> str:
        return "elsewhere"


def secretive(seen: Any) -> Secretive:
    model = Secretive(name="Ada")
    model._seen = seen
    return model


def refused(value: object) -> NotSerializable:
    with pytest.raises(NotSerializable) as told:
        written(value)
    return told.value


NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("value", "type_name", "why"),
    [
        (NAN, "float", "JSON has no nan"),
        (INFINITY, "float", "JSON has no inf"),
        (-INFINITY, "float", "JSON has no -inf"),
        ("a\0b", "str", "it holds the NUL character, which Postgres refuses"),
        ("a\ud800b", "str", "it holds a lone surrogate, '\\ud800'"),
        (memoryview(b"a"), "memoryview", "it has no JSON form"),
        (slice(1), "slice", "it has no JSON form"),
        (Plain(), "Plain", "it has no JSON form"),
        (Plain, "type", "it has no JSON form"),
        (Money, "type", "it has no JSON form"),
        (len, "builtin_function_or_method", "it has no JSON form"),
        ((n for n in [1]), "generator", "it has no JSON form"),
    ],
)
def test_what_has_no_json_form_is_refused_with_its_type_and_why(
    value: object, type_name: str, why: str
) -> None:
    error = refused(value)
    assert (error.path, error.type_name, error.why) == (RESULT, type_name, why)


@pytest.mark.parametrize(
    "bad", [NAN, "\0", "\ud800", Plain()], ids=["NaN", "NUL", "surrogate", "a class of no kind"]
)
@pytest.mark.parametrize(
    ("wrapped", "path"),
    [
        (lambda bad: [1, bad], "[1]"),
        (lambda bad: {"cards": [{"pin": bad}]}, "['cards'][0]['pin']"),
        (lambda bad: (1, (2, bad)), "[1][1]"),
        (lambda bad: {"__type__": bad}, "['__type__']"),
        (lambda bad: Line("A1", Money(Decimal(1)), {"x": [bad]}), ".tags['x'][0]"),
        (lambda bad: [Address(bad)], "[0].street"),
        (lambda bad: {1: {"x": bad}}, "[1]['x']"),
        (lambda bad: deque([OrderedDict(a=bad)]), "[0]['a']"),
        (Box, ".content"),
        (lambda bad: Marked(NOW, bad), ".by"),
        (secretive, "._seen"),
        (lambda bad: Customer.model_construct(name="Ada", address=Address(bad)), ".address.street"),
    ],
)
def test_the_path_says_where_it_is(bad: object, wrapped: Any, path: str) -> None:
    assert refused(wrapped(bad)).path == RESULT + path


class Text(str):
    __slots__ = ()


class Number(int):
    pass


class Tabled(Enum):
    """In a module, but under another name."""

    ONE = 1


Elsewhere, Tabled = Tabled, None  # type: ignore[misc, assignment]


@pytest.mark.parametrize(
    ("value", "base"),
    [
        (Text("a"), "str"),
        (Shouting("a"), "str"),
        (Number(1), "int"),
        (Stamp(2026, 3, 1, tzinfo=UTC), "datetime"),
        (Span(1), "timedelta"),
        (Wide(a=1), "dict"),
        (time.gmtime(0), "tuple"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_subclass_of_a_plain_type_is_refused_with_what_to_make_of_it(
    value: object, base: str
) -> None:
    error = refused({"a": [value]})
    assert error.path == f"{RESULT}['a'][0]"
    assert f"a kind of {base}" in error.why
    assert f"hand over a plain {base}" in error.why
    if isinstance(value, Hashable):
        assert f"a kind of {base}" in refused({value: 1}).why


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (Row(id=1), "mapped to a table"),
        (Halting("x"), "a kind of Exception too"),
        (Listing("x"), "a kind of dict too"),
        (Guarded(name="a", secret=SecretStr("b")), "it has no JSON form"),
        (Elsewhere.ONE, "is not its class"),
        (defaultdict(lambda: 1), "default factory"),
        (MappingProxyType({}), "hand over dict(...) of it"),
        (datetime(2026, 3, 1, tzinfo=Foreign()), "take one of zoneinfo"),
        (Path("/\udcff"), "lone surrogate"),
        (timezone(timedelta(0), "\ud800"), "lone surrogate"),
        (Box(len), "it has no JSON form"),
        (range(10**5000), "more digits"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_object_that_would_not_come_back_as_it_is_is_refused(value: object, why: str) -> None:
    error = refused({"a": value})
    assert error.path.startswith(f"{RESULT}['a']")
    assert why in error.why


def test_a_generic_model_that_was_made_in_a_function_is_refused() -> None:
    # At the top of a module it would have a name there.
    assert "is not its class" in refused(Page[dict[str, Address]](items=[])).why


def test_a_class_of_the_main_module_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class Here:
        x: int

    Here.__module__, Here.__qualname__ = "__main__", "Here"
    monkeypatch.setattr("__main__.Here", Here, raising=False)
    assert "define it in a module" in refused(Here(1)).why


def test_a_long_key_is_named_by_its_beginning() -> None:
    error = refused({"a" * 100_000: {"b": NAN}})
    assert error.path.startswith(f"{RESULT}['aaa")
    assert error.path.endswith("…['b']")
    assert len(str(error)) < 1_000


def test_keys_that_postgres_refuses_are_refused() -> None:
    assert refused({"a": {"b\0": 1}}).path == f"{RESULT}['a'] key"
    assert "lone surrogate" in refused({"a": {"b\udfff": 1}}).why


def test_a_class_that_no_other_process_can_find_is_refused() -> None:
    @dataclass
    class Local:
        x: int

    class LocalModel(BaseModel):
        x: int

    for value in (Local(1), LocalModel(x=1)):
        error = refused([value])
        assert error.path == f"{RESULT}[0]"
        assert type(value).__qualname__ in error.type_name
        assert "local to a function" in error.why


def circular_list() -> object:
    value: list[object] = []
    value.append({"again": value})
    return value


def circular_object() -> object:
    value = Address("Main St")
    value.zip = value  # type: ignore[assignment]
    return value


def nested(levels: int, inner: object = 1) -> object:
    value = inner
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "make",
    [
        circular_list,
        circular_object,
        lambda: nested(MOST_NESTED + 1),
        lambda: nested(MOST_NESTED, Box(1)),
        lambda: nested(100_000),
        lambda: nested(100_000, NAN),
    ],
)
def test_a_value_that_contains_itself_or_is_nested_too_deep_is_refused(make: Any) -> None:
    error = refused(make())
    assert error.path.startswith(RESULT)
    assert f"nested deeper than {MOST_NESTED} levels, or contains itself" in error.why
    assert len(str(error)) < 1_000
    assert len(traceback.extract_tb(error.__traceback__)) < 5


def test_a_stack_that_is_almost_full_is_no_reason_for_another_error() -> None:
    def deeper() -> str:
        try:
            return deeper()
        except RecursionError:
            pass
        return written(nested(MOST_NESTED))

    with contextlib.suppress(NotSerializable):
        deeper()


def test_a_whole_number_too_long_to_be_read_back_is_refused() -> None:
    assert refused({"n": [10**5_000]}).path == f"{RESULT}['n'][0]"


def test_the_limit_counts_bytes_of_utf_8_and_not_characters() -> None:
    assert written("€" * 10, limit=32) == '"€€€€€€€€€€"'
    with pytest.raises(PayloadTooLarge) as told:
        written("€" * 10, limit=31)
    assert (told.value.what, told.value.size, told.value.limit) == (RESULT, 32, 31)


def test_the_limit_counts_what_is_stored_with_its_tags() -> None:
    size = len(written(Money(Decimal(1))).encode())
    assert written(Money(Decimal(1)), limit=size)
    with pytest.raises(PayloadTooLarge):
        written(Money(Decimal(1)), limit=size - 1)
