"""Statements whose answers nobody waits for: what becomes of their connections."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from celery_durable import Durable
from celery_durable.database.connections import Database
from celery_durable.errors import DatabaseUnavailable
from tests.integration.driving import PATIENCE, World, spawn
from tests.waiting import wait_until

GET_LOCK = b"SELECT pg_advisory_lock(7)"
SESSIONS = (
    "SELECT pid FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = 'celery_durable'"
)


@pytest.fixture
def client(world: World) -> Durable:
    made = world.worker()
    made.list()  # it has one connection
    return made


@pytest.fixture
def database(client: Durable) -> Database:
    return client.database


@pytest.fixture
def unlock(world: World) -> Iterator[Callable[[], object]]:
    """Another session has the lock, until this is called."""
    with world.connect() as other:
        other.execute(GET_LOCK)
        yield lambda: other.execute("SELECT pg_advisory_unlock_all()")


def test_nobody_waits_for_the_answer_to_a_posted_statement(
    world: World, database: Database, unlock: Callable[[], object]
) -> None:
    posting = spawn(database.post, GET_LOCK, [])
    posting.result(PATIENCE)
    wait_until(lambda: world.waiting_for_locks() == 1, message="it to be executed")
    unlock()


def test_the_next_statement_comes_after_the_answer_to_the_one_before(
    world: World, client: Durable, database: Database, unlock: Callable[[], object]
) -> None:
    """On the same connection: no other is made for it."""
    database.post(GET_LOCK, [])
    looking = spawn(client.list)
    wait_until(lambda: world.waiting_for_locks() == 1, message="the lock to be waited for")
    unlock()
    assert looking.result(PATIENCE) == []
    assert len(world.rows(SESSIONS)) == 1


def test_a_posted_statement_that_fails_does_no_harm(
    world: World, client: Durable, database: Database
) -> None:
    database.post(b"SELECT 1 / $1::int", [b"0"])
    assert client.list() == []
    assert len(world.rows(SESSIONS)) == 1


def test_a_connection_that_is_lost_with_an_answer_is_replaced(
    world: World, client: Durable, database: Database, unlock: Callable[[], object]
) -> None:
    (session,) = world.rows(SESSIONS)
    database.post(GET_LOCK, [])
    wait_until(lambda: world.waiting_for_locks() == 1, message="the lock to be waited for")
    looking = spawn(client.list)
    world.rows("SELECT pg_terminate_backend(%s)", session["pid"])
    assert looking.result(PATIENCE) == []
    assert session not in world.rows(SESSIONS)
    unlock()


def test_a_statement_that_cannot_be_posted_says_so(world: World) -> None:
    """And whoever wakes relays ignores it."""
    nowhere = world.worker(database_url="postgresql+psycopg://127.0.0.1:1/nowhere")
    with pytest.raises(DatabaseUnavailable):
        nowhere.database.post(b"SELECT 1", [])
    nowhere.notify()
