"""P12: bad input is refused at the door, with an error of its own, and leaves nothing behind."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa

from celery_durable import Durable, RetryPolicy
from celery_durable.engine.ids import uuid7
from celery_durable.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    NotSerializable,
    PayloadError,
    PayloadTooLarge,
    RunError,
    RunNotFound,
    SchemaOutOfDate,
    UnknownWorkflow,
)
from tests.integration.driving import World, defining, error_of, make_durable, noting

Call = Callable[[Durable], Any]


@dataclass
class Order:
    sku: str


def start(**options: Any) -> Call:
    return lambda durable: durable.start("w", {}, **options)


def start_with(value: object) -> Call:
    return lambda durable: durable.start("w", value)


LONG_KEY = "".join(random.Random(1).choices(string.ascii_letters, k=10_000))
"""Longer than an entry of a Postgres index may be."""


def deep() -> Any:
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    return value


def nested() -> dict[str, Any]:
    return {"a": [{"b": object()}]}


BAD: dict[str, tuple[Call, type[Exception], str]] = {
    "unknown workflow": (lambda d: d.start("v", {}), UnknownWorkflow, "Unknown workflow 'v'"),
    "unknown version": (start(version=7), UnknownWorkflow, "version 7"),
    "input without JSON": (start_with(object()), NotSerializable, "the input of w"),
    "input with an object in it": (start_with(nested()), NotSerializable, r"\['a'\]\[0\]\['b'\]"),
    "input with NaN": (start_with({"n": float("nan")}), NotSerializable, "nan"),
    "input with NUL": (start_with({"s": "a\0b"}), NotSerializable, "NUL"),
    "input with a surrogate": (start_with("\ud800"), NotSerializable, "surrogate"),
    "input that is nested too deep": (
        start_with(deep()),
        NotSerializable,
        "deeper than 100 levels",
    ),
    "input over the limit": (start_with("x" * 2_000), PayloadTooLarge, "limit is 1000"),
    "input that does not fit": (
        lambda d: d.start("typed", {"sku": "a", "more": 1}),
        PayloadError,
        "not a Order",
    ),
    "one bad input of many": (
        lambda d: d.start_many("w", [{}, object(), {}]),
        NotSerializable,
        "the input of w",
    ),
    "a key that is no string": (start(key=7), ConfigurationError, "key="),
    "an empty key": (start(key=""), ConfigurationError, "key="),
    "a key with NUL": (start(key="a\0"), ConfigurationError, "key="),
    "a key with a surrogate": (start(key="\ud800"), ConfigurationError, "key="),
    "a very long key": (start(key=LONG_KEY), ConfigurationError, "key="),
    "a negative delay": (start(delay=-1), ConfigurationError, "delay="),
    "a delay that is no number": (start(delay="1"), ConfigurationError, "delay="),
    "a delay without end": (start(delay=float("inf")), ConfigurationError, "delay="),
    "a delay of NaN": (start(delay=float("nan")), ConfigurationError, "delay="),
    "a priority that is no number": (start(priority="high"), ConfigurationError, "priority="),
    "a priority of True": (start(priority=True), ConfigurationError, "priority="),
    "a priority out of range": (start(priority=1_000_000), ConfigurationError, "priority="),
    "tags that are no mapping": (start(tags=["a"]), ConfigurationError, "tags="),
    "tags of numbers": (start(tags={"a": 1}), ConfigurationError, "tags="),
    "tags with NUL": (start(tags={"a": "\0"}), ConfigurationError, "tags="),
    "tags with a surrogate": (start(tags={"a": "\ud800"}), ConfigurationError, "tags="),
    "a version that is no number": (start(version="1"), ConfigurationError, "version="),
    "a version of True": (start(version=True), ConfigurationError, "version="),
    "a version of 0": (start(version=0), ConfigurationError, "version"),
    "a workflow that is no name": (lambda d: d.start(7, {}), ConfigurationError, "workflow"),  # type: ignore[arg-type]
    "a workflow with NUL": (lambda d: d.start("a\0b", {}), ConfigurationError, "workflow"),
    "inputs that are no sequence": (
        lambda d: d.start_many("w", 7),  # type: ignore[arg-type]
        ConfigurationError,
        "inputs",
    ),
    "an unknown run": (lambda d: d.status(uuid7()), RunNotFound, "No run"),
    "the history of an unknown run": (lambda d: d.history(uuid7()), RunNotFound, "No run"),
    "the result of an unknown run": (lambda d: d.run(uuid7()).result(0), RunNotFound, "No run"),
    "the cancel of an unknown run": (lambda d: d.cancel(uuid7()), RunNotFound, "No run"),
    "a compensate that is no bool": (
        lambda d: d.cancel(uuid7(), compensate="no"),  # type: ignore[arg-type]
        ConfigurationError,
        "compensate= takes True or False, not 'no'",
    ),
    "a run id that is none": (lambda d: d.status("42"), ConfigurationError, "'42'"),
    "a run id of None": (lambda d: d.status(None), ConfigurationError, "None"),  # type: ignore[arg-type]
    "an unknown key": (lambda d: d.run(workflow="w", key="k"), RunError, "no run with key 'k'"),
    "a run without id or key": (lambda d: d.run(workflow="w"), ConfigurationError, "run id"),
    "an unknown status": (
        lambda d: d.list(status="done"),  # type: ignore[arg-type]
        ConfigurationError,
        "'done'",
    ),
    "a limit of 0": (lambda d: d.list(limit=0), ConfigurationError, "limit="),
    "a limit of True": (lambda d: d.list(limit=True), ConfigurationError, "limit="),
    "a limit out of range": (lambda d: d.list(limit=10**12), ConfigurationError, "limit="),
    "a filter by wrong tags": (lambda d: d.list(tags={"a": 1}), ConfigurationError, "tags="),  # type: ignore[dict-item]
    "a page before what is no run": (lambda d: d.list(before="x"), ConfigurationError, "'x'"),
    "a filter by a workflow with NUL": (
        lambda d: d.list(workflow="a\0"),
        ConfigurationError,
        "workflow",
    ),
    "a timeout that is no number": (
        lambda d: d.run(uuid7()).result("1"),  # type: ignore[arg-type]
        ConfigurationError,
        "timeout=",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_it_is_refused_and_leaves_nothing_behind(world: World, what: str) -> None:
    """P12"""
    call, error, message = BAD[what]

    def define(durable: Durable) -> None:
        durable.workflow("w").step(noting([], "a"))
        durable.workflow("typed", input=Order).step(noting([], "a"))

    durable = world.worker(define, max_payload_bytes=1000)
    with pytest.raises(error, match=message):
        call(durable)

    # The plan of a workflow that exists may be stored by then.
    assert set(world.counts("definition").values()) == {0}


REASONS = {
    "NUL": "a\0b",
    "surrogate": "\ud800",
    "no string": 7,
    "no JSON": object(),
}


@pytest.mark.parametrize("what", REASONS)
def test_a_reason_that_cannot_be_stored_is_refused(world: World, what: str) -> None:
    """P12: a command that nobody can apply would stop recovery for ever."""
    durable = world.worker(defining([], "a"))
    run = durable.start("w", {})

    with pytest.raises(ConfigurationError, match="reason="):
        run.cancel(reason=REASONS[what])  # type: ignore[arg-type]

    assert world.counts()["inbox"] == 0
    durable.recover()


def test_a_result_without_json_fails_the_step_without_a_second_try(world: World) -> None:
    """P12: and names the type and where it is."""
    calls: list[str] = []

    def odd(ctx: Any) -> Any:
        calls.append("odd")
        return {"a": [1, object()]}

    def define(durable: Durable) -> None:
        a = durable.step(noting(calls, "a"))
        a.compensate(noting(calls, "undo a"))
        durable.workflow("w").step(a).step(odd, retry=RetryPolicy(max_attempts=5, initial=0))

    durable = world.worker(define)
    run = durable.start("w", {})
    world.drain(durable)

    assert calls == ["a", "odd", "undo a"]
    error = error_of(run)
    assert error.type == "NotSerializable"
    assert "the result of odd['a'][1] (object)" in error.message


def test_a_result_over_the_limit_fails_the_step_without_a_second_try(world: World) -> None:
    """P12"""
    calls: list[str] = []

    def huge(durable: Durable) -> None:
        durable.workflow("w").step(
            noting(calls, "a", result="x" * 2000), retry=RetryPolicy(max_attempts=5, initial=0)
        )

    durable = world.worker(huge, max_payload_bytes=1000)
    run = durable.start("w", {})
    world.drain(durable)

    assert calls == ["a"]
    assert error_of(run).type == "PayloadTooLarge"


def test_a_second_start_with_a_key_returns_the_first_run(world: World) -> None:
    """P12: whatever its input."""
    durable = world.worker(defining([], "a"))
    first = durable.start("w", {"n": 1}, key="k")
    second = durable.start("w", {"n": 2}, key="k")

    assert first.created
    assert not second.created
    assert first == second
    assert world.counts("definition") == {
        "run": 1,
        "token": 1,
        "item": 0,
        "journal": 0,
        "outbox": 1,
        "inbox": 0,
        "worker": 0,
    }
    assert world.one("SELECT input FROM durable_run") == {"n": 1}


def test_the_same_key_may_be_used_in_another_workflow(world: World) -> None:
    def define(durable: Durable) -> None:
        for name in ("v", "w"):
            durable.workflow(name).step(noting([], "a"))

    durable = world.worker(define)
    assert durable.start("v", {}, key="k") != durable.start("w", {}, key="k")


@pytest.mark.parametrize("value", [None, 0, "", [], {}, False, 1.0, "ä\n", {"a": None}])
def test_any_json_is_an_input(world: World, value: Any) -> None:
    """P12: null too."""
    seen: list[Any] = []

    def define(durable: Durable) -> None:
        durable.workflow("w").step(lambda ctx: seen.append(ctx.input), name="a")

    durable = world.worker(define)
    durable.start("w", value)
    world.drain(durable)
    assert seen == [value]
    assert type(seen[0]) is type(value)


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("postgresql+psycopg://127.0.0.1:1/none", DatabaseUnavailable),
        ("postgresql+psycopg://nobody.invalid/none", DatabaseUnavailable),
        ("mysql://127.0.0.1/none", ConfigurationError),
        ("not a url", ConfigurationError),
    ],
)
def test_a_wrong_database_url_is_told_from_a_database_that_is_away(
    url: str, error: type[Exception]
) -> None:
    """P12"""
    durable = make_durable(url, defining([], "a"))
    for call in (
        lambda: durable.start("w", {}),
        lambda: durable.status(uuid7()),
        durable.list,
        durable.recover,
        durable.migrate,
    ):
        with pytest.raises(error):
            call()


def test_a_database_that_does_not_exist_is_not_available(world: World) -> None:
    """P12"""
    url = sa.make_url(world.url).set(database="no_such_database")
    durable = make_durable(url.render_as_string(hide_password=False), defining([], "a"))
    with pytest.raises(DatabaseUnavailable, match="no_such_database"):
        durable.start("w", {})


def test_a_database_without_the_tables_says_how_to_make_them(empty_database_url: str) -> None:
    """P12"""
    durable = make_durable(empty_database_url, defining([], "a"))
    for call in (
        lambda: durable.start("w", {}),
        lambda: durable.start_many("w", [{}]),
        lambda: durable.status(uuid7()),
        lambda: durable.history(uuid7()),
        lambda: durable.cancel(uuid7()),
        lambda: durable.engine.advance(uuid7()),
        durable.list,
        durable.recover,
    ):
        with pytest.raises(SchemaOutOfDate, match="durable migrate"):
            call()
    durable.database.close()
