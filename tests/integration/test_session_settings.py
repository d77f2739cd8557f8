"""Whatever a role, a database or a server sets for its sessions, the library works."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from celery_durable import Durable
from celery_durable.database import opening
from tests.addresses import conninfo
from tests.integration.driving import World
from tests.services import unique

SETTINGS: Mapping[str, str] = {
    "DateStyle": "'German, DMY'",
    "IntervalStyle": "'sql_standard'",
    "TimeZone": "'<+03>-03'",
    "extra_float_digits": "-15",
    "client_encoding": "'LATIN1'",
    "standard_conforming_strings": "off",
    "escape_string_warning": "off",
    "bytea_output": "'escape'",
    "xmloption": "'document'",
    "default_transaction_isolation": "'serializable'",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "statement_timeout": "'150ms'",
    "transaction_timeout": "'150ms'",
    "lock_timeout": "'1ms'",
    "idle_in_transaction_session_timeout": "'1ms'",
    "idle_session_timeout": "'100ms'",
    "row_security": "off",
    "synchronous_commit": "off",
    "search_path": "shadow, pg_catalog",
    "plan_cache_mode": "'force_generic_plan'",
}

SHADOW = """
CREATE SCHEMA shadow;
CREATE FUNCTION shadow.clock_timestamp() RETURNS timestamptz LANGUAGE sql
    AS $$ SELECT 'infinity'::timestamptz $$
"""


class Role:
    """A role whose sessions begin with settings of its own."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.url = sa.make_url(world.url).set(username=name).render_as_string(hide_password=False)

    def set(self, setting: str, value: str) -> None:
        is_known = "SELECT count(*) FROM pg_settings WHERE name = lower(%s) OR name = %s"
        if self.world.one(is_known, setting, setting):
            self.world.rows(f"ALTER ROLE {self.name} SET {setting} = {value}")


@pytest.fixture
def role(world: World) -> Iterator[Role]:
    name = unique("role")
    world.rows(f"CREATE ROLE {name} LOGIN SUPERUSER")
    for statement in SHADOW.split(";\n"):
        world.rows(statement)
    yield Role(world, name)
    world.end_workers()
    world.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", name)
    world.rows("DROP SCHEMA shadow CASCADE")
    world.rows(f"DROP ROLE {name}")


def define(durable: Durable) -> None:
    def limited(ctx: Any) -> str:
        return "€ grün"

    workflow = durable.workflow("w").step(limited, timeout=12.345678901)
    workflow.wait_for_signal("go").sleep("nap", timedelta(milliseconds=1))
    workflow.map("m", over=lambda _: [1, 2], handler=lambda ctx: ctx.item)


def record_slowly(world: World) -> None:
    """Each record takes longer than the role's timeouts."""
    slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
    world.rows(f"{slow} $$ BEGIN PERFORM pg_sleep(0.2); RETURN NULL; END $$")
    world.rows("CREATE TRIGGER slow AFTER INSERT ON durable_journal EXECUTE FUNCTION public.slow()")


def go_through(world: World, worker: Durable) -> None:
    """A run from its start to its end."""
    run = worker.start("w", {"price": "3 €"}, key="schlüssel", tags={"größe": "€"})
    world.drain(worker)
    before = run.status()
    run.resume("go", {"by": "Łukasz"})
    world.drain(worker)
    world.let_time_pass(1)
    world.drain(worker)
    result = {"limited": "€ grün", "go": {"by": "Łukasz"}, "m": [1, 2]}
    assert {key: value for key, value in run.result(0).items() if value is not None} == result
    now = datetime.now(UTC)
    assert abs(now - before.created_at) < timedelta(minutes=1)
    for entry in run.history():
        assert abs(now - entry.finished_at) < timedelta(minutes=1)
    worker.recover()


@pytest.mark.parametrize("setting", [*SETTINGS, "all"])
def test_a_run_goes_through_whatever_a_role_sets(world: World, role: Role, setting: str) -> None:
    chosen = SETTINGS if setting == "all" else {setting: SETTINGS[setting]}
    worker = world.worker(define, database_url=role.url)
    for name, value in chosen.items():
        role.set(name, value)
    if setting in ("statement_timeout", "transaction_timeout", "all"):
        record_slowly(world)
    go_through(world, worker)


def test_what_our_statements_rely_on_is_set_on_our_connections(world: World, role: Role) -> None:
    for name, value in SETTINGS.items():
        role.set(name, value)
    worker = world.worker(database_url=role.url)
    with worker.database.autocommit() as connection:
        for name, value in opening.OURS.items():
            found = connection.raw.execute(f"SELECT current_setting('{name}', true)".encode())
            (now,) = found.fetchone() or (None,)
            expected = "pg_catalog, shadow, pg_catalog" if name == "search_path" else value
            assert now is None or str(now).startswith(expected), name


def test_our_transactions_are_read_committed(world: World, role: Role) -> None:
    """What happens when two statements meet at one row is thought out for that."""
    role.set("default_transaction_isolation", "serializable")
    worker = world.worker(database_url=role.url)
    asked = "SHOW transaction_isolation"
    with worker.database.transaction() as connection:
        assert connection.raw.execute(asked).fetchone() == ("read committed",)
    with worker.database.session() as (session, _):
        assert isinstance(session, Session)
        assert session.scalar(sa.text(asked)) == "read committed"


@pytest.mark.parametrize("promised", ["local", "remote_apply"])
def test_a_role_may_promise_more_for_its_commits(world: World, role: Role, promised: str) -> None:
    """Only `off` would lose what is recorded."""
    role.set("synchronous_commit", promised)
    worker = world.worker(database_url=role.url)
    with worker.database.autocommit() as connection:
        assert connection.raw.execute("SHOW synchronous_commit").fetchone() == (promised,)


def test_a_handler_that_shares_our_transaction_has_the_timeouts_and_the_path_of_its_role(
    world: World, role: Role
) -> None:
    """P6: and the engine's part of the transaction has not."""
    seen: dict[str, str] = {}
    names = ("statement_timeout", "search_path", "DateStyle", "synchronous_commit")

    def book(ctx: Any) -> None:
        for name in names:
            seen[name] = ctx.session.execute(sa.text(f"SHOW {name}")).scalar_one()

    def one_step(durable: Durable) -> None:
        durable.workflow("t").step(book, transactional=True)

    worker = world.worker(one_step, database_url=role.url)
    role.set("statement_timeout", "'151ms'")
    role.set("search_path", "shadow, public")
    role.set("DateStyle", "'German, DMY'")
    role.set("synchronous_commit", "off")
    record_slowly(world)
    run = worker.start("t", {})
    world.drain(worker)
    assert seen == {
        "statement_timeout": "151ms",
        "search_path": "shadow, public",
        "DateStyle": "ISO, DMY",
        "synchronous_commit": "on",
    }
    assert run.status().status == "completed"
    assert [entry.attempt for entry in run.history()] == [1]


READABLE = ("DateStyle", "IntervalStyle", "TimeZone", "extra_float_digits", "client_encoding")


@pytest.mark.parametrize("kind", ["psycopg", "sqlalchemy"])
def test_what_joins_a_callers_transaction_bears_the_callers_settings(
    world: World, role: Role, kind: str
) -> None:
    """P7"""
    client = world.worker(define)
    for name in READABLE:
        role.set(name, SETTINGS[name])

    def use(session: Any) -> None:
        run = client.start("w", {}, key="a", delay=timedelta(hours=1), session=session)
        assert client.start("w", {}, key="a", session=session) == run
        assert client.resume(run.id, "go", {"n": 1}, session=session).outcome == "stored"
        client.cancel(run.id, reason="nö", session=session)

    if kind == "psycopg":
        with psycopg.connect(conninfo(role.url)) as connection:
            use(connection)
    else:
        engine = sa.create_engine(role.url)
        with Session(engine) as session:
            use(session)
            session.commit()
        engine.dispose()
    (run,) = client.list()
    world.drain(client)
    assert client.run(run.run_id).status().status == "cancelled"
