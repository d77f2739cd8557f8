"""Runs that are started in SQL, by `durable_start`."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql as text

from celery_durable import Durable, PayloadError
from celery_durable.database.notify import CHANNEL, channel
from tests.addresses import conninfo
from tests.integration.driving import World, defining, spawn
from tests.services import unique
from tests.waiting import wait_until

START = "SELECT durable_start(%s, %s::json, %s) AS run"


@pytest.fixture
def worker(world: World, log: list[str]) -> Durable:
    """A worker that knows `w`, whose plan is stored."""
    worker = world.worker(defining(log, "a", "b"))
    worker.run_factory.outline("w", None)
    return worker


def start(
    world: World, workflow: str | None = "w", given: str | None = "{}", key: str | None = None
) -> UUID:
    found: UUID = world.one(START, workflow, given, key)
    return found


ORDERS = """
CREATE TABLE orders (id integer PRIMARY KEY, sku text, run uuid);
CREATE FUNCTION order_placed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.run := durable_start('w', row_to_json(NEW), 'order-' || NEW.id);
    RETURN NEW;
END $$;
CREATE TRIGGER order_placed BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION order_placed()
"""


def test_a_trigger_starts_a_run_that_commits_with_its_row(world: World, worker: Durable) -> None:
    """P7"""
    world.rows(ORDERS)
    world.rows("INSERT INTO orders VALUES (1, 'A1'), (2, 'B2')")
    runs = [worker.run(row["run"]) for row in world.rows("SELECT run FROM orders ORDER BY id")]
    world.drain(worker)
    assert [run.status().status for run in runs] == ["completed"] * 2
    assert runs[0].status().input == {"id": 1, "sku": "A1", "run": None}
    assert worker.run(workflow="w", key="order-1") == runs[0]


def test_a_trigger_starts_nothing_in_a_transaction_that_rolls_back(
    world: World, worker: Durable
) -> None:
    """P7"""
    world.rows(ORDERS)
    before = world.counts()
    with psycopg.connect(conninfo(world.url)) as connection:
        connection.execute("INSERT INTO orders VALUES (1, 'A1')")
        connection.rollback()
    assert world.counts() == before


@pytest.fixture
def psql() -> str:
    return shutil.which("psql") or pytest.skip("no psql: install the client of PostgreSQL")


def test_psql_starts_a_run(world: World, worker: Durable, psql: str) -> None:
    command = [psql, conninfo(world.url), "-qAtX", "-v", "ON_ERROR_STOP=1"]
    query = """SELECT durable_start('w', '{"sku": "A1"}')"""
    said = subprocess.run([*command, "-c", query], capture_output=True, text=True, check=True)
    run = worker.run(said.stdout.strip())
    world.drain(worker)
    assert (run.status().status, run.status().input) == ("completed", {"sku": "A1"})


def test_the_second_start_with_a_key_returns_the_first_run(world: World, worker: Durable) -> None:
    first = start(world, key="k")
    assert start(world, key="k") == first
    assert worker.start("w", {}, key="k").id == first
    assert world.counts()["run"] == world.hints() == 1


def test_a_key_started_in_python_is_found_in_sql(world: World, worker: Durable) -> None:
    assert worker.start("w", {}, key="k").id == start(world, key="k")


def test_of_two_starts_with_a_key_at_once_the_later_one_waits_and_returns_the_first(
    world: World, worker: Durable
) -> None:
    with psycopg.connect(conninfo(world.url)) as first:
        (run,) = first.execute(START, ("w", "{}", "k")).fetchone() or ()
        with world.connect() as other:
            second = spawn(lambda: other.execute(START, ("w", "{}", "k")).fetchone())
            wait_until(lambda: world.waiting_for_locks() == 1, message="the second to wait")
            first.commit()
            assert second.result(30) == {"run": run}
    assert world.counts()["run"] == 1


def test_of_two_starts_at_once_the_later_one_starts_when_the_first_rolls_back(
    world: World, worker: Durable
) -> None:
    with psycopg.connect(conninfo(world.url)) as first:
        (run,) = first.execute(START, ("w", "{}", "k")).fetchone() or ()
        with world.connect() as other:
            second = spawn(lambda: other.execute(START, ("w", "{}", "k")).fetchone())
            wait_until(lambda: world.waiting_for_locks() == 1, message="the second to wait")
            first.rollback()
            found = second.result(30)
    assert found is not None
    assert found["run"] != run


def test_another_input_under_a_key_is_warned_of(world: World, worker: Durable) -> None:
    told: list[str] = []
    with world.connect() as connection:
        connection.add_notice_handler(
            lambda one: told.append(f"{one.severity} {one.message_primary}")
        )
        connection.execute(START, ("w", '{"a": 1}', "k"))
        connection.execute(START, ("w", '{"a" :  1}', "k"))
        assert told == []
        connection.execute(START, ("w", '{"a": 2}', "k"))
    assert len(told) == 1
    assert "WARNING" in told[0]
    assert "has the key 'k' already, and another input" in told[0]


def test_ids_grow_with_time_as_those_of_python_do(world: World, worker: Durable) -> None:
    runs = [start(world), worker.start("w").id, start(world)]
    assert [(run.version, run.variant) for run in runs] == [(7, "specified in RFC 4122")] * 3
    made = [run.int >> 80 for run in runs]
    assert made == sorted(made)
    assert len({run.int & (2**62 - 1) for run in runs}) == 3


def test_the_newest_stored_version_is_started(world: World) -> None:
    for version in (2, 1):

        def define(durable: Durable, version: int = version) -> None:
            durable.workflow("w", version=version).step(lambda _: None, name=f"v{version}")

        world.worker(define).run_factory.outline("w", None)
    start(world)
    assert world.one("SELECT version FROM durable_run") == 2
    assert world.one("SELECT node FROM durable_token") == "v2"


def test_the_app_s_queue_is_that_of_a_run_started_in_sql(world: World) -> None:
    worker = world.worker(defining([], "a"), queue="other")
    worker.run_factory.outline("w", None)
    start(world)
    assert world.one("SELECT queue FROM durable_token") == "other"
    assert world.one("SELECT queue FROM durable_outbox") == "other"

    # A worker of a later deploy says another.
    world.worker(defining([], "a"), queue="third").run_factory.outline("w", None)
    start(world, key="later")
    assert world.rows("SELECT FROM durable_token WHERE queue = 'third'") == [{}]


def refused(world: World, *arguments: Any) -> psycopg.Error:
    before = world.counts()
    with pytest.raises(psycopg.Error) as caught:
        start(world, *arguments)
    assert world.counts() == before
    return caught.value


TOO_LONG = json.dumps("x" * 2000)

REFUSED = {
    "no workflow": ((None, "{}", None), "22004", "workflow is NULL", "name of a workflow"),
    "no input": (("w", None, None), "22004", "input is NULL", "'null'::json"),
    "unknown": (("v", "{}", None), "42704", "Unknown workflow 'v'", "Stored are: w."),
    "empty key": (("w", "{}", ""), "22023", "key is 0 characters", "1 to 500 characters"),
    "long key": (("w", "{}", "k" * 501), "22023", "key is 501 characters", "1 to 500"),
    "wide key": (("w", "{}", "é" * 501), "22023", "key is 501 characters", "1000 bytes"),
    "large": (("w", TOO_LONG, None), "54000", "The input of w is 2002 bytes", "a reference"),
    "NUL": (("w", r'"\u0000"', None), "22P05", "unsupported Unicode", None),
    "half a pair": (("w", r'"\ud83d"', None), "22P02", "invalid input syntax", None),
    "too deep": (("w", "[" * 101 + "]" * 101, None), "22023", "deeper than 100", "a reference"),
    "a deep object": (
        ("w", '{"a":' * 101 + "1" + "}" * 101, None),
        "22023",
        "deeper than 100",
        "a reference",
    ),
    "infinity": (("w", "[-1e400]", None), "22003", "infinity", "as a string"),
}


def test_as_much_may_be_nested_as_in_python(world: World) -> None:
    worker = world.worker(defining([], "a"))
    deepest: Any = 1
    for _ in range(100):
        deepest = [deepest]
    worker.start("w", deepest)
    run = worker.run(start(world, "w", json.dumps(deepest)))
    assert run.status().input == deepest
    with pytest.raises(PayloadError, match="100 levels"):
        worker.start("w", [deepest])


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_with_a_state_and_a_hint(world: World, name: str) -> None:
    """P12"""
    arguments, state, message, hint = REFUSED[name]
    world.worker(defining([], "a"), max_payload_bytes=2001).run_factory.outline("w", None)
    error = refused(world, *arguments)
    assert error.sqlstate == state
    assert message in (error.diag.message_primary or "")
    assert hint is None or hint in (error.diag.message_hint or "")


def test_an_unknown_workflow_says_so_where_none_is_stored(world: World) -> None:
    """P12"""
    assert "Stored are: none." in str(refused(world, "w", "{}", None).diag.message_hint)


def test_a_key_that_this_transaction_cannot_see_is_a_serialization_failure(
    world: World, worker: Durable
) -> None:
    with psycopg.connect(conninfo(world.url)) as old:
        old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        old.execute("SELECT count(*) FROM durable_run")
        start(world, key="k")
        with pytest.raises(psycopg.errors.SerializationFailure):
            old.execute(START, ("w", "{}", "k"))


@pytest.fixture
def elsewhere(fresh: World) -> tuple[World, Durable, str]:
    """A schema that is on nobody's path, with a name that has to be quoted, and is cut."""
    schema = """Else "Where"'s """ + "x" * 40
    durable = fresh.worker(defining([], "a"), schema=schema)
    durable.migrate()
    durable.run_factory.outline("w", None)
    return fresh, durable, schema


def test_the_functions_need_no_search_path_and_wake_the_relays_of_their_schema(
    elsewhere: tuple[World, Durable, str],
) -> None:
    world, durable, schema = elsewhere
    with world.connect() as listener, world.connect() as caller:
        name = channel(schema)
        assert not name.startswith(CHANNEL + schema)
        listener.execute(text.SQL("LISTEN {}").format(text.Identifier(name)))
        caller.execute("SET search_path = pg_temp")
        call = text.SQL("SELECT {}.durable_start('w', '{{}}') AS run").format(
            text.Identifier(schema)
        )
        run = caller.execute(call).fetchone()
        assert [one.channel for one in listener.notifies(timeout=30, stop_after=1)] == [name]
    assert run is not None
    assert durable.status(run["run"]).status == "running"
    assert world.counts()["run"] == 0


def test_one_open_transaction_at_a_time_wakes_the_relays(world: World, worker: Durable) -> None:
    """A NOTIFY takes a lock on the whole database at commit, for which all others would queue."""
    with world.connect() as listener, psycopg.connect(conninfo(world.url)) as first:
        listener.execute(text.SQL("LISTEN {}").format(text.Identifier(channel("public"))))
        first.execute(START, ("w", "{}", None))
        start(world)
        assert list(listener.notifies(timeout=0, stop_after=1)) == []
        first.commit()
        assert len(list(listener.notifies(timeout=30, stop_after=1))) == 1
        start(world)
        assert len(list(listener.notifies(timeout=30, stop_after=1))) == 1


RIGHTS = """
GRANT USAGE ON SCHEMA public TO {role};
GRANT SELECT ON durable_definition TO {role};
GRANT SELECT, INSERT ON durable_run, durable_token, durable_inbox TO {role};
GRANT INSERT ON durable_outbox TO {role}
"""


def test_a_caller_needs_no_right_to_change_or_delete(world: World, worker: Durable) -> None:
    """What docs/how-to/start-from-sql.md has callers be granted."""
    role = unique("durable_test_caller")
    world.rows(f"CREATE ROLE {role}")
    with world.connect() as caller:
        caller.execute(f"SET ROLE {role}".encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            caller.execute(START, ("w", "{}", "k"))
        for grant in RIGHTS.format(role=role).split(";"):
            world.rows(grant)
        runs = [(caller.execute(START, ("w", "{}", "k")).fetchone() or {})["run"] for _ in "12"]
        caller.execute("SELECT durable_resume(%s, 'go', '1')", runs[:1])
        caller.execute("SELECT durable_cancel(%s)", runs[:1])
    world.rows(f"DROP OWNED BY {role}")
    world.rows(f"DROP ROLE {role}")
    world.drain(worker)
    assert worker.status(runs[1]).status == "cancelled"
