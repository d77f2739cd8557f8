"""PgBouncer in transaction mode between the workers and Postgres.

With `durable_direct_database_url` a worker's death is told by its lock, as without a pooler;
without it, by its TTL. The TTL of either is such that only one of the two can be what was noticed.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from celery_durable import Durable
from celery_durable import run as runs
from celery_durable.database import ends
from celery_durable.database.notify import Listener
from celery_durable.errors import ConfigurationError, ResultTimeout, RunNotFound
from tests import services
from tests.addresses import conninfo
from tests.apps.shop import CONFIG
from tests.brokers.shop import SHOP, UNNOTICED, Shop, open_shop
from tests.cluster import WorkerNode
from tests.cluster.pgbouncer import POOL_SIZE, PgBouncer, pgbouncer, running_pgbouncer
from tests.integration.driving import LOCKED_HERE, World, all_at_once, end, make_durable, spawn
from tests.services import PostgresServer, RedisServer
from tests.transports import RedisBroker
from tests.waiting import wait_until

NEVER, SOON = 120.0, 3.0
"""TTLs in seconds: one that no test waits for, and one that a test can wait for."""


@pytest.fixture(scope="module")
def pooler(
    request: pytest.FixtureRequest,
    postgres: PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[PgBouncer]:
    command = pgbouncer()
    if command is None:
        services.missing(request.config, "PgBouncer", "install pgbouncer")
    directory = tmp_path_factory.mktemp("pgbouncer")
    server = conninfo(postgres.admin_url)
    with running_pgbouncer(command, directory, services.free_port(), server) as running:
        yield running


@pytest.fixture(scope="module")
def shop(
    pooler: PgBouncer,
    redis_server: RedisServer,
    postgres: PostgresServer,
    template_database: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Shop]:
    """Its ledger and its client go straight to Postgres, its workers through the pooler."""
    with (
        postgres.database("durable_test_pooled", template_database) as name,
        closing(RedisBroker(redis_server.url)) as broker,
    ):
        direct = postgres.url(name)
        with open_shop(broker, direct, tmp_path_factory.mktemp("pooled")) as opened:
            yield opened


def worker(shop: Shop, pooler: PgBouncer, **settings: Any) -> WorkerNode:
    """A worker of two processes behind the pooler."""
    config = {"durable_database_url": pooler.url(shop.database_url)}
    config |= {f"durable_{name}": value for name, value in settings.items()}
    shop.cluster.env[CONFIG] = json.dumps(config)
    return shop.worker()


def live_workers(shop: Shop, *columns: str) -> list[Any]:
    """These columns of the rows of workers that have not ended."""
    rows = shop.query(f"SELECT {', '.join(columns)} FROM durable_worker WHERE ended_at IS NULL")
    return list(rows)


@pytest.mark.usefixtures("shift")
def test_with_a_direct_url_a_killed_process_is_noticed_by_its_lock(
    shop: Shop, pooler: PgBouncer
) -> None:
    """P5: its TTL is far away."""
    worker(shop, pooler, direct_database_url=shop.database_url, worker_ttl=NEVER)
    run = shop.start(charge="hold")
    victim = shop.wait_for(run, "charge").pid
    assert all(number is not None for (number,) in live_workers(shop, "lock_number"))

    os.kill(victim, signal.SIGKILL)
    again = shop.wait_for(run, "charge", times=2)
    assert again.pid != victim
    shop.open_gate(run)
    assert run.result(UNNOTICED) == {name: {"done": name} for name in ("reserve", "charge", "ship")}
    assert len(shop.ledger(run, "reserve", "begin")) == 1


@pytest.mark.usefixtures("shift")
def test_without_a_direct_url_a_killed_process_is_noticed_by_its_ttl(
    shop: Shop, pooler: PgBouncer
) -> None:
    """P5: it holds no lock, and says so; one that lives is left alone."""
    noise = pooler.log.count("WARNING")
    node = worker(shop, pooler, worker_ttl=SOON)
    held, killed = shop.start(charge="hold"), shop.start(charge="hold")
    survivor, victim = (shop.wait_for(run, "charge").pid for run in (held, killed))
    assert survivor != victim
    assert [number for (number,) in live_workers(shop, "lock_number")] == [None, None]
    (before,) = live_workers(shop, "max(expires_at)")

    os.kill(victim, signal.SIGKILL)
    assert shop.wait_for(killed, "charge", times=2).pid not in (victim, survivor)
    ((seen,),) = shop.query(
        "SELECT ended_at >= expires_at FROM durable_worker WHERE pid = %s", victim
    )
    assert seen, "nobody could know before"
    later = before[0] + timedelta(seconds=2 * SOON)
    wait_until(
        lambda: live_workers(shop, "max(expires_at)")[0][0] > later,
        timeout=UNNOTICED,
        message="the survivor to have renewed",
    )
    shop.open_gate(held, killed)
    for run in (held, killed):
        assert len(run.result(UNNOTICED)) == 3
    assert len(shop.ledger(held, "charge", "begin")) == 1, "it lived all the time"

    assert "a worker's death is noticed after 3 s only" in node.logs()
    assert "psycopg" not in node.logs(), "no statement has failed"
    assert pooler.log.count("WARNING") == noise, "nothing is sent to a session that nobody has"


@pytest.mark.usefixtures("shift")
@pytest.mark.parametrize("with_direct_url", [True, False], ids=["direct", "pooled"])
def test_steps_in_the_callers_transaction_and_starts_go_through_the_pooler(
    shop: Shop, pooler: PgBouncer, *, with_direct_url: bool
) -> None:
    """P6"""
    settings = {"direct_database_url": shop.database_url} if with_direct_url else {}
    worker(shop, pooler, **settings)
    runs = [shop.durable.start("booking", {}) for _ in range(10)]
    for run in runs:
        assert run.result(UNNOTICED) == {"book": {"done": "book"}, "tell": {"done": "tell"}}
        assert len(shop.ledger(run, "book", "booked")) == 1


def test_the_command_line_works_through_the_pooler(shop: Shop, pooler: PgBouncer) -> None:
    config = {"durable_database_url": pooler.url(shop.database_url)}
    shop.cluster.env[CONFIG] = json.dumps(config)
    run = shop.start()
    for words in (
        ("migrate",),
        ("show", str(run.id)),
        ("list",),
        ("recover",),
        ("cancel", str(run.id)),
    ):
        done = shop.cluster.celery(SHOP, "durable", *words)
        assert done.returncode == 0, (words, done.stderr)
    commands = "SELECT count(*) FROM durable_inbox WHERE run_id = %s"
    assert shop.query(commands, run.id) == [(0,)], "the cancel is applied"


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    with closing(World(database_url)) as opened:
        yield opened


def define(durable: Durable) -> None:
    def book(ctx: Any) -> str:
        ctx.session.execute(sa.text("INSERT INTO booked VALUES (:id)"), {"id": ctx.run_id})
        return str(ctx.signal("go"))

    booking = durable.step(book, transactional=True)
    workflow = durable.workflow("w").wait_for_signal("go").step(booking)
    workflow.map("m", over=lambda _: [1, 2, 3], handler=lambda ctx: ctx.item)


@pytest.mark.parametrize("with_direct_url", [True, False], ids=["direct", "pooled"])
def test_many_at_once_share_few_server_processes(
    world: World, pooler: PgBouncer, *, with_direct_url: bool
) -> None:
    """P6, P7, P9: statements of one client go to whichever server process is free."""
    world.rows("CREATE TABLE booked (run_id uuid)")
    settings = {"direct_database_url": world.url} if with_direct_url else {}
    pooled = pooler.url(world.url)
    workers = [make_durable(pooled, define, **settings) for _ in range(3)]
    engine = sa.create_engine(pooled, connect_args={"prepare_threshold": None})

    def one_after_the_other(worker: Durable) -> None:
        for number in range(8):
            with Session(engine) as session:
                run = worker.start("w", {}, key=f"{id(worker)} {number}", session=session)
                with pytest.raises(RunNotFound):
                    worker.status(run.id)
                session.commit()
            world_drain(worker, run.id)
            run.resume("go", number)
            while run.status().finished_at is None:
                world_drain(worker, run.id)
            assert run.result(0) == {"go": number, "book": str(number), "m": [1, 2, 3]}

    def world_drain(worker: Durable, run_id: object) -> None:
        with psycopg.connect(conninfo(world.url), autocommit=True) as connection:
            due = connection.execute(
                "SELECT id FROM durable_token WHERE run_id = %s AND claimed_by IS NULL", (run_id,)
            ).fetchall()
        for (token_id,) in due:
            worker.engine.advance(token_id)

    all_at_once([lambda worker=worker: one_after_the_other(worker) for worker in workers])  # type: ignore[misc]

    assert world.one("SELECT count(*) FROM booked") == 24
    numbers = world.rows("SELECT lock_number FROM durable_worker")
    assert len(numbers) == 3
    assert all((row["lock_number"] is not None) is with_direct_url for row in numbers)
    for worker in workers:
        worker.recover()
        end(worker)
    engine.dispose()
    assert world.one("SELECT count(*) FROM durable_worker WHERE ended_at IS NULL") == 0


def test_a_relay_does_not_listen_on_a_session_that_it_shares(
    world: World, pooler: PgBouncer
) -> None:
    """P2: whoever has the session next would be told."""
    durable = make_durable(pooler.url(world.url))
    listener = Listener(durable.database)
    assert not listener.wait(0.0)
    with ExitStack() as stack:
        for _ in range(POOL_SIZE):  # transactions that are open at once: every session is looked at
            client = stack.enter_context(psycopg.connect(conninfo(pooler.url(world.url))))
            assert client.execute("SELECT pg_listening_channels()").fetchall() == []
    listener.close()
    durable.database.close()


@pytest.mark.parametrize("with_direct_url", [True, False], ids=["direct", "pooled"])
def test_a_result_is_waited_for_by_looking_where_nobody_can_listen(
    world: World,
    pooler: PgBouncer,
    monkeypatch: pytest.MonkeyPatch,
    *,
    with_direct_url: bool,
) -> None:
    """And past the pooler by being told."""

    def waiting(durable: Durable) -> None:
        durable.workflow("w").wait_for_signal("go")

    settings = {"direct_database_url": world.url} if with_direct_url else {}
    durable = make_durable(pooler.url(world.url), waiting, **settings)
    run = durable.start("w")
    world.drain(durable)
    listening = durable.ends._of_process()
    monkeypatch.setattr(ends, "LOOKS_UP", 0.02)
    if with_direct_url:
        monkeypatch.setattr(runs, "LAST_PAUSE", 1e6)
        monkeypatch.setattr(runs, "PAUSE_OF_THE_TOLD", 1e6)
    result = spawn(run.result)
    wait_until(lambda: listening.is_known or listening._is_shared, message="it to listen, or not")
    assert listening.is_known is with_direct_url
    run.resume("go", 1)
    world.drain(durable)
    assert result.result(UNNOTICED) == {"go": 1}

    monkeypatch.setattr(ends, "KEPT", 0.0)
    wait_until(lambda: listening._thread is None, message="the thread to end")
    with pytest.raises(ResultTimeout):
        durable.start("w").result(0.1)
    if not with_direct_url:
        assert listening._thread is None, "it is not tried again"
        locks = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock'"
        assert world.rows(f"{locks} AND {LOCKED_HERE}") == []
    wait_until(lambda: listening._thread is None, message="the thread to end")
    end(durable)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("DateStyle", "'German, DMY'"),
        ("extra_float_digits", "-5"),
        ("default_transaction_isolation", "'serializable'"),
        ("default_transaction_read_only", "on"),
    ],
)
def test_a_setting_that_cannot_be_set_on_a_shared_session_is_refused(
    world: World, pooler: PgBouncer, setting: str, value: str
) -> None:
    """P12: with what to do; the same database is as good as any without the pooler."""
    name = sa.make_url(world.url).database
    world.rows(f"ALTER DATABASE {name} SET {setting} = {value}")
    pooled, direct = make_durable(pooler.url(world.url)), make_durable(world.url)
    with pytest.raises(ConfigurationError, match=rf"ALTER ROLE \.\.\. SET {setting} ="):
        pooled.list()
    assert direct.list() == []
    pooled.database.close()
    direct.database.close()


def test_a_timeout_that_cannot_be_lifted_on_a_shared_session_is_warned_of_once(
    world: World, pooler: PgBouncer, caplog: pytest.LogCaptureFixture
) -> None:
    name = sa.make_url(world.url).database
    world.rows(f"ALTER DATABASE {name} SET statement_timeout = '59s'")
    durable = make_durable(pooler.url(world.url))
    for _ in range(2):
        assert durable.list() == []
        durable.database.dedicated().close()
    assert caplog.text.count("statement_timeout is '59s'") == 1
    assert "ALTER ROLE ... SET statement_timeout = 0" in caplog.text
    durable.database.close()


@pytest.mark.parametrize("with_direct_url", [True, False], ids=["direct", "pooled"])
def test_doctor_says_that_a_pooler_takes_the_locks_away(
    world: World, pooler: PgBouncer, *, with_direct_url: bool
) -> None:
    settings = {"direct_database_url": world.url} if with_direct_url else {}
    durable = make_durable(pooler.url(world.url), define, **settings)
    (found,) = [one for one in durable.doctor() if one.code == "lock"]
    assert found.severity == ("ok" if with_direct_url else "warning")
    assert ("durable_direct_database_url" in found.fix) is not with_direct_url
    assert found.text.startswith("Past the pooler") is with_direct_url
    durable.database.close()
