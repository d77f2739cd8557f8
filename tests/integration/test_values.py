"""Values come back from Postgres as they were, whatever they are."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import UTC
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings

from celery_durable import Durable, Suspend
from celery_durable.errors import NotSerializable
from celery_durable.store import codec
from celery_durable.store.codec import MOST_NESTED
from tests.integration.driving import World, error_of, noting
from tests.unit.shapes import Address, Color, Halting, Listing, Money, Permission, Row, Stamp
from tests.unit.storable import portrait, values


@pytest.fixture(scope="module")
def connection(module_database_url: str) -> Iterator[psycopg.Connection[tuple[str]]]:
    url = module_database_url.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(url, autocommit=True) as made:
        made.execute("CREATE TEMP TABLE kept (value json NOT NULL)")
        yield made


@given(value=values)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_value_comes_back_from_a_json_column_as_it_was(
    connection: psycopg.Connection[tuple[str]], value: object
) -> None:
    text = codec.dumps(value, what="a value", limit=1_000_000)
    row = connection.execute(
        "WITH new AS (INSERT INTO kept VALUES (%s) RETURNING value) SELECT value::text FROM new",
        [text],
    ).fetchone()
    assert row is not None
    assert portrait(codec.loads(row[0])) == portrait(value)
    # What Postgres itself makes of it: it refuses a NUL or half a character only here.
    connection.execute("SELECT value #>> '{}' FROM kept")
    connection.execute("TRUNCATE kept")


KINDS: dict[str, Any] = {
    "an object mapped to a table": Row(id=1),
    "an object that is an exception": Halting("x"),
    "an object that is a dict": Listing("x"),
    "a time of a class of its own": Stamp(2026, 3, 1, tzinfo=UTC),
    "a class that only this function knows": type("Local", (Address,), {})("x"),
}


@pytest.mark.parametrize("what", KINDS)
def test_a_result_that_could_not_be_read_as_it_was_fails_its_step_with_its_path(
    world: World, what: str
) -> None:
    """P12: a result that is recorded can be read, by everybody and for ever."""
    durable = world.worker(
        lambda d: d.workflow("w").step(noting([], "a", result={"in": [KINDS[what]]}))
    )
    run = durable.start("w")
    world.drain(durable)

    error = error_of(run)
    assert error.type == "NotSerializable"
    assert error.message.startswith("the result of a['in'][0] (")


def test_what_steps_hand_on_is_what_they_returned(world: World) -> None:
    """The way through input, result, item, snapshot and signal; in two processes."""
    seen: list[Any] = []

    def note(ctx: Any) -> Any:
        seen.append(ctx.item)
        return ctx.item

    def ask(ctx: Any) -> Any:
        if not ctx.is_resumed:
            return Suspend({"at": (1, 2)}, signal="s")
        seen.append((ctx.snapshot, ctx.resume_data))
        return ctx.resume_data

    def define(durable: Durable) -> None:
        workflow = durable.workflow("w").step(lambda ctx: ctx.input, name="a")
        workflow.map("each", over=lambda ctx: ctx.results["a"], handler=durable.step(note))
        workflow.step(ask).returns(lambda ctx: frozenset(ctx.results["each"]))

    world.worker(define)
    durable = world.worker(define)
    run = durable.start("w", (Color.RED, Permission.READ))
    world.drain(durable)
    durable.resume(run.id, "s", Money(Decimal(1)))
    world.drain(durable)

    answered = ({"at": (1, 2)}, Money(Decimal(1)))
    assert sorted(map(repr, seen)) == sorted(map(repr, [Color.RED, Permission.READ, answered]))
    assert run.result() == frozenset({Color.RED, Permission.READ})
    assert run.status().results["a"] == (Color.RED, Permission.READ)


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("levels", [MOST_NESTED, MOST_NESTED + 1])
def test_one_limit_of_nesting_holds_at_every_door(world: World, levels: int) -> None:
    """P12"""
    value, is_taken = nested(levels), levels <= MOST_NESTED

    def define(durable: Durable) -> None:
        durable.workflow("result").step(noting([], "a", result=value))
        durable.workflow("item").map("each", over=lambda _: [value], handler=noting([], "a"))
        durable.workflow("snapshot").step(lambda _: Suspend(value), name="a")
        durable.workflow("waits").wait_for_signal("s")

    durable = world.worker(define)
    calls: dict[str, Callable[[], Any]] = {
        "input": lambda: durable.start("result", value),
        "inputs": lambda: durable.start_many("result", [value]),
        "signal": lambda: durable.resume(waiting.id, "s", value),
    }
    waiting = durable.start("waits")
    refused = []
    for name, call in calls.items():
        try:
            call()
        except NotSerializable:
            refused.append(name)
    runs = {name: durable.start(name) for name in ("result", "item", "snapshot")}
    world.drain(durable)
    failed = [name for name, run in runs.items() if run.status().error]

    assert (refused, failed) == (([], []) if is_taken else ([*calls], [*runs]))


def test_only_what_is_allowed_is_imported_to_read_a_value(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "from tests.unit.shapes import Address\nclass Order(Address): pass\n"
    for name in ("never_loaded", "loaded_on_demand"):
        (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    durable = world.worker(
        lambda d: d.workflow("w").step(noting([], "a", result=Address("x"))),
        allowed_types=["loaded_on_demand:Order"],
    )
    run = durable.start("w")
    world.drain(durable)

    def read_as(reference: str) -> Any:
        world.rows(
            "UPDATE durable_journal SET result = regexp_replace(result::text, %s, %s)::json",
            '"class":"[^"]*"',
            f'"class":"{reference}"',
        )
        return run.status().results["a"]

    assert read_as("never_loaded:Order") == {"street": "x", "zip": None}
    assert "never_loaded" not in sys.modules
    order = read_as("loaded_on_demand:Order")
    assert (type(order).__name__, order.street) == ("Order", "x")
    del sys.modules["loaded_on_demand"]
