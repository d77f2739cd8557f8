"""Findings made of facts: each thing that may be wrong, and that nothing is where nothing is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from celery_durable.core.doctor import judge, judge_readiness
from celery_durable.core.finding import (
    Examination,
    Finding,
    Fleet,
    Holder,
    Holds,
    LockTest,
    Product,
    Severity,
    Standstill,
    TableHealth,
    Unknown,
    Vitals,
)
from celery_durable.core.fleet import QueueInfo, WorkerInfo, WorkerState
from celery_durable.core.population import BEHIND, living
from celery_durable.core.reason import Code, Diagnosis, Reason
from celery_durable.core.situation import RELAY_IS_GONE_AFTER, SeenRelay
from celery_durable.core.status import Status
from celery_durable.core.surroundings import (
    CLOCKS_DIFFER_AT_MOST,
    DEAD_ROWS,
    HELD_FOR,
    HELD_TRANSACTIONS,
    LOOKALIKES,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LONG_AGO = NOW - timedelta(hours=1)
WORKER = WorkerInfo(
    id=UUID(int=1),
    hostname="w1@host",
    pid=77,
    queues=frozenset({"durable"}),
    knows={"order@1": ["charge"]},
    slots=2,
    busy=0,
    expires_at=NOW + 20 * SECOND,
    state=WorkerState.ALIVE,
    node_id=UUID(int=2),
    pool="prefork",
    started_at=LONG_AGO,
    renewed_at=NOW,
    has_lock=True,
)
LATE = replace(WORKER, expires_at=LONG_AGO, state=WorkerState.OVERDUE)
DEAD = replace(WORKER, is_dead=True, state=WorkerState.DEAD)
RELAY = SeenRelay("w1@host", 70, NOW)
QUEUE = QueueInfo("durable", workers=1, slots=2)
FLEET = Fleet(NOW, [WORKER], [RELAY], [QUEUE], {"order@1": 3})
VITALS = Vitals(NOW, tables=[TableHealth("durable_token", live=10, dead=3)])
STANDSTILL = Standstill(NOW, {"signal": 2, "ready": 1})
HEALTHY = Examination(
    serializer="json",
    broker="redis://localhost",
    beat_recovers=False,
    product=Product("PostgreSQL 16.4 on x86_64", 160004),
    is_reached=True,
    is_migrated=True,
    lock=LockTest.HOLDS,
    vitals=VITALS,
    fleet=FLEET,
    standstill=STANDSTILL,
    defined=frozenset({"order"}),
    needed=frozenset({"durable"}),
)


def found(facts: Examination) -> Sequence[Finding]:
    """What is not in order."""
    return [finding for finding in judge(facts) if finding.severity is not Severity.OK]


def only(facts: Examination, severity: Severity, code: str) -> Finding:
    """The only thing that is not in order."""
    (finding,) = found(facts)
    assert (finding.severity, finding.code) == (severity, code)
    return finding


def only_error(code: str, **changes: Any) -> Finding:
    return only(replace(HEALTHY, **changes), Severity.ERROR, code)


def only_warning(code: str, **changes: Any) -> Finding:
    return only(replace(HEALTHY, **changes), Severity.WARNING, code)


def fleet(**changes: Any) -> Fleet:
    return replace(FLEET, **changes)


def vitals(**changes: Any) -> Vitals:
    return replace(VITALS, **changes)


def test_where_all_is_well_each_thing_is_said_to_be() -> None:
    said = judge(HEALTHY)
    assert {finding.severity for finding in said} == {Severity.OK}
    assert [finding.code for finding in said] == [
        *("settings", "broker", "accept_content", "database", "server", "schema", "lock", "clock"),
        *("connections", "autovacuum", "dead_rows", "xmin", "relays", "workers", "queues"),
        *("outbox", "versions", "sharing", "runs", "compensations", "beat"),
    ]
    assert not any(finding.text.endswith(".") or "\n" in finding.text for finding in said)


def test_what_was_not_looked_at_is_not_judged() -> None:
    assert [finding.code for finding in judge(Examination())] == ["settings"]


def test_settings_that_cannot_be_read() -> None:
    finding = only(
        Examination(settings=Unknown("durable_database_url is not set")), Severity.ERROR, "settings"
    )
    assert finding.text == "durable_database_url is not set"


def test_a_broker_that_does_not_answer() -> None:
    finding = only_error("broker", broker=Unknown("refused"))
    assert finding.text == "The broker does not answer: refused"
    assert "broker_url" in finding.fix


def test_an_app_that_accepts_nothing_of_ours() -> None:
    finding = only_error("accept_content", serializer=Unknown("accept_content is []"))
    assert finding.fix == "Add 'json' to accept_content"
    assert not found(replace(HEALTHY, serializer="auth"))


def test_a_database_that_does_not_answer_is_all_that_is_said_of_it() -> None:
    facts = Examination(broker="x", database=Unknown("Postgres cannot be reached"))
    finding = only(facts, Severity.ERROR, "database")
    assert "durable_database_url" in finding.fix


@pytest.mark.parametrize("name", LOOKALIKES)
def test_a_server_that_only_speaks_like_postgres(name: str) -> None:
    only_error("server", product=Product(f"PostgreSQL 13.0 {name} v24.1", 130000))


def test_a_server_that_is_too_old() -> None:
    finding = only_error("server", product=Product("PostgreSQL 12.9 on x86_64", 120009))
    assert finding.text == "The server is too old: PostgreSQL 12.9"
    assert not found(replace(HEALTHY, product=Product("PostgreSQL 13.0", 130000)))


def test_a_server_that_only_reads() -> None:
    assert "replica" in only_error("server", vitals=vitals(is_replica=True)).text


def test_a_schema_that_is_out_of_date() -> None:
    finding = only_error("schema", schema=Unknown("It does not exist", "migrate"))
    assert (finding.text, finding.fix) == ("It does not exist", "migrate")


def test_a_pooler_that_shares_sessions() -> None:
    assert "durable_direct_database_url" in only_warning("lock", lock=LockTest.SHARED).fix


def test_a_lock_that_two_can_have() -> None:
    only_error("lock", lock=LockTest.NOT_REFUSED)


def test_two_urls_that_lead_to_two_databases() -> None:
    assert "another server" in only_error("lock", lock=LockTest.ELSEWHERE).text


@pytest.mark.parametrize(("sign", "word"), [(1, "behind"), (-1, "ahead of")])
def test_a_clock_that_differs(sign: int, word: str) -> None:
    at_most = sign * CLOCKS_DIFFER_AT_MOST
    finding = only_warning("clock", vitals=vitals(clock_ahead=at_most + sign * SECOND))
    assert f"6 s {word} the database's" in finding.text
    assert not found(replace(HEALTHY, vitals=vitals(clock_ahead=at_most)))


def test_few_connections_are_left() -> None:
    only_warning("connections", vitals=vitals(most_connections=100, connections=90))
    assert not found(replace(HEALTHY, vitals=vitals(most_connections=100, connections=89)))


def test_workers_may_need_more_connections_than_there_are() -> None:
    """4 for each of 20 children, 4 for the relay, and 17 of others."""
    pool = fleet(workers=[WORKER] * 20)
    tight = vitals(most_connections=100, others=17)
    assert "need 84" in only_warning("connections", fleet=pool, vitals=tight).text
    assert not found(replace(HEALTHY, fleet=pool, vitals=replace(tight, others=16)))


def test_threads_need_a_connection_for_each_slot() -> None:
    threads = fleet(workers=[replace(WORKER, pool="threads", slots=30)])
    (finding,) = [one for one in judge(replace(HEALTHY, fleet=threads)) if "need" in one.text]
    assert finding.text.endswith("may need 37")


def test_past_a_pooler_a_worker_needs_one_connection_and_a_relay_two() -> None:
    pool = fleet(workers=[WORKER] * 90)
    past = replace(HEALTHY, lock=LockTest.HOLDS_PAST_A_POOLER, fleet=pool)
    (finding,) = [one for one in judge(past) if one.code == "connections"]
    assert finding.text.endswith("may need 92")


def test_behind_a_pooler_all_connections_are_its_own() -> None:
    behind = replace(HEALTHY, lock=LockTest.SHARED, fleet=fleet(workers=[WORKER] * 90))
    assert [finding.code for finding in found(behind)] == ["lock"]


def test_autovacuum_that_is_off() -> None:
    only_warning("autovacuum", vitals=vitals(vacuums=False))
    table = TableHealth("durable_outbox", 0, 0, is_vacuumed=False)
    finding = only_warning("autovacuum", vitals=vitals(tables=[table]))
    assert finding.fix == "ALTER TABLE durable_outbox RESET (autovacuum_enabled)"


def test_many_dead_rows() -> None:
    bloated = TableHealth("durable_outbox", live=7, dead=DEAD_ROWS)
    finding = only_warning("dead_rows", vitals=vitals(tables=[bloated]))
    assert finding.text == "durable_outbox has 500,000 dead rows beside 7 live ones"
    for harmless in (replace(bloated, dead=DEAD_ROWS - 1), replace(bloated, live=DEAD_ROWS + 1)):
        assert not found(replace(HEALTHY, vitals=vitals(tables=[harmless])))


@pytest.mark.parametrize(
    ("holder", "fix"),
    [
        (Holder(Holds.TRANSACTION, "joe", 5, pid=9, state="idle"), "pg_terminate_backend(9)"),
        (Holder(Holds.PREPARED, "it's", 5), "ROLLBACK PREPARED 'it''s'"),
    ],
)
def test_a_transaction_that_is_old(holder: Holder, fix: str) -> None:
    old = replace(holder, since=NOW - HELD_FOR)
    assert fix in only_warning("xmin", vitals=vitals(holders=[old])).fix
    young = replace(holder, since=NOW - HELD_FOR + SECOND)
    assert not found(replace(HEALTHY, vitals=vitals(holders=[young])))


@pytest.mark.parametrize(
    ("holder", "fix"),
    [
        (Holder(Holds.SLOT, "copy", 0), "pg_drop_replication_slot('copy')"),
        (Holder(Holds.STANDBY, "copy", 0), "hot_standby_feedback"),
    ],
)
def test_a_replica_that_is_far_behind(holder: Holder, fix: str) -> None:
    behind = replace(holder, age=HELD_TRANSACTIONS)
    assert fix in only_warning("xmin", vitals=vitals(holders=[behind])).fix
    near = replace(holder, age=HELD_TRANSACTIONS - 1)
    assert not found(replace(HEALTHY, vitals=vitals(holders=[near])))


def test_what_a_role_cannot_see_is_said() -> None:
    blind = judge(replace(HEALTHY, vitals=vitals(sees_others=False)))
    (finding,) = [one for one in blind if one.code == "xmin"]
    assert "pg_read_all_stats" in finding.fix


def test_no_relay_where_runs_are_unfinished() -> None:
    gone = replace(RELAY, seen_at=NOW - RELAY_IS_GONE_AFTER)
    assert "3 unfinished runs" in only_error("relays", fleet=fleet(relays=[gone])).text
    only_warning("relays", fleet=fleet(relays=[], unfinished={}))


def test_relays_that_cannot_publish() -> None:
    away = replace(RELAY, outage="no route")
    assert "no route" in only_error("relays", fleet=fleet(relays=[away])).text
    only_warning("relays", fleet=fleet(relays=[away, RELAY]))


def test_no_worker() -> None:
    """Nothing waits: so it is no error."""
    empty = fleet(workers=[], queues=[], unfinished={})
    finding = only_warning("workers", fleet=empty)
    assert finding.fix == "celery -A <app> worker -Q durable"


def test_a_worker_that_hangs() -> None:
    assert "pid 77" in only_warning("workers", fleet=fleet(workers=[WORKER, LATE])).text


def test_a_queue_that_holds_work_and_has_no_consumer() -> None:
    deserted = QueueInfo("payments", due=2, published=1)
    finding = only_error("queues", fleet=fleet(queues=[QUEUE, deserted]))
    assert finding.text == "No live worker consumes the queue payments: 2 to publish, 1 published"
    assert finding.fix == "celery -A <app> worker -Q payments"


def test_a_queue_that_a_workflow_needs_and_nobody_consumes() -> None:
    finding = only_warning("queues", needed=frozenset({"durable", "payments"}))
    assert finding.text.endswith("need: payments")
    unnamed = fleet(workers=[replace(WORKER, queues=frozenset())])
    assert not found(replace(HEALTHY, needed=frozenset({"payments"}), fleet=unnamed))


def test_messages_that_wait_too_long_to_be_published() -> None:
    late = replace(QUEUE, due=5, waiting_since=NOW - BEHIND - SECOND)
    assert "the oldest for 1 min" in only_warning("outbox", fleet=fleet(queues=[late])).text
    in_time = replace(late, waiting_since=NOW - BEHIND)
    assert not found(replace(HEALTHY, fleet=fleet(queues=[in_time])))


def test_messages_that_the_broker_refuses() -> None:
    refused = replace(QUEUE, later=1, refused=1, refusal="too large")
    assert "too large" in only_error("outbox", fleet=fleet(queues=[refused])).text


def test_a_version_that_no_live_worker_knows() -> None:
    lost = fleet(unfinished={"order@1": 3, "order@2": 4})
    finding = only_error("versions", fleet=lost)
    assert "order version 2, which has 4 unfinished runs" in finding.text


def test_workers_that_have_no_workflow_in_common() -> None:
    stranger = replace(WORKER, hostname="w2@host", knows={"invoice@1": []})
    finding = only_warning("sharing", fleet=fleet(workers=[WORKER, stranger]))
    assert "w1@host (order) and w2@host (invoice)" in finding.text
    newer = replace(WORKER, knows={"order@2": [], "invoice@1": []})
    assert not found(replace(HEALTHY, fleet=fleet(workers=[WORKER, newer])))


def test_an_app_that_has_no_workflow_in_common_with_a_worker() -> None:
    only_warning("sharing", defined=frozenset({"invoice"}))
    assert not found(replace(HEALTHY, defined=frozenset()))


def diagnosis(*reasons: Reason) -> Diagnosis:
    return Diagnosis(UUID(int=9), Status.RUNNING, NOW, reasons)


def sampled(*reasons: Reason) -> Standstill:
    return replace(STANDSTILL, sample=[diagnosis(reason) for reason in reasons])


def test_runs_are_counted_by_what_they_wait_for() -> None:
    (finding,) = [one for one in judge(HEALTHY) if one.code == "runs"]
    assert finding.text == "Unfinished runs: 3 (1 ready, 2 signal)"
    many = judge(replace(HEALTHY, standstill=replace(STANDSTILL, is_all=False)))
    assert "3 or more" in next(one.text for one in many if one.code == "runs")


def test_runs_that_are_stuck_are_told_by_the_oldest_of_each_reason() -> None:
    new, old = (Reason(Code.DEAF, text, since, help="x") for text, since in PAIR)
    finding = only_error("runs.deaf", standstill=sampled(new, old))
    assert (finding.text, finding.fix) == ("2 of 2 sampled runs: old", "x")


PAIR = (("new", NOW - SECOND), ("old", LONG_AGO))


def test_what_is_in_order_for_a_moment_is_told_when_it_lasts() -> None:
    new, old = (Reason(Code.BUSY, text, since) for text, since in PAIR)
    only_warning("runs.busy", standstill=sampled(old))
    assert not found(replace(HEALTHY, standstill=sampled(new)))


def test_what_a_run_waits_for_inside_is_told_too() -> None:
    inner = Reason(Code.NO_CONSUMER, "nobody", LONG_AGO)
    outer = Reason(Code.BRANCHES, "m waits", LONG_AGO, inner=(inner,))
    assert only_error("runs.no_consumer", standstill=sampled(outer)).text.endswith("nobody")


@pytest.mark.parametrize(
    ("fact", "code"),
    [
        ("product", "server"),
        ("lock", "lock"),
        ("vitals", "autovacuum"),
        ("fleet", "relays"),
        ("standstill", "runs"),
    ],
)
def test_what_could_not_be_looked_at_is_a_warning(fact: str, code: str) -> None:
    finding = only_warning(code, **{fact: Unknown("no answer within 20 s")})
    assert "could not be checked: no answer within 20 s" in finding.text


def test_a_worker_process_that_lives_is_live() -> None:
    for name in ("host", "w1@host"):
        assert living([WORKER], name).severity is Severity.OK
    assert living([WORKER], "other").severity is Severity.ERROR
    assert living([replace(WORKER, state=WorkerState.DRAINING)], "host").severity is Severity.OK


def test_one_process_that_hangs_is_not_made_good_by_another() -> None:
    finding = living([WORKER, replace(LATE, pid=78)], "host")
    assert (finding.severity, "pid 78" in finding.text) == (Severity.ERROR, True)


def test_a_process_that_has_ended_does_not_count() -> None:
    """Celery starts another in its place."""
    assert living([WORKER, DEAD], "host").severity is Severity.OK
    assert living([DEAD], "host").severity is Severity.ERROR


def test_ready_is_who_has_a_database_a_broker_and_a_relay() -> None:
    assert [one.code for one in judge_readiness(HEALTHY)] == [
        *("settings", "broker", "database", "schema", "relays")
    ]
    for changes in (
        {"broker": Unknown("x")},
        {"fleet": fleet(relays=[])},
        {"fleet": Unknown("x")},
        {"schema": Unknown("x")},
        {"database": Unknown("x")},
        {"settings": Unknown("x")},
    ):
        worst = {one.severity for one in judge_readiness(replace(HEALTHY, **changes))}
        assert Severity.ERROR in worst, changes
