"""P7: `start`, `start_many` and `cancel` join the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from celery_durable import Durable
from celery_durable.errors import ConfigurationError, PayloadTooLarge
from tests.addresses import conninfo
from tests.integration.driving import World, defining, spawn
from tests.waiting import wait_until

Joined = tuple[Any, Callable[[], None], Callable[[], None]]
"""What is handed over as `session=`, and how its transaction is committed and rolled back."""


@contextmanager
def orm_session(url: str) -> Iterator[Joined]:
    engine = sa.create_engine(url)
    with Session(engine) as session:
        yield session, session.commit, session.rollback
    engine.dispose()


@contextmanager
def registry_of_sessions(url: str) -> Iterator[Joined]:
    engine = sa.create_engine(url)
    session = scoped_session(sessionmaker(engine))
    yield session, session.commit, session.rollback
    session.remove()
    engine.dispose()


@contextmanager
def core_connection(url: str) -> Iterator[Joined]:
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        yield connection, connection.commit, connection.rollback
    engine.dispose()


@contextmanager
def psycopg_connection(url: str) -> Iterator[Joined]:
    with psycopg.connect(conninfo(url)) as connection:
        yield connection, connection.commit, connection.rollback


@contextmanager
def psycopg_with_another_row_factory(url: str) -> Iterator[Joined]:
    with psycopg.connect(conninfo(url)) as connection:
        connection.row_factory = psycopg.rows.scalar_row
        yield connection, connection.commit, connection.rollback


def of_driver(name: str) -> Any:
    @contextmanager
    def session_of_driver(url: str) -> Iterator[Joined]:
        pytest.importorskip(name)
        parsed = sa.make_url(url).set(drivername=f"postgresql+{name}")
        options = {}
        if name == "pg8000" and (folder := parsed.query.get("host")):
            parsed = parsed.set(query={})
            options["unix_sock"] = f"{folder}/.s.PGSQL.{parsed.port or 5432}"
        engine = sa.create_engine(parsed, connect_args=options)
        with Session(engine) as session:
            yield session, session.commit, session.rollback
        engine.dispose()

    session_of_driver.__name__ = f"{name}_session"
    return session_of_driver


WAYS = [
    orm_session,
    registry_of_sessions,
    core_connection,
    psycopg_connection,
    psycopg_with_another_row_factory,
    of_driver("psycopg2"),
    of_driver("pg8000"),
]

each_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


@pytest.fixture
def durable(world: World, log: list[str]) -> Durable:
    return world.worker(defining(log, "a"))


@each_way
def test_a_start_that_is_rolled_back_leaves_nothing(
    world: World, durable: Durable, log: list[str], way: Any
) -> None:
    """P7"""
    with way(world.url) as (session, _, rollback):
        durable.start("w", {"n": 1}, session=session)
        durable.start("w", {"n": 1}, session=session, key="k", tags={"a": "b"}, delay=5)
        durable.start_many("w", [{}, {}], session=session)
        rollback()

    assert world.drain(durable) == 0
    assert log == []
    assert set(world.counts("definition").values()) == {0}


@each_way
def test_a_start_that_is_committed_runs(
    world: World, durable: Durable, log: list[str], way: Any
) -> None:
    """P7"""
    with way(world.url) as (session, commit, _):
        run = durable.start("w", {"text": "ä%s:x", "n": 1.5}, session=session, priority=3)
        many = durable.start_many("w", [None, [1]], session=session, tags={"a": "b"})
        assert world.drain(durable) == 0, "nobody sees it before the commit"
        commit()

    world.drain(durable)
    assert log == ["a"] * 3
    assert {one.status().status for one in (run, *many)} == {"completed"}
    (stored,) = world.rows("SELECT input, priority FROM durable_run WHERE id = %s", run.id)
    assert stored == {"input": {"text": "ä%s:x", "n": 1.5}, "priority": 3}


@each_way
def test_what_is_called_inside_of_joining_is_rolled_back_with_it(
    world: World, durable: Durable, log: list[str], way: Any
) -> None:
    """P7"""
    waiting, other = (durable.start("w", {"n": n}, delay=60) for n in range(2))
    with way(world.url) as (session, commit, rollback):
        with durable.joining(session):
            run = durable.start("w", {"n": 2})
            durable.start_many("w", [{}, {}])
            durable.cancel(waiting.id)
            assert durable.resume(other.id, "any").outcome == "stored"
            assert world.one("SELECT count(*) FROM durable_run") == 2
            rollback()
            assert waiting.status().status == "pending"
            again = durable.start("w", {"n": 3})
            commit()
        outside = durable.start("w", {"n": 4})
        assert {one.run_id for one in durable.list()} == {
            waiting.id,
            other.id,
            again.id,
            outside.id,
        }
    assert run.id not in {one.run_id for one in durable.list()}


@each_way
def test_a_start_with_a_key_joins_too(world: World, durable: Durable, way: Any) -> None:
    """P7: the second one finds the first, in the same transaction and after it."""
    with way(world.url) as (session, commit, _):
        first = durable.start("w", {}, key="k", session=session)
        second = durable.start("w", {}, key="k", session=session)
        commit()
        third = durable.start("w", {}, key="k", session=session)
        commit()

    assert [first.created, second.created, third.created] == [True, False, False]
    assert first == second == third
    assert world.counts()["run"] == 1
    assert world.hints() == 1


@each_way
@pytest.mark.parametrize("commits", [True, False])
def test_a_cancel_joins_too(
    world: World, durable: Durable, log: list[str], way: Any, commits: bool
) -> None:
    """P7: it counts from the commit on; until then, and after a rollback, the run goes on."""
    run = durable.start("w", {})
    with way(world.url) as (session, commit, rollback):
        durable.cancel(run.id, session=session, reason="changed my mind")
        assert run.status().status == "running"
        if commits:
            commit()
        else:
            rollback()

    world.drain(durable)
    assert run.status().status == ("cancelled" if commits else "completed")
    assert log == ([] if commits else ["a"])


@each_way
def test_the_callers_own_work_and_the_run_are_one(world: World, durable: Durable, way: Any) -> None:
    """P7: a failed start leaves the caller's transaction usable."""
    world.rows("CREATE TABLE orders (id integer)")
    insert = "INSERT INTO orders VALUES (1)"
    with way(world.url) as (session, commit, _):
        if isinstance(session, psycopg.Connection):
            session.execute(insert)
        else:
            session.execute(sa.text(insert))
        with pytest.raises(PayloadTooLarge):
            durable.start("w", "x" * 2_000_000, session=session)
        durable.start("w", {}, session=session)
        commit()

    assert world.one("SELECT count(*) FROM orders") == 1
    assert world.counts()["run"] == 1


def test_a_connection_that_commits_every_statement_is_no_transaction(
    world: World, durable: Durable
) -> None:
    """P7, P12: unless one is open on it."""
    with psycopg.connect(conninfo(world.url), autocommit=True) as connection:
        with pytest.raises(ConfigurationError, match="autocommit"):
            durable.start("w", {}, session=connection)
        with connection.transaction():
            durable.start("w", {}, session=connection)

    assert world.counts()["run"] == 1


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_neither_is_one_of_sqlalchemy(world: World, durable: Durable, driver: str) -> None:
    """P7, P12"""
    url = sa.make_url(world.url).set(drivername=f"postgresql+{driver}")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection, Session(engine) as session:
        for joined in (connection, session):
            with pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
                durable.start("w", {}, session=joined)
    engine.dispose()
    assert world.counts()["run"] == 0


@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_a_second_start_with_a_key_waits_for_the_first_callers_transaction(
    world: World, durable: Durable, ending: str
) -> None:
    """P7: then it returns the first run, or is the first itself."""
    with psycopg.connect(conninfo(world.url)) as caller:
        first = durable.start("w", {}, key="k", session=caller)
        second = spawn(lambda: durable.start("w", {}, key="k"))
        wait_until(world.waiting_for_locks, message="the second start to wait")
        assert not second.done()
        getattr(caller, ending)()

    run = second.result(20)
    assert run.created is (ending == "rollback")
    assert (run == first) is (ending == "commit")
    assert world.counts()["run"] == 1


def test_a_key_that_the_callers_transaction_cannot_see_is_an_error_that_says_so(
    world: World, durable: Durable
) -> None:
    """P7: under REPEATABLE READ the run of another may be invisible."""
    with psycopg.connect(conninfo(world.url)) as caller:
        caller.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        caller.execute("SELECT 1 FROM durable_run")
        durable.start("w", {}, key="k")
        with pytest.raises((ConfigurationError, psycopg.errors.SerializationFailure)):
            durable.start("w", {}, key="k", session=caller)


def test_what_is_no_transaction_is_refused(world: World, durable: Durable) -> None:
    """P12"""
    engine = sa.create_engine(world.url)
    for wrong in (engine, "session", object(), 1, sessionmaker(engine)):
        with pytest.raises(ConfigurationError, match="session= takes an SQLAlchemy Session"):
            durable.start("w", {}, session=wrong)
    assert world.counts()["run"] == 0


def test_a_transaction_on_a_database_without_the_tables_is_told_so(
    durable: Durable, empty_database_url: str
) -> None:
    """P12"""
    engine = sa.create_engine(empty_database_url)
    with Session(engine) as session, pytest.raises(ConfigurationError, match="durable runs are in"):
        durable.start("w", {}, session=session)
    engine.dispose()


def test_a_session_of_another_kind_of_database_is_refused_in_words(world: World) -> None:
    """P12"""
    worker = world.worker(defining([], "a"))
    engine = sa.create_engine("sqlite://")
    with Session(engine) as session:
        with pytest.raises(ConfigurationError, match="connected to sqlite, and the tables"):
            worker.start("w", session=session)
        with (
            worker.joining(session),
            pytest.raises(ConfigurationError, match="connected to sqlite"),
        ):
            worker.send_task(worker.app.signature("tell"))
    engine.dispose()


@pytest.mark.parametrize("kind", ["session", "psycopg"])
def test_a_transaction_of_another_database_with_the_tables_is_refused(
    world: World, fresh: World, kind: str
) -> None:
    """P7, P12: rows there would be found by nobody, or by another app."""
    worker = world.worker(defining([], "a"))
    engine = sa.create_engine(fresh.url)
    raw = psycopg.connect(conninfo(fresh.url))
    with Session(engine) as session:
        elsewhere: object = session if kind == "session" else raw
        for _ in range(2):
            with pytest.raises(ConfigurationError, match=r"database .*, and durable runs are in"):
                worker.start("w", session=elsewhere)
        with worker.joining(elsewhere), pytest.raises(ConfigurationError, match="durable runs are"):
            worker.send_task(worker.app.signature("tell"))
    raw.close()
    engine.dispose()
    assert fresh.counts() == dict.fromkeys(fresh.counts(), 0)


def test_each_engine_is_looked_at_once(world: World) -> None:
    """P11: what joining costs is paid by the first call."""
    worker = world.worker(defining([], "a"))
    engine = sa.create_engine(world.url)
    seen: list[str] = []

    @sa.event.listens_for(engine, "before_cursor_execute")
    def note(_: object, __: object, statement: str, *___: object) -> None:
        seen.append(statement)

    for _ in range(2):
        with Session(engine) as session:
            worker.start("w", session=session)
            session.commit()
    assert sum("pg_postmaster_start_time" in one for one in seen) == 1
    engine.dispose()
