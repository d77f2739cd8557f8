"""What the codec refuses, and that it says where the value is."""

from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from pydantic import BaseModel

from celery_durable.errors import NotSerializable, PayloadTooLarge
from celery_durable.store import codec
from tests.unit.shapes import Address, Customer, Line, Money

RESULT = "the result of charge"


class Plain:
    pass


class Shade(Enum):
    DARK = object()


def written(value: object, limit: int = 100_000) -> str:
    return codec.dumps(value, what=RESULT, limit=limit)


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
        (b"a", "bytes", "it has no JSON form"),
        ({1, 2}, "set", "it has no JSON form"),
        (1j, "complex", "it has no JSON form"),
        (Plain(), "Plain", "it has no JSON form"),
        (Plain, "type", "it has no JSON form"),
        (Money, "type", "it has no JSON form"),
        (Shade.DARK, "Shade", "it has no JSON form"),
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
    "bad", [NAN, "\0", "\ud800", b"a"], ids=["NaN", "NUL", "surrogate", "bytes"]
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
        (lambda bad: Customer.model_construct(name="Ada", address=Address(bad)), ".address.street"),
    ],
)
def test_the_path_says_where_it_is(bad: object, wrapped: Any, path: str) -> None:
    assert refused(wrapped(bad)).path == RESULT + path


@pytest.mark.parametrize(
    ("key", "type_name"), [(1, "int"), (None, "NoneType"), (("a", 1), "tuple"), (True, "bool")]
)
def test_keys_that_are_not_strings_are_refused(key: object, type_name: str) -> None:
    error = refused({"a": [{key: 1}]})
    assert error.path == f"{RESULT}['a'][0] key {key!r}"
    assert (error.type_name, error.why) == (type_name, "keys must be strings")


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


def too_deep() -> object:
    value: object = 1
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize("make", [circular_list, circular_object, too_deep])
def test_a_value_that_contains_itself_or_is_nested_without_end_is_refused(make: Any) -> None:
    assert refused(make()).path.startswith(RESULT)


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
