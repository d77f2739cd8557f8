"""What SQL writes is what Python writes: all rows are equal, but for ids and times."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_durable import Durable
from celery_durable.run import Run
from celery_durable.store import codec
from tests.integration.driving import World
from tests.services import PostgresServer

Define = Callable[[Durable, Any], object]


def step(durable: Durable, **options: Any) -> Any:
    return durable.step(lambda _: None, name="a", **options)


FIRST_NODES: Mapping[str, Define] = {
    "a step": lambda d, w: w.step(step(d)),
    "a step with a queue": lambda d, w: w.step(step(d, queue="other", priority=3)),
    "a step with a time limit": lambda d, w: w.step(step(d, timeout=7.5)),
    "a sleep": lambda _, w: w.sleep("s", 60),
    "a sleep by a function": lambda _, w: w.sleep("s", lambda _: 60),
    "a wait": lambda _, w: w.wait_for_signal("go", timeout=60),
    "a parallel": lambda d, w: w.parallel("p", {"x": step(d), "y": step(d, queue="other")}),
    "a map": lambda d, w: w.map("m", over=lambda _: [1, 2], handler=step(d)),
    "a route": lambda d, w: w.route("r", lambda _: "x", {"x": step(d, queue="other")}),
    "a loop": lambda d, w: w.loop("l", step(d, queue="other"), max_iterations=2),
    "a child": lambda d, w: w.child_workflow("c", d.workflow("kid").step(step(d))),
}
NAMES = {name: f"w{number}" for number, name in enumerate(FIRST_NODES)}
ENDS_IN_TIME = "deadlines"

ROWS = """
SELECT
    (SELECT to_jsonb(r) || jsonb_build_object(
        'input', r.input::text,
        'times_out_at', round(extract(epoch FROM r.times_out_at - r.started_at)::numeric),
        'expires_at', round(extract(epoch FROM r.expires_at - r.created_at)::numeric)
    ) FROM durable_run r WHERE id = %(run)s) AS run,
    (SELECT jsonb_agg(to_jsonb(t) ORDER BY unit)
        FROM durable_token t WHERE run_id = %(run)s) AS token,
    (SELECT jsonb_agg(to_jsonb(o) || jsonb_build_object('options', o.options::text)
            ORDER BY options ->> 'shadow')
        FROM durable_outbox o WHERE run_id = %(run)s) AS outbox,
    (SELECT jsonb_agg(to_jsonb(i) || jsonb_build_object('payload', i.payload::text) ORDER BY id)
        FROM durable_inbox i WHERE run_id = %(run)s) AS inbox
"""

TIMES = {
    *("created_at", "started_at", "updated_at"),
    *("since", "hinted_at", "look_at", "waiting_since", "wake_at"),
}


def define(durable: Durable) -> None:
    for name, add in FIRST_NODES.items():
        add(durable, durable.workflow(NAMES[name]))
    durable.workflow(ENDS_IN_TIME, timeout=3600, expires=60).step(step(durable))


@pytest.fixture(scope="module")
def client(postgres: PostgresServer, template_database: str) -> Iterator[tuple[World, Durable]]:
    """A world for all examples; its runs are told apart by their ids."""
    with (
        postgres.database("durable_test", template_database) as name,
        closing(World(postgres.url(name))) as world,
    ):
        yield world, world.worker(define)


def rows_of(world: World, run: Run) -> Any:
    """The rows of a run; ids are numbered as they come, times are there or are not."""
    (found,) = world.rows(ROWS.replace("%(run)s", f"'{run.id}'"))
    ids: dict[str, str] = {}

    def told(value: Any, name: str = "") -> Any:
        match value:
            case dict():
                return {k: told(v, k) for k, v in value.items() if name or k != "id"}
            case list():
                return [told(v, name) for v in value]
            case int() if name == "id":
                return "a number"
            case str() if name in TIMES:
                return "a time"
            case str() if len(value) == 36 and value[8] == value[23] == "-":
                return ids.setdefault(value, f"id {len(ids)}")
            case _:
                return value

    return {table: told(rows, table) for table, rows in found.items()}


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=10)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
inputs = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=3), inner),
    max_leaves=5,
)


@pytest.mark.parametrize("first", FIRST_NODES)
@settings(max_examples=5, deadline=None)
@given(input=inputs, has_key=st.booleans())
def test_a_start(client: tuple[World, Durable], first: str, input: Any, has_key: bool) -> None:
    world, durable = client
    check_start(world, durable, NAMES[first], input, has_key)


def test_a_start_of_a_workflow_with_deadlines(client: tuple[World, Durable]) -> None:
    world, durable = client
    rows = check_start(world, durable, ENDS_IN_TIME, {}, False)
    assert (rows["run"]["times_out_at"], rows["run"]["expires_at"]) == (3600, 60)


def check_start(world: World, durable: Durable, workflow: str, input: Any, has_key: bool) -> Any:
    world.rows("UPDATE durable_run SET key = NULL")
    key = "k" if has_key else None
    in_python = rows_of(world, durable.start(workflow, input, key=key))
    world.rows("UPDATE durable_run SET key = NULL")
    text = codec.dumps(input, what="it", limit=10_000)
    run = durable.run(world.one("SELECT durable_start(%s, %s::json, %s)", workflow, text, key))
    in_sql = rows_of(world, run)
    assert in_sql == in_python
    assert [len(in_sql[table]) for table in ("token", "outbox")] == [1, 1]
    return in_sql


def test_a_signal_to_a_run_that_waits(client: tuple[World, Durable]) -> None:
    check_signal(*client, "a wait", "go")


def test_a_signal_to_branches_that_may_wait_soon(client: tuple[World, Durable]) -> None:
    check_signal(*client, "a parallel", "elsewhere")


def check_signal(world: World, durable: Durable, first: str, signal: str) -> None:
    runs = [durable.start(NAMES[first]) for _ in "12"]
    for run in runs:
        durable.engine.advance(world.token_id(run))
    world.lose_hints()
    runs[0].resume(signal, {"to": [1.0]}, key="k")
    query = "SELECT durable_resume(%s, %s, %s::json, 'k')"
    assert world.one(query, runs[1].id, signal, '{"to":[1.0]}') == "stored"
    in_python, in_sql = (rows_of(world, run) for run in runs)
    assert in_sql == in_python
    assert len(in_sql["inbox"]) == 1
    assert in_sql["outbox"]


@pytest.mark.parametrize("compensate", [False, True])
def test_a_cancel(client: tuple[World, Durable], compensate: bool) -> None:
    world, durable = client
    runs = [durable.start(NAMES["a wait"]) for _ in "12"]
    with world.connect() as connection, connection.transaction():
        runs[0].cancel(compensate=compensate, session=connection)
    world.one("SELECT durable_cancel(%s, %s)", runs[1].id, compensate)
    in_python, in_sql = (rows_of(world, run) for run in runs)
    assert in_sql == in_python
    assert json.loads(in_sql["inbox"][0]["payload"])["compensate"] is compensate
