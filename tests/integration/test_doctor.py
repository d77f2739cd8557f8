"""Each thing that `durable doctor` finds, made for real on a real Postgres."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import timedelta
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from celery_durable import Durable, RetryPolicy
from celery_durable.background.presence import Presence
from celery_durable.core import surroundings
from celery_durable.core.finding import Finding, Holds, LockTest, Product, Severity
from celery_durable.database import self_test
from celery_durable.store.connection import Statement
from celery_durable.store.read import standstill, vitals
from celery_durable.worker import examination
from tests.faults.proxy import Proxy
from tests.integration.commanding import Cli, assert_refused
from tests.integration.driving import (
    PATIENCE,
    Gate,
    World,
    defining,
    make_durable,
    spawn,
    worker_id,
)
from tests.integration.workflows import waiting
from tests.services import PostgresServer, unique
from tests.waiting import wait_until

LONG = 3600.0

TROUBLE = ("error", "warning")


def found(durable: Durable) -> dict[str, Finding]:
    """What is not in order, by code; nothing is found twice here."""
    return {one.code: one for one in durable.doctor() if one.severity in TROUBLE}


def error(durable: Durable, code: str) -> Finding:
    finding = found(durable)[code]
    assert finding.severity is Severity.ERROR
    return finding


def warning(durable: Durable, code: str) -> Finding:
    finding = found(durable)[code]
    assert finding.severity is Severity.WARNING
    return finding


def is_there(worker: Durable, outage: str | None = None) -> None:
    """A relay of this worker's has just said that it is there."""
    Presence(worker.database, lambda: outage).say()


@pytest.fixture
def served(world: World) -> Durable:
    """A worker that lives, beside a relay."""
    worker = world.worker(defining([], "a"))
    worker_id(worker)
    is_there(worker)
    return worker


def test_where_all_is_well_nothing_is_found(world: World, served: Durable) -> None:
    served.start("w")
    assert found(served) == {}
    codes = [one.code for one in served.doctor()]
    assert len(set(codes)) == len(codes) == 21


def test_nothing_is_changed(world: World, served: Durable) -> None:
    served.start("w")
    before, rows = world.counts(), world.rows("SELECT * FROM durable_token")
    served.doctor()
    assert (world.counts(), world.rows("SELECT * FROM durable_token")) == (before, rows)
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2"
    assert (
        world.one(
            f"{locks} AND database = (SELECT oid FROM pg_database WHERE datname ="
            " current_database())"
        )
        == 1
    ), "the worker's own"


def test_settings_that_cannot_be_read() -> None:
    durable = make_durable("mysql://localhost/shop")
    assert "durable_database_url" in error(durable, "settings").text
    assert {*found(durable)} == {"settings"}
    assert "Unknown setting" in error(make_durable("", qeue="x"), "settings").text


def test_a_workflow_that_is_wrong(world: World) -> None:
    durable = world.worker(lambda durable: durable.workflow("w"))
    assert "'w'" in error(durable, "settings").text


def test_neither_database_nor_broker() -> None:
    durable = make_durable("postgresql://joe:hunter2@127.0.0.1:1/shop")
    durable.app.conf.broker_url = "redis://:hunter2@127.0.0.1:1/0"
    assert {*found(durable)} == {"database", "broker"}
    assert "refused" in error(durable, "database").text
    assert "127.0.0.1:1" in error(durable, "broker").text
    assert "hunter2" not in str(durable.doctor())


def test_a_broker_of_an_unknown_kind(world: World, served: Durable) -> None:
    served.app.conf.broker_url = "carrier-pigeon://roof"
    assert "carrier-pigeon" in error(served, "broker").text


def test_a_database_and_a_broker_that_take_connections_and_say_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(examination.Asked.__init__, "__defaults__", (0.2,))
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        durable = make_durable(f"postgresql://127.0.0.1:{port}/shop")
        durable.app.conf.broker_url = f"redis://127.0.0.1:{port}/0"
        for code in ("database", "broker"):
            assert "no answer within 0.2 s" in error(durable, code).text


def test_a_database_that_is_lost_between_two_questions(
    world: World, served: Durable, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found out until then is said."""
    durable = make_durable(proxy.url, defining([], "a"))

    def lost(_: object) -> LockTest:
        proxy.refuse()
        return LockTest.HOLDS

    monkeypatch.setattr(self_test, "lock_test", lost)
    said = found(durable)
    assert {*said} == {"autovacuum", "relays", "runs"}
    assert "could not be checked" in said["relays"].text


def test_a_schema_that_is_not_there(world: World, served: Durable) -> None:
    durable = world.worker(defining([], "a"), schema="nowhere")
    finding = error(durable, "schema")
    assert finding.text == "The durable schema in 'nowhere' does not exist; this release needs 0003"
    assert finding.fix == "celery -A <app> durable migrate"
    assert {*found(durable)} == {"schema"}


def test_a_role_that_lacks_rights(world: World, served: Durable) -> None:
    name = unique("role")
    world.rows(f"CREATE ROLE {name} LOGIN")
    try:
        url = sa.make_url(world.url).set(username=name).render_as_string(hide_password=False)
        durable = make_durable(url)
        assert "GRANT" in error(durable, "schema").text
        assert "pg_read_all_stats" in next(o.fix for o in durable.doctor() if o.code == "xmin")
        durable.database.close()
    finally:
        world.rows(f"DROP ROLE {name}")


def test_what_a_server_says_of_itself(world: World, served: Durable) -> None:
    product = self_test.product_of(served.database)
    assert product.name == world.one("SELECT version()")
    assert product.version == int(world.one("SHOW server_version_num"))


def test_a_lock_holds_on_a_real_server_and_is_free_afterwards(
    world: World, served: Durable, statements: list[Statement]
) -> None:
    assert self_test.lock_test(served.database) is LockTest.HOLDS
    assert statements.count(self_test._TAKE) == 2
    assert statements.count(self_test._PROBE) == 1


def test_a_server_that_gives_a_lock_to_two(
    world: World, served: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one on which these functions do nothing: here they take another lock each time."""
    always = Statement(sa.select(sa.true().label("is_taken")))
    monkeypatch.setattr(self_test, "_TAKE", always)
    assert "two sessions" in error(served, "lock").text


def test_two_urls_that_lead_to_two_databases(
    world: World, served: Durable, postgres: PostgresServer
) -> None:
    with postgres.database("durable_test_elsewhere") as name:
        durable = world.worker(defining([], "a"), direct_database_url=postgres.url(name))
        assert "another server or database" in error(durable, "lock").text


def test_a_server_that_only_reads(world: World, served: Durable) -> None:
    """A replica cannot be made here; what would say so is asked for."""
    with served.database.read_only() as connection:
        assert vitals.vitals(connection).is_replica is False


def test_a_transaction_that_stays_open(
    world: World, served: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surroundings, "HELD_FOR", timedelta(0))
    with world.connect() as other, other.transaction():
        other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT count(*) FROM durable_run")
        pid = other.info.backend_pid
        # Other sessions of the server may be at work, too: at an age of nothing they are found.
        (finding,) = (one for one in served.doctor() if f"pid {pid})" in one.text)
        assert (finding.code, finding.severity) == ("xmin", Severity.WARNING)
        assert finding.fix == f"SELECT pg_terminate_backend({pid})"
        assert "idle in transaction" in finding.text
    assert pid not in {holder.pid for holder in holders(served)}


def test_a_vacuum_keeps_nothing(fresh: World) -> None:
    worker = fresh.worker(defining([], "a"))
    fresh.rows("CREATE TABLE padding AS SELECT repeat('x', 900) FROM generate_series(1, 9000)")
    with fresh.connect() as other:
        pid = other.info.backend_pid
        other.execute("SET vacuum_cost_delay = 100")
        other.execute("SET vacuum_cost_limit = 1")
        vacuum = spawn(other.execute, "VACUUM padding")
        wait_until(lambda: fresh.rows(f"SELECT FROM pg_stat_progress_vacuum WHERE pid = {pid}"))
        assert fresh.one(f"SELECT backend_xmin FROM pg_stat_activity WHERE pid = {pid}") is not None
        assert pid not in {holder.pid for holder in holders(worker)}
        fresh.rows(f"SELECT pg_cancel_backend({pid})")
        with pytest.raises(psycopg.errors.QueryCanceled):
            vacuum.result(PATIENCE)


def test_a_transaction_of_another_database_counts_if_it_writes(
    world: World, served: Durable, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surroundings, "HELD_FOR", timedelta(0))
    with (
        postgres.database("durable_test_elsewhere") as name,
        closing(World(postgres.url(name))) as elsewhere,
        elsewhere.connect() as other,
    ):
        pid = other.info.backend_pid
        with other.transaction():
            other.execute("SELECT count(*) FROM pg_class")
            assert not any(pid == holder.pid for holder in holders(served))
            other.execute("CREATE TABLE t ()")
            assert any(pid == holder.pid for holder in holders(served))


def holders(durable: Durable) -> Sequence[Any]:
    with durable.database.read_only() as connection:
        return vitals.vitals(connection).holders


def test_a_replication_slot_is_seen_with_its_age(world: World, served: Durable) -> None:
    """It has an xmin once a standby has sent one: here only that the query takes it."""
    name = unique("slot")
    if world.one("SHOW wal_level") == "minimal":
        pytest.skip("this server has no slots")
    world.rows(f"SELECT pg_create_physical_replication_slot('{name}')")
    try:
        assert not any(one.kind is Holds.SLOT for one in holders(served))
    finally:
        world.rows(f"SELECT pg_drop_replication_slot('{name}')")


def test_autovacuum_that_is_off_for_a_table(world: World, served: Durable) -> None:
    world.rows("ALTER TABLE durable_outbox SET (autovacuum_enabled = off)")
    try:
        finding = warning(served, "autovacuum")
        world.rows(finding.fix)
        assert "autovacuum" not in found(served)
    finally:
        world.rows("ALTER TABLE durable_outbox RESET (autovacuum_enabled)")


def test_dead_rows_are_counted(fresh: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "DEAD_ROWS", 1)
    worker = fresh.worker(defining([], "a"))
    fresh.rows("ALTER TABLE durable_run SET (autovacuum_enabled = off)")
    worker.start_many("w", [{}] * 30)
    fresh.rows("DELETE FROM durable_run")
    # The server counts what a session has done a second later, with its next statement.
    wait_until(
        lambda: fresh.rows("SELECT 1") and "dead_rows" in found(worker), message="30 to be counted"
    )
    assert "durable_run has 30 dead rows" in warning(worker, "dead_rows").text


def test_a_limit_of_connections_that_the_role_has(world: World, served: Durable) -> None:
    name = sa.make_url(world.url).database
    world.rows(f"ALTER DATABASE {name} CONNECTION LIMIT 5")
    try:
        with served.database.read_only() as connection:
            assert vitals.vitals(connection).most_connections == 5
    finally:
        world.rows(f"ALTER DATABASE {name} CONNECTION LIMIT -1")


def test_messages_that_nobody_publishes(world: World) -> None:
    worker = world.worker(defining([], "a"))
    worker_id(worker)
    assert warning(worker, "relays").fix
    worker.start("w")
    assert error(worker, "relays").text.endswith("1 unfinished run")
    is_there(worker, "no route to it")
    assert "no route to it" in error(worker, "relays").text


def test_a_queue_that_nobody_consumes(world: World, served: Durable) -> None:
    durable = world.worker(lambda d: d.workflow("p").step(lambda _: 1, name="a", queue="payments"))
    world.rows("""UPDATE durable_worker SET queues = '["durable"]'""")
    assert warning(durable, "queues").text.endswith("need: payments")
    durable.start("p")
    finding = error(durable, "queues")
    assert finding.text.endswith("payments: 1 to publish")
    assert finding.fix == "celery -A <app> worker -Q payments"


def test_no_worker_at_all(world: World) -> None:
    worker = world.worker(defining([], "a"))
    is_there(worker)
    assert {*found(worker)} == {"workers"}
    worker.start("w")
    assert "queues" in found(worker)


def test_a_worker_that_hangs(world: World, served: Durable) -> None:
    worker_id(world.worker(defining([], "a")))
    late = "UPDATE durable_worker SET expires_at = clock_timestamp() - interval '1 s' WHERE id = %s"
    world.rows(late, worker_id(served))
    assert "has not renewed its row in time" in warning(served, "workers").text


def test_runs_that_no_live_worker_knows(world: World, served: Durable) -> None:
    def other(durable: Durable) -> None:
        durable.workflow("w", version=2).step(lambda _: 1, name="a")

    world.worker(other).start("w")
    finding = error(served, "versions")
    assert "w version 2, which has 1 unfinished run" in finding.text


def test_another_app_on_the_same_schema(world: World, served: Durable) -> None:
    def other(durable: Durable) -> None:
        durable.workflow("another").step(lambda _: 1, name="a")

    stranger = world.worker(other)
    assert "this app" in warning(stranger, "sharing").text
    worker_id(stranger)
    assert "(w)" in warning(served, "sharing").text


def test_runs_are_counted_by_what_they_wait_for(world: World) -> None:
    gate = Gate()

    def define(durable: Durable) -> None:
        waiting(durable)
        durable.workflow("slow").step(lambda _: gate(), name="a")
        durable.workflow("asleep").sleep("nap", LONG)
        durable.workflow("forks").map("m", over=lambda _: [1, 2], handler=lambda _: 1)
        durable.workflow("parent").child_workflow("kid", "w")

    worker = world.worker(define)
    is_there(worker)
    for name in ("w", "asleep", "parent"):
        worker.start(name)
    world.drain(worker)
    forks = worker.start("forks")
    worker.engine.advance(world.token_id(forks))
    world.publish()
    slow = worker.start("slow")
    held = gate.hold(worker.engine.advance, *world.publish())
    worker.start("w", delay=LONG)
    worker.start("w")
    with worker.database.read_only() as connection:
        still = standstill.standstill(connection)
    assert still.counts == {
        "signal": 2, "child": 1, "sleeping": 1, "branches": 1, "executing": 1, "delayed": 1,
        "ready": 1,
    }  # fmt: skip
    assert {slow.id, forks.id} <= {one.run_id for one in still.sample}
    assert len(still.sample) == 3, "what waits for something is counted, and not asked for"
    gate.finish(held)


def test_the_runs_that_are_stuck_are_told_with_what_helps(world: World, served: Durable) -> None:
    runs = served.start_many("w", [{}] * 3)
    world.publish()
    world.rows("""UPDATE durable_worker SET queues = '["other"]'""")
    finding = error(served, "runs.no_consumer")
    assert finding.text.startswith("3 of 3 sampled runs: a waits in the queue durable")
    assert finding.fix == "celery -A <app> worker -Q durable -n worker2@%h"
    assert len(runs) == 3


def test_the_sample_is_bounded_and_takes_the_oldest(
    world: World, served: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = served.start_many("w", [{}] * (standstill.SAMPLE + 1))
    query = "UPDATE durable_token SET since = since + interval '1 minute' WHERE run_id = %s"
    world.rows(query, runs[7].id)
    with served.database.read_only() as connection:
        still = standstill.standstill(connection)
    assert {one.run_id for one in still.sample} == {run.id for run in runs} - {runs[7].id}
    assert still.counts == {"ready": standstill.SAMPLE + 1}


def test_an_app_that_accepts_no_message_of_ours(world: World, served: Durable) -> None:
    served.app.conf.accept_content = ["avro"]
    assert error(served, "accept_content").fix == "Add 'json' to accept_content"


def test_beat_that_recovers(world: World, served: Durable) -> None:
    def said() -> str:
        return next(one.text for one in served.doctor() if one.code == "beat")

    assert said().startswith("Beat has no entry")
    entry = {"task": "durable.recover", "schedule": 60.0}
    served.app.conf.beat_schedule = {"other": {"task": "x"}, "recover": entry}
    assert said().startswith("Beat has an entry")


def test_a_clock_that_differs(
    world: World, served: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surroundings, "CLOCKS_DIFFER_AT_MOST", timedelta(seconds=-1))
    assert "0 s" in warning(served, "clock").text


def test_doctor_on_the_command_line(world: World, served: Durable, call: Cli) -> None:
    said = call(served.app, "doctor")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("ok       The settings can be read\nok       The broker answers")
    world.rows("DELETE FROM durable_relay")
    said = call(served.app, "doctor")
    assert said.code == 0, "a warning"
    assert (
        "warning  No relay runs: nothing would be published\n"
        "         celery -A cli_under_test durable relay, or a worker of a durable queue\n"
    ) in said.out
    assert call(served.app, "doctor", "--strict").code == 1
    served.start("w")
    said = call(served.app, "doctor")
    assert (said.code, "\nerror    No relay runs" in said.out) == (1, True)


def test_doctor_as_json(world: World, served: Durable, call: Cli) -> None:
    said = call(served.app, "doctor", "--json")
    assert (said.code, said.document["ok"]) == (0, True)
    assert said.document["findings"][0] == {
        "code": "settings", "severity": "ok", "text": "The settings can be read", "fix": "",
    }  # fmt: skip
    world.rows("DELETE FROM durable_relay")
    served.start("w")
    said = call(served.app, "doctor", "--json")
    assert (said.code, said.document["ok"]) == (1, False)


def test_doctor_without_a_database_answers_all_the_same(call: Cli) -> None:
    said = call(make_durable("postgresql://127.0.0.1:1/shop").app, "doctor")
    assert said.code == 1
    assert "\nerror    Postgres cannot be reached" in said.out


def test_live_is_whether_the_workers_of_a_host_renew(
    world: World, served: Durable, call: Cli
) -> None:
    world.rows("UPDATE durable_worker SET hostname = 'w1@here'")
    for name in ("here", "w1@here"):
        assert call(served.app, "doctor", "--live", "--hostname", name).code == 0
    assert call(served.app, "doctor", "--live").code == 1, "this host is called otherwise"
    world.rows("UPDATE durable_worker SET expires_at = clock_timestamp() - interval '1 s'")
    said = call(served.app, "doctor", "--live", "--hostname", "here", "--json")
    assert (said.code, said.document["findings"][0]["severity"]) == (1, "error")


def test_live_without_a_database_is_not_the_worker_s_fault(call: Cli) -> None:
    durable = make_durable("postgresql://127.0.0.1:1/shop")
    assert_refused(call(durable.app, "doctor", "--live"), 4, "Postgres cannot be reached")
    wrong = make_durable("mysql://localhost/shop")
    assert_refused(call(wrong.app, "doctor", "--live"), 2, "durable_database_url")


def without_relay(world: World, _: Durable) -> None:
    world.rows("DELETE FROM durable_relay")


def without_broker(_: World, durable: Durable) -> None:
    durable.app.conf.broker_url = "redis://127.0.0.1:1/0"


def without_our_schema(world: World, _: Durable) -> None:
    world.rows("UPDATE durable_alembic_version SET version_num = 'old'")


@pytest.mark.parametrize("breaks", [without_relay, without_broker, without_our_schema])
def test_ready_is_whether_runs_can_be_started_and_go_on(
    world: World, served: Durable, call: Cli, breaks: Callable[[World, Durable], None]
) -> None:
    assert call(served.app, "doctor", "--ready").code == 0
    revision = world.one("SELECT version_num FROM durable_alembic_version")
    try:
        breaks(world, served)
        assert call(served.app, "doctor", "--ready").code == 1
    finally:
        world.rows("UPDATE durable_alembic_version SET version_num = %s", revision)


@pytest.mark.parametrize(
    "options", [("--live", "--ready"), ("--hostname", "x"), ("--ready", "--hostname", "x")]
)
def test_options_that_do_not_go_together(
    world: World, served: Durable, call: Cli, options: Sequence[str]
) -> None:
    assert_refused(call(served.app, "doctor", *options), 2, "--hostname goes with --live")


@pytest.fixture
def many(fresh: World) -> World:
    """100,000 runs that wait for a signal, with a timer each."""
    worker = fresh.worker(waiting)
    run = worker.start("w")
    fresh.drain(worker)
    fresh.rows(
        "INSERT INTO durable_run (id, workflow, version, status, input)"
        " SELECT gen_random_uuid(), 'w', 1, 'running', '{}' FROM generate_series(1, 99999)"
    )
    columns = "run_id, node, unit, queue, fence, wait, awaits, waiting_since, look_at"
    fresh.rows(
        f"INSERT INTO durable_token (id, {columns})"
        f" SELECT gen_random_uuid(), run.id, {columns.removeprefix('run_id, ')}"
        " FROM durable_run run, durable_token WHERE run.id <> run_id"
    )
    assert run.status().status == "suspended"
    return fresh


def test_of_many_runs_that_wait_none_is_looked_at_alone(
    many: World, statements: list[Statement]
) -> None:
    """The number of statements is that of a few runs."""
    durable = many.worker(waiting)
    worker_id(durable)
    is_there(durable)
    before = len(statements)
    assert found(durable) == {}
    assert len(statements) - before < 60
    said = next(one.text for one in durable.doctor() if one.code == "runs")
    assert said == "Unfinished runs: 100,000 (100,000 signal)"


def test_a_product_that_lacks_what_runs_rely_on(
    world: World, served: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "CockroachDB CCL v24.1.0"
    monkeypatch.setattr(self_test, "product_of", lambda _: Product(name, 130000))
    assert name in error(served, "server").text


def test_the_bare_connection_sets_nothing(world: World, served: Durable) -> None:
    """So it gets in where the server does not know a setting."""
    with closing(served.database.bare()) as raw:
        assert raw.execute("SHOW lock_timeout").fetchone() == ("0",)
        assert isinstance(raw, psycopg.Connection)


def test_what_is_paused_and_what_waits_for_somebody(world: World, served: Durable) -> None:
    def fails(_: Any) -> None:
        raise ValueError

    policy = RetryPolicy(max_attempts=1, on_exhausted="pause")
    served.workflow("patient").step(fails, name="a", retry=policy)
    served.start("patient")
    world.drain(served)
    served.pause(workflow="patient", reason="an incident")
    assert "1 unit" in warning(served, "exhausted").text
    assert warning(served, "paused").text == "Paused: workflow patient (an incident)"
