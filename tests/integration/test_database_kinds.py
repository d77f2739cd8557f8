"""Which databases, roles and schemas the library works with, and what it says of others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from celery_durable import Durable, RetryPolicy
from celery_durable.database import schema
from celery_durable.database.notify import channel
from celery_durable.engine import loop
from celery_durable.errors import ConfigurationError, DatabaseUnavailable, SchemaOutOfDate
from celery_durable.store.tables import lock_numbers
from tests.addresses import conninfo
from tests.integration.commanding import Cli, assert_refused
from tests.integration.driving import World, defining, error_of, make_durable
from tests.integration.relaying import Recorder, Relays, is_listening
from tests.services import PostgresServer, unique
from tests.waiting import wait_until

NAMES = {
    "apostrophe": "it's",
    "percent": "100%s",
    "quotes": 'a "quoted" one',
    "dot": "a.b",
    "braces": "a {b}",
    "capitals": "Mixed Case",
    "colon": "a :b",
    "backslash": "a\\b",
    "letters": "größe",
    "long": "s" * 63,
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_schema_may_be_called_as_postgres_allows(world: World, relays: Relays, name: str) -> None:
    log: list[str] = []
    worker = world.worker(defining(log, "a", "b"), schema=name, poll_interval=600)
    worker.migrate()
    worker.migrate()
    schema.check(worker.database.engine, name)
    run = worker.start("w", {}, key="k")
    worker.engine.advance(token_of(worker, name))
    assert log == ["a", "b"]
    assert run.status().status == "completed"
    worker.recover()

    recorder = Recorder()
    relays.run(worker, recorder)
    wait_until(lambda: is_listening(world), message="the relay to listen")
    again = worker.start("w", {})
    wait_until(recorder.tokens, message="the relay to be woken")
    assert again.status().status == "running"
    relays.made[0].stop()
    assert told(worker, name), "a notification that Postgres takes"


def told(worker: Durable, name: str) -> bool:
    """Whether somebody who listens on the schema's channel hears of a notification."""
    with closing(worker.database.dedicated()) as ear:
        ear.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(channel(name))))
        worker.notify._last_sent = 0.0
        worker.notify()
        return any(ear.notifies(timeout=10, stop_after=1))


def token_of(worker: Durable, name: str) -> Any:
    """The only token, whose hint is taken."""
    quoted = psycopg.sql.Identifier(name)
    with worker.database.autocommit() as connection:
        delete = psycopg.sql.SQL("DELETE FROM {}.durable_outbox RETURNING token_id")
        (row,) = connection.raw.execute(delete.format(quoted)).fetchall()
    return row[0]


@pytest.fixture
def encoded(postgres: PostgresServer, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a database with the encoding that the test names."""
    name = unique("durable_test_encoded")
    with psycopg.connect(conninfo(postgres.admin_url), autocommit=True) as connection:
        create = f"CREATE DATABASE {name} ENCODING '{request.param}' LC_COLLATE 'C' LC_CTYPE 'C'"
        connection.execute(f"{create} TEMPLATE template0".encode())
    yield postgres.url(name)
    postgres.drop(name)


@pytest.mark.parametrize("encoded", ["SQL_ASCII", "LATIN1"], indirect=True)
def test_a_database_that_cannot_hold_every_text_is_refused(encoded: str) -> None:
    """P12: by `migrate`, at a worker's start, and by whoever asks it."""
    durable = make_durable(encoded, defining([], "a"))
    for ask in (
        durable.migrate,
        durable.list,
        durable.liveness.worker_id,
        lambda: schema.check(durable.database.engine, "public"),
    ):
        with pytest.raises(ConfigurationError, match=r"has the encoding .* ENCODING 'UTF8'"):
            ask()
    durable.database.close()


def test_a_database_that_is_not_there_is_not_called_lost(world: World) -> None:
    url = sa.make_url(world.url).set(database="no_such_database", password="hunter2")
    durable = make_durable(url.render_as_string(hide_password=False))
    for ask in (durable.list, durable.database.dedicated):
        with pytest.raises(DatabaseUnavailable) as told:
            ask()
        assert str(told.value).startswith("Postgres refuses the connection: ")
        assert '"no_such_database" does not exist' in str(told.value)
        assert "hunter2" not in str(told.value)


@pytest.fixture
def role(world: World) -> Iterator[str]:
    """A role without any right, in a world of one schema of its own."""
    name = unique("role")
    world.rows(f"CREATE ROLE {name} LOGIN")
    yield name
    world.end_workers()
    world.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", name)
    world.rows("DROP SCHEMA IF EXISTS ours CASCADE")
    world.rows(f"DROP OWNED BY {name}")
    world.rows(f"DROP ROLE {name}")


def url_of(world: World, role: str) -> str:
    return sa.make_url(world.url).set(username=role).render_as_string(hide_password=False)


def test_a_role_without_rights_is_refused_with_the_grants_that_are_missing(
    world: World, role: str
) -> None:
    """P12: and works once they are given, as they are named."""
    world.worker(schema="ours").migrate()
    log: list[str] = []
    worker = world.worker(defining(log, "a"), schema="ours", database_url=url_of(world, role))
    with pytest.raises(ConfigurationError, match=f"The role {role} lacks rights") as refused:
        schema.check(worker.database.engine, "ours")
    message = str(refused.value)
    assert f"GRANT USAGE ON SCHEMA ours TO {role};" in message
    assert f"GRANT USAGE ON SEQUENCE ours.{lock_numbers.name} TO {role};" in message
    for grant in message.partition("run: ")[2].split(";"):
        if grant.strip():
            world.rows(grant)
    schema.check(worker.database.engine, "ours")
    run = worker.start("w", {})
    worker.engine.advance(token_of(worker, "ours"))
    worker.start("w", {}, delay=60).cancel()
    worker.recover()
    assert run.status().status == "completed"


@pytest.mark.parametrize(
    ("revoked", "granted"),
    [
        ("INSERT ON ours.durable_journal", "GRANT INSERT ON ours.durable_journal TO"),
        ("SELECT ON ours.durable_alembic_version", "GRANT SELECT ON ours.durable_alembic_version"),
        ("USAGE ON SEQUENCE ours.durable_lock_number", "GRANT USAGE ON SEQUENCE ours.durable_lock"),
    ],
)
def test_one_right_that_is_missing_is_named(
    world: World, role: str, revoked: str, granted: str
) -> None:
    world.worker(schema="ours").migrate()
    for every in ("USAGE ON SCHEMA ours", "ALL ON ALL TABLES IN SCHEMA ours"):
        world.rows(f"GRANT {every} TO {role}")
    world.rows(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA ours TO {role}")
    worker = world.worker(schema="ours", database_url=url_of(world, role))
    schema.check(worker.database.engine, "ours")
    world.rows(f"REVOKE {revoked} FROM {role}")
    with pytest.raises(ConfigurationError) as refused:
        schema.check(worker.database.engine, "ours")
    assert granted in str(refused.value)
    assert str(refused.value).count("GRANT") == 1


def test_a_role_that_may_create_in_a_schema_can_migrate(world: World, role: str) -> None:
    world.rows("CREATE SCHEMA ours")
    world.rows(f"GRANT USAGE, CREATE ON SCHEMA ours TO {role}")
    worker = world.worker(schema="ours", database_url=url_of(world, role))
    worker.migrate()
    schema.check(worker.database.engine, "ours")


def test_a_right_that_is_lost_is_said_by_its_grant(world: World, role: str) -> None:
    """P12: to whoever asks."""
    world.worker(schema="ours").migrate()
    client = world.worker(schema="ours", database_url=url_of(world, role))
    with pytest.raises(ConfigurationError, match="permission denied for schema ours"):
        client.list()


def test_a_command_names_the_grants_that_are_missing(world: World, role: str, call: Cli) -> None:
    """P12"""
    world.worker(schema="ours").migrate()
    client = world.worker(schema="ours", database_url=url_of(world, role))
    for command in ("list", "recover"):
        assert_refused(call(client.app, command), 2, f"GRANT USAGE ON SCHEMA ours TO {role};")
    for every in ("USAGE ON SCHEMA ours", "ALL ON ALL TABLES IN SCHEMA ours"):
        world.rows(f"GRANT {every} TO {role}")
    world.rows(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA ours TO {role}")
    assert call(client.app, "list").code == 0


@pytest.mark.parametrize("name", ["ours", "not_there"])
def test_migrate_names_the_grant_that_is_missing(
    world: World, role: str, call: Cli, name: str
) -> None:
    """P12"""
    world.rows("CREATE SCHEMA ours")
    world.rows(f"GRANT USAGE ON SCHEMA ours TO {role}")
    worker = world.worker(schema=name, database_url=url_of(world, role))
    where = "SCHEMA ours" if name == "ours" else "DATABASE durable_test"
    with pytest.raises(ConfigurationError, match=f"GRANT CREATE ON {where}"):
        worker.migrate()
    assert_refused(call(worker.app, "migrate"), 2, f"GRANT CREATE ON {where}", f" TO {role};")


def test_row_level_security_is_warned_of(
    world: World, role: str, caplog: pytest.LogCaptureFixture
) -> None:
    world.worker(schema="ours").migrate()
    worker = world.worker(schema="ours", database_url=url_of(world, role))
    for every in ("USAGE ON SCHEMA ours", "ALL ON ALL TABLES IN SCHEMA ours"):
        world.rows(f"GRANT {every} TO {role}")
    world.rows(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA ours TO {role}")
    world.rows("ALTER TABLE ours.durable_token ENABLE ROW LEVEL SECURITY")
    schema.check(worker.database.engine, "ours")
    assert f"Row level security holds for the role {role} on durable_token" in caplog.text


def test_missing_tables_are_said_before_missing_rights(world: World, role: str) -> None:
    worker = world.worker(schema="nowhere", database_url=url_of(world, role))
    with pytest.raises(SchemaOutOfDate, match="durable migrate"):
        schema.check(worker.database.engine, "nowhere")


def never_write_a_result(world: World, code: str) -> None:
    """Postgres refuses to, and gives this reason."""
    refusal = f"RAISE EXCEPTION 'no room for this' USING ERRCODE = '{code}';"
    world.trigger("AFTER INSERT ON durable_journal", refusal, "NEW.outcome = 'completed'")


def test_a_result_that_postgres_refuses_is_a_failure_of_its_unit(world: World) -> None:
    """P12: with the reason, and not a crash that is repeated."""
    never_write_a_result(world, "54000")
    log: list[str] = []
    worker = world.worker(defining(log, "a", "b", retry=RetryPolicy(1)))
    run = worker.start("w", {})
    world.drain(worker)
    assert log == ["a"]
    snapshot = run.status()
    assert snapshot.status == "failed"
    assert snapshot.error is not None
    assert "no room for this" in snapshot.error.message
    assert snapshot.error.unit == "a"


def test_a_result_that_postgres_still_cannot_write_is_a_failure_of_its_unit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2: after the time that a commit waits; it would be the same after every execution."""
    monkeypatch.setattr(loop, "COMMITS_WITHIN", 0.0)
    never_write_a_result(world, "57014")
    log: list[str] = []
    worker = world.worker(defining(log, "a", "b", retry=RetryPolicy(1)), worker_ttl=0.5)
    run = worker.start("w", {})
    world.drain(worker)
    assert log == ["a"]
    assert "no room for this" in error_of(run).message
