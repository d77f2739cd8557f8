"""P7 under Django: starts, signals and cancels join the atomic block that is open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.db import IntegrityError, connection, connections, transaction
from django.db.transaction import TransactionManagementError

from celery_durable import ConfigurationError, Durable
from tests.contrib.projects import DjangoWorld, at_home
from tests.integration.driving import defining, spawn
from tests.services import unique


@pytest.fixture
def durable(world: DjangoWorld, log: list[str]) -> Durable:
    return world.worker(defining(log, "a"))


@pytest.fixture
def log() -> list[str]:
    """What the handlers of a test leave."""
    return []


def started(world: DjangoWorld) -> int:
    return int(world.one("SELECT count(*) FROM durable_run"))


@pytest.mark.parametrize(
    "session",
    [
        pytest.param(lambda: None, id="by default"),
        pytest.param(lambda: "default", id="an alias"),
        pytest.param(lambda: connection, id="the proxy"),
        pytest.param(lambda: connections["default"], id="a connection"),
        pytest.param(lambda: connection.connection, id="the connection of psycopg"),
    ],
)
def test_a_start_inside_of_atomic_is_committed_or_rolled_back_with_it(
    world: DjangoWorld, durable: Durable, session: Callable[[], Any]
) -> None:
    """P7"""
    with transaction.atomic():
        connection.ensure_connection()
        durable.start("w", {}, session=session())
        durable.start("w", {}, session=session(), key="k", tags={"a": "b"})
        durable.start_many("w", [{}, {}], session=session())
        assert started(world) == 0, "nobody sees it before the commit"
        transaction.set_rollback(True)
    assert started(world) == 0

    with transaction.atomic():
        run = durable.start("w", {"n": 1}, session=session(), key="k")
    assert world.drain(durable) == 1
    assert run.status().status == "completed"


def test_a_start_outside_of_atomic_is_committed_at_once(
    world: DjangoWorld, durable: Durable
) -> None:
    durable.start("w", {})
    assert started(world) == 1


def test_a_savepoint_takes_its_starts_with_it(world: DjangoWorld, durable: Durable) -> None:
    """P7"""
    with transaction.atomic():
        durable.start("w", {}, key="kept")
        with transaction.atomic():
            durable.start("w", {}, key="lost")
            transaction.set_rollback(True)

    assert [run.key for run in durable.list()] == ["kept"]


def test_a_cancel_and_a_signal_are_rolled_back_too(world: DjangoWorld, durable: Durable) -> None:
    """P7"""
    run = durable.start("w", {})
    with transaction.atomic():
        run.cancel()
        run.resume("s")
        transaction.set_rollback(True)

    assert world.counts()["inbox"] == 0
    world.drain(durable)
    assert run.status().status == "completed"


def test_what_was_started_in_a_block_is_found_there(world: DjangoWorld, durable: Durable) -> None:
    """By its key, in lists, and with its status: so a test's transaction can be looked into."""
    with transaction.atomic():
        run = durable.start("w", {"n": 1}, key="k")
        assert durable.run(workflow="w", key="k").id == run.id
        assert run.status().input == {"n": 1}
        assert [one.run_id for one in durable.list()] == [run.id]
        assert run.history() == []
        assert durable.why(run.id).reasons
        transaction.set_rollback(True)
    assert durable.list() == []


def test_times_have_a_zone_whatever_django_does_with_its_own(
    world: DjangoWorld, durable: Durable, settings_of_django: Any
) -> None:
    """With USE_TZ False, Django cuts it off on its connection."""
    settings_of_django(USE_TZ=False)
    connection.close()
    with transaction.atomic():
        run = durable.start("w", {})
        assert run.status().created_at.tzinfo is not None
    connection.close()


def test_nothing_is_written_where_django_is_going_to_roll_back(
    world: DjangoWorld, durable: Durable
) -> None:
    """P12"""
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(TransactionManagementError):
            durable.start("w", {})
    assert started(world) == 0


def test_an_error_of_ours_marks_the_block_for_a_rollback(
    world: DjangoWorld, durable: Durable
) -> None:
    """As one of the ORM does: Postgres takes nothing more in that transaction."""
    world.trigger("BEFORE INSERT ON durable_run", "RAISE EXCEPTION 'closed today';")
    with transaction.atomic():
        with pytest.raises(psycopg.errors.RaiseException, match="closed today"):
            durable.start("w", {})
        with pytest.raises(TransactionManagementError):
            durable.start("w", {})
    world.drop_trigger("durable_run")
    world.rows("DROP FUNCTION of_the_test")
    assert not connection.in_atomic_block


def test_an_alias_without_a_transaction_is_refused(world: DjangoWorld, durable: Durable) -> None:
    """P12"""
    with pytest.raises(ConfigurationError, match="no transaction is open there"):
        durable.start("w", {}, session="default")
    assert started(world) == 0


def test_an_alias_that_does_not_exist_is_refused(world: DjangoWorld, durable: Durable) -> None:
    """P12"""
    with pytest.raises(ConfigurationError, match="Did you mean 'default'"):
        durable.start("w", {}, session="defualt")


def test_a_transaction_of_another_thread_is_not_joined(
    world: DjangoWorld, durable: Durable
) -> None:
    with transaction.atomic():
        spawn(durable.start, "w", {}).result(20)
        transaction.set_rollback(True)
    assert started(world) == 1


def test_an_async_start_is_committed_at_once(world: DjangoWorld, durable: Durable) -> None:
    """Django has no async transactions."""
    asyncio.run(durable.astart("w", {}))
    assert started(world) == 1


def test_an_integrity_error_of_the_caller_takes_the_start_with_it(
    world: DjangoWorld, durable: Durable
) -> None:
    """P7"""
    from orders.models import Order  # type: ignore[import-not-found]  # noqa: PLC0415

    @transaction.atomic
    def place_twice() -> None:
        order = Order.objects.create(item="lamp")
        durable.start("w", {"order": order.pk})
        Order.objects.create(pk=order.pk, item="again")

    with pytest.raises(IntegrityError):
        place_twice()
    assert started(world) == 0


def test_a_url_in_djangos_settings_is_refused(world: DjangoWorld, settings_of_django: Any) -> None:
    """P12: a test would write into the database that it names."""
    worker = world.worker(database_url="postgresql+psycopg://localhost/real")
    worker.app.namespace = "CELERY"
    settings_of_django(CELERY_DURABLE_DATABASE_URL="postgresql+psycopg://localhost/real")
    with pytest.raises(ConfigurationError, match="Remove CELERY_DURABLE_DATABASE_URL"):
        worker.start("w", {})


def test_a_url_set_in_code_is_another_database_and_none_of_djangos(
    world: DjangoWorld, django_database_url: str
) -> None:
    client = world.worker(database_url=django_database_url)
    assert client.framework is None


@pytest.mark.parametrize(
    ("alias", "error"),
    [("defualt", "DATABASES has no 'defualt'. Did you mean 'default'"), ("lite", "SQLite")],
)
def test_an_alias_that_cannot_hold_the_tables_is_refused(
    world: DjangoWorld, alias: str, error: str
) -> None:
    """P12"""
    connections.settings["lite"] = {
        **connection.settings_dict,
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": ":memory:",
    }
    try:
        with pytest.raises(ConfigurationError, match=error):
            _ = at_home(django_alias=alias).database
    finally:
        del connections.settings["lite"]


def test_the_address_is_that_of_the_alias_with_its_options(
    world: DjangoWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = unique("a role")
    options = {
        "sslmode": "prefer",
        "options": "-c work_mem=5MB",
        "isolation_level": 2,
        "application_name": "the shop",
        "assume_role": role,
    }
    world.rows(f'CREATE ROLE "{role}" SUPERUSER')
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)
    worker = world.worker()
    try:
        with worker.database.autocommit() as ours:
            asked = ("SHOW work_mem", "SHOW application_name", "SELECT current_user")
            shown = [ours.raw.execute(query).fetchone() for query in asked]
    finally:
        worker.database.close()
        world.rows(f'DROP ROLE "{role}"')
    assert shown == [("5MB",), ("the shop",), (role,)]


def test_a_connection_that_is_too_old_is_closed_around_a_unit(
    world: DjangoWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Django does around a request, before it and after it."""
    seen: list[Any] = []
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)
    connection.close()
    connection.ensure_connection()
    before = connection.connection

    def look(ctx: Any) -> None:
        seen.append(connection.connection)
        connection.ensure_connection()

    worker = world.worker(lambda d: d.workflow("w").step(look))
    worker.start("w", {})
    world.drain(worker)

    assert before.closed
    assert seen == [None]
    assert connection.connection is None
