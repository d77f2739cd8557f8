"""Which classes are read: those that are loaded or allowed, and that writing would have taken."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from uuid import uuid4

import pytest

import celery_durable
from celery_durable import ErrorRecord, Status
from celery_durable.store import codec
from celery_durable.store.codec.classes import HOME, class_named, reference_to
from tests.unit.shapes import Address, Color, Line, Money, Point
from tests.unit.values import written

SOURCE = """
from dataclasses import dataclass

@dataclass
class Order:
    sku: str
"""


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package with a dataclass `Order` in its module `parts`, which nothing has imported."""
    name = f"elsewhere_{uuid4().hex}"
    package = tmp_path / name
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "parts.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    for module in (f"{name}.parts", name):
        sys.modules.pop(module, None)


def order_of(package: str) -> str:
    text = written(Address("A1")).replace("tests.unit.shapes:Address", f"{package}.parts:Order")
    return text.replace('"street"', '"sku"').replace(',"zip":null', "")


def test_a_module_is_not_imported_because_the_journal_names_it(elsewhere: str) -> None:
    assert codec.loads(order_of(elsewhere)) == {"sku": "A1"}
    assert elsewhere not in sys.modules


@pytest.mark.parametrize("pattern", ["{}.", "{}.parts.", "{}.parts:Order"])
def test_a_module_is_imported_that_is_allowed(elsewhere: str, pattern: str) -> None:
    codec.allow([pattern.format(elsewhere)])
    back = codec.loads(order_of(elsewhere))
    assert (type(back).__name__, back.sku) == ("Order", "A1")


@pytest.mark.parametrize("pattern", ["{}.part.", "{}.parts:Orders", "{}", "{}.parts.Order."])
def test_what_is_allowed_is_meant_word_for_word(elsewhere: str, pattern: str) -> None:
    codec.allow([pattern.format(elsewhere)])
    assert codec.loads(order_of(elsewhere)) == {"sku": "A1"}


@pytest.mark.parametrize(
    "gone",
    ["tests.unit.no_module:Address", "tests.unit.shapes:NoClass", "tests.unit.shapes:", "x", ":"],
)
def test_an_object_of_a_class_that_is_not_here_is_plain_data_with_one_warning(
    gone: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celery_durable.store.codec.decode._warned", set())
    text = written(Line("A1", Money(Decimal(1)))).replace("tests.unit.shapes:Line", gone)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert codec.loads(text) == {"sku": "A1", "price": Money(Decimal(1)), "tags": {}}
    (record,) = caplog.records
    assert f"A stored {gone} is read as plain data" in record.message
    assert "durable_allowed_types" in record.message


@pytest.mark.parametrize(
    "other",
    [
        "tests.unit.shapes:Level",
        "os:system",
        "tests.unit.shapes:field",
        "tests.unit.shapes:Customer",
        "tests.unit.shapes:Row",
        "tests.unit.shapes:Halting",
        "tests.unit.shapes:Enum",
        "subprocess:Popen",
        "builtins:eval",
    ],
)
def test_nothing_is_made_but_what_writing_takes_under_that_tag(other: str) -> None:
    text = written(Address("Main St")).replace("tests.unit.shapes:Address", other)
    assert other in text
    assert codec.loads(text) == {"street": "Main St", "zip": None}


def test_a_module_that_makes_its_names_on_demand_is_not_asked_for_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("tests.unit.shapes.__getattr__", asked.append, raising=False)
    assert codec.loads(written(Address("x")).replace(":Address", ":Lazy")) == {
        "street": "x",
        "zip": None,
    }
    assert asked == []


def test_a_member_that_an_enum_has_no_more_is_read_as_its_value() -> None:
    assert codec.loads(written(Color.RED).replace("RED", "GREEN")) == "red"


def test_an_object_that_its_class_cannot_be_made_of_any_more_is_plain_data() -> None:
    text = written(Point(1, 2)).replace('"y"', '"z"')
    assert codec.loads(text) == {"x": 1, "z": 2}


@pytest.mark.parametrize(
    "broken",
    [
        '{"__type__": "datetime", "__value__": "no"}',
        '{"__type__": "zoneinfo", "__value__": "Nowhere/Else"}',
        '{"__type__": "zoneinfo", "__value__": "../../etc/passwd"}',
        '{"__type__": "timedelta", "__value__": [1e300, 0, 0]}',
        '{"__type__": "mapping", "__value__": 1}',
        '{"__type__": "set", "__value__": [[1]]}',
        '{"__type__": "defaultdict", "__value__": {"factory": "eval", "items": []}}',
        '{"__type__": "dataclass", "__value__": {"class": 1, "state": 2}}',
        '{"__type__": "dataclass", "__value__": 3}',
        '{"__type__": "decimal", "__value__": "x"}',
    ],
)
def test_what_cannot_be_read_is_plain_data_and_no_error(broken: str) -> None:
    codec.loads(broken)


@pytest.mark.parametrize("name", HOME)
def test_a_value_of_the_library_is_stored_by_its_public_name(name: str) -> None:
    kind = getattr(import_module(f"celery_durable.{HOME[name]}"), name)
    assert reference_to(kind) == (f"celery_durable:{name}", None)
    assert class_named(f"celery_durable:{name}") is kind
    if name in celery_durable.__all__:
        assert getattr(celery_durable, name) is kind


def test_a_status_in_a_result_is_a_status_again() -> None:
    error = ErrorRecord("ValueError", "no")
    text = codec.dumps([Status.RUNNING, error], what="it", limit=1_000)
    assert "celery_durable.core" not in text
    assert codec.loads(text) == [Status.RUNNING, error]
