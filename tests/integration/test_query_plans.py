"""P11: the statements of the hot path find their rows by an index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from celery_durable.core.claim import Claim, RunFacts
from celery_durable.core.decision import (
    Branch,
    Decision,
    End,
    Fork,
    JournalRecord,
    Leave,
    Move,
    Outcome,
    Park,
    RunChange,
)
from celery_durable.core.nodes import Routing
from celery_durable.core.status import FINISHED, Status
from celery_durable.core.token import ForBranches, ForChild, ForSignal, ForTimer, Token
from celery_durable.store import (
    deadlines,
    due,
    heartbeat,
    inbox,
    journal,
    lost_hints,
    reaping,
    reopening,
    runs,
    scan_lease,
    signals,
    tokens,
    watching,
    workers,
)
from celery_durable.store import tables as t
from celery_durable.store.cancelling import announcing, branches, ending
from celery_durable.store.commit import statement
from celery_durable.store.commit.parameters import Routed, parameters_of, variant_of
from celery_durable.store.connection import Statement
from celery_durable.store.read import (
    actions,
    asking,
    ended_units,
    facts,
    fleet,
    folded,
    gauges,
    history,
    listing,
    outcome,
    position,
    received,
    results,
    spans,
    traffic,
    views,
)
from celery_durable.store.read.ended_units import UnitFilter
from celery_durable.store.read.filters import checked_filter
from tests.integration.driving import World
from tests.integration.planning import filled, index_conditions, plan_of, scanned
from tests.services import PostgresServer

RUN, TOKEN, ID = UUID(int=1), UUID(int=2**32 + 1), uuid4()
WAITING_RUN, FORKED_RUN = UUID(int=5001), UUID(int=9901)
FORKED, BRANCH = UUID(int=2**32 + 9901), UUID(int=2**32 + 9901 * 1000 + 7)
AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def full(postgres: PostgresServer, template_database: str) -> Iterator[World]:
    """A database with 10,000 unfinished runs and much besides."""
    with filled(postgres, template_database) as world:
        yield world


A_TOKEN = Token(TOKEN, RUN, "a", "a")
ON = replace(A_TOKEN, node="b", unit="b")
ITEM = Token(BRANCH, FORKED_RUN, "m", "m#7", parent=FORKED, position=7, input="1")
PARKED = replace(A_TOKEN, wait=ForSignal("go"))
HERE, RELEASED = Routing(), Routed("durable", None)
DONE = JournalRecord("a", "a", Outcome.COMPLETED, 1, AT, result="1")
FACTS = RunFacts(RUN, "w", 1, Status.RUNNING, None, None, {}, "1", None)
BRANCHES = tuple(Branch(f"m#{n}", n, Routing("durable"), input="1") for n in range(20))


def commit(decision: Decision, *, releases: bool = False, parent: UUID | None = None) -> Any:
    """The statement that commits `decision`, and its parameters."""
    facts = replace(FACTS, parent_token=parent)
    claim = Claim(decision.token, facts, ID, ID, "durable", None, AT)
    routed = RELEASED if releases else None
    return statement._commit(variant_of(claim, decision, routed)), parameters_of(
        claim, decision, routed
    )


ENDED = RunChange(Status.COMPLETED)
FAILS = JournalRecord("m#7", "m", Outcome.FAILED, 1, AT, position=7)
FORK = Fork(replace(A_TOKEN, wait=ForBranches(20)), BRANCHES, window=5, chunk=2)

COMMITS = {
    "straight on": commit(Decision(A_TOKEN, Move(ON, HERE), (DONE,))),
    "hand over": commit(Decision(A_TOKEN, Move(ON, HERE), (DONE,)), releases=True),
    "retry": commit(Decision(A_TOKEN, Move(A_TOKEN, HERE, 1.0)), releases=True),
    "turn back": commit(
        Decision(A_TOKEN, Move(ON, HERE), (DONE, DONE), RunChange(Status.COMPENSATING))
    ),
    "iterate": commit(
        Decision(ITEM, Move(replace(ITEM, position=8, unit="m#8"), HERE), (DONE,)), releases=True
    ),
    "park for a signal": commit(Decision(A_TOKEN, Park(PARKED, HERE, 60.0)), releases=True),
    "park for a time": commit(
        Decision(A_TOKEN, Park(replace(A_TOKEN, wait=ForTimer()), HERE, 60.0)), releases=True
    ),
    "park for a child": commit(
        Decision(A_TOKEN, Park(replace(A_TOKEN, wait=ForChild(ID)), HERE)), releases=True
    ),
    "consume a signal": commit(Decision(PARKED, Move(ON, HERE), (DONE,), consumes=1)),
    "fork": commit(Decision(A_TOKEN, FORK), releases=True),
    "leave": commit(Decision(ITEM, Leave(chunk=2), (DONE,))),
    "leave and stop the others": commit(Decision(ITEM, Leave(failed=True, stops=True), (FAILS,))),
    "end": commit(Decision(A_TOKEN, End(), (DONE,), ENDED)),
    "end of a child": commit(Decision(A_TOKEN, End(), (DONE,), ENDED), parent=FORKED),
}

OF_RUN = {"run_id": RUN}
TOPS = {"tops": f"{{{RUN}}}"}


def listed(**options: Any) -> tuple[Statement, Mapping[str, Any]]:
    """The statement of a list with these filters, and its parameters."""
    before = options.pop("before", None)
    found = checked_filter(**options)
    parameters = {**found.parameters(), "limit": 100, "before": before}
    return listing.statement_for(found, before), parameters


def of_units(**options: Any) -> tuple[Statement, Mapping[str, Any]]:
    """The statement of a page of units, and its parameters."""
    found = UnitFilter(**options)
    return ended_units.statement_for(found), {
        **found.parameters(),
        "run_id": FORKED_RUN,
        "limit": 50,
    }


HOUR = timedelta(hours=1)
LATELY = {"hour": AT - HOUR, "day": AT - 24 * HOUR, "first_id": RUN}
IDS = {"ids": f'["{FORKED_RUN}", "{WAITING_RUN}"]'}
FORKED_RUNS = f'["{FORKED_RUN}"]'
ASKED = f'["{WAITING_RUN}", "{FORKED_RUN}"]'
SENT = {"name": "go", "payload": "1", "key": "k", "trace": None}
FREED = {
    "token_id": TOKEN,
    "old_fence": ID,
    "holder": ID,
    "new_fence": ID,
    "counts": True,
    "timed_out": False,
}

HOT: dict[str, tuple[Statement, Mapping[str, Any]]] = {
    "claim": (tokens._CLAIM, {"token_id": TOKEN, "worker": ID, "new_fence": ID}),
    "refusal": (
        tokens._REFUSAL,
        {"token_id": TOKEN, "worker": ID, "origin": "x/y/z", "schema": "public"},
    ),
    "read": (tokens._READ, {"token_id": TOKEN}),
    "release": (
        tokens._RELEASE,
        {
            "token_id": TOKEN,
            "held_fence": ID,
            "worker": ID,
            "is_first": True,
            "delay": timedelta(1),
        },
    ),
    **COMMITS,
    "beat": (heartbeat._BEAT, {"token_id": TOKEN, "held_fence": ID, "note": None}),
    "next undo": (journal._UNDO, {**OF_RUN, "after": "u900", "nodes": '["u800"]'}),
    "child": (journal._CHILD, {**OF_RUN, "unit": "u900"}),
    "input": (journal._INPUT, {**OF_RUN, "unit": "u900"}),
    "first failure": (
        journal._FIRST_FAILED,
        {"run_id": FORKED_RUN, "node": "m", "outcome": "failed"},
    ),
    "completed nodes": (journal._COMPLETED, {"run_id": FORKED_RUN, "outcome": "completed"}),
    "result": (results._UNIT, {**OF_RUN, "unit": "u900"}),
    "results of parts": (
        results._PARTS,
        {"run_id": FORKED_RUN, "from_unit": "m#", "to_unit": "m$"},
    ),
    "results of a run": (results._ENTRIES, {"run_id": FORKED_RUN}),
    "results of a tree": (results._TREE, IDS),
    "outcome": (outcome._OUTCOME, {"run_id": FORKED_RUN}),
    "look what is due": (due._LOOK, {"after": 39_990, "back": timedelta(seconds=1)}),
    "look at all that is due": (
        due._LOOK_AT_EVERYTHING,
        {"after": 39_990, "back": timedelta(seconds=1)},
    ),
    "take what is due": (
        due._TAKE,
        {"queue": "", "priority": 0, "crowd": 0, "after": 0, "until": 2**63 - 1, "batch": 200},
    ),
    "move into lanes": (due._MOVE_INTO_LANES, {"back": timedelta(seconds=1), "batch": 200}),
    "delete": (due._DELETE, {"ids": "{1,2,3}"}),
    "postpone": (due._POSTPONE, {"outbox_id": 1, "last_error": "", "delay": timedelta(1)}),
    "begin": (runs._BEGIN, OF_RUN),
    "undo a child": (
        reopening._REOPEN_CHILD,
        {
            "tokens": f'[{{"id": "{ID}", "run_id": "{RUN}", "fence": "{ID}"}}]',
            "parent_token": ID,
            "queue": "durable",
        },
    ),
    "is scheduled": (runs._IS_SCHEDULED, {"workflow": "w1", "schedule": "nightly"}),
    "with key": (runs._WITH_KEY, {"workflow": "w1", "key": "k1"}),
    "holder of a key": (runs._HOLDER, {"workflow": "w1", "key": "k1"}),
    "free a key": (runs._FREE_KEY, {**OF_RUN, "key": "k1", "has_ended": True}),
    "time runs out": (deadlines._TIME_OUT, {"batch": 500, "reason": "x", "payload": "{}"}),
    "expire runs": (deadlines._EXPIRE, {"batch": 500, "reason": "x", "payload": "{}"}),
    "keep runs that have begun": (deadlines._KEEP, {"batch": 500}),
    "send a signal": (signals._SEND, {"run_id": WAITING_RUN, **SENT}),
    "send a signal to many": (signals._SEND, {"run_id": FORKED_RUN, **SENT}),
    "status for a signal": (signals._STATUS, {**OF_RUN, "name": "go"}),
    "oldest signal": (signals._OLDEST, {"run_id": WAITING_RUN, "name": "go"}),
    "last signal": (signals._CONSUMED, {"run_id": WAITING_RUN, "name": "go"}),
    "read commands": (inbox._READ, {"runs": f"{{{RUN}}}"}),
    "remove commands": (inbox._REMOVE, {"ids": "{1, 2}"}),
    "announce": (announcing._ANNOUNCE, {**TOPS, "flags": 1, "top_flags": 1, "reason": None}),
    "end branches": (branches._END_BRANCHES, {"runs": FORKED_RUNS, "flags": 1}),
    "branches that are left": (branches._LEFT, {"runs": FORKED_RUNS, "flags": 1}),
    "lock parents": (branches._LOCK_PARENTS, {"runs": FORKED_RUNS, "counts": "[]"}),
    "count down": (branches._COUNT_DOWN, {"runs": FORKED_RUNS, "counts": "[]"}),
    "drop items": (branches._DROP_ITEMS, {"runs": FORKED_RUNS}),
    "idle branches": (
        ending._IDLE,
        {"runs": FORKED_RUNS, "branches": True, "limit": 5000},
    ),
    "idle runs": (ending._IDLE, {"runs": FORKED_RUNS, "branches": False, "limit": 5000}),
    "delete tokens": (ending._DELETE, {"tokens": FORKED_RUNS}),
    "end runs": (ending._END, {**TOPS, "tokens": FORKED_RUNS, "errors": "[]"}),
    "hint what is left": (ending._HINT, {"runs": FORKED_RUNS}),
    "hint a run": (inbox._HINT, OF_RUN),
    "orphans": (reaping._FIND, {"batch": 500}),
    "claimed by": (reaping._CLAIMED_BY, {"worker": ID}),
    "renew": (workers._RENEW, {"worker": ID, "ttl": timedelta(1)}),
    "what a reaper watches": (watching._LOOK, {"lock_space": "x", "batch": 500}),
    "free": (reaping._REAP, FREED),
    "status": (views._STATUS, {**OF_RUN, "results": True}),
    "runs, to explain them": (facts._RUNS, {"run_ids": ASKED}),
    "what was done to a run": (actions._OF_RUN, {**OF_RUN, "limit": 100}),
    "what was done last": (actions._OF_ALL, {"run_id": None, "limit": 100}),
    "tokens, to explain runs": (facts._TOKENS, {"run_ids": ASKED}),
    "signals, to explain runs": (facts._SIGNALS, {"run_ids": ASKED}),
    "refused signals, to explain runs": (facts._REFUSALS, {"run_ids": ASKED}),
    "refuse a signal": (
        signals._REFUSE,
        {"message": 1, "token_id": TOKEN, "held_fence": ID, "worker": ID, "why": "x"},
    ),
    "count signals": (signals._COUNTED, {"run_id": WAITING_RUN, "name": "go"}),
    "workflow": (views._WORKFLOW, OF_RUN),
    "what a token asks": (asking._ONE, {"token_id": TOKEN}),
    "what became of a wait": (
        asking._STANDING,
        {"run_id": WAITING_RUN, "signal": "go", "signal_key": "#wait:0", "unit": "a"},
    ),
    "workers, to explain runs": (facts._WORKERS, {"lock_space": "x"}),
    "workers and what they execute": (fleet._WORKERS, {"lock_space": "x", "node_id": None}),
    "due messages of each queue": (fleet.DUE, {"most": 1000}),
    "messages for later": (fleet.TIMED, {"most": 1000}),
    "tokens that are published": (fleet.PUBLISHED, {"most": 1000}),
    "tokens that are executed": (fleet.CLAIMED, {}),
    "runs by their stored status": (gauges.STORED, {"most": 1000}),
    "runs that stand": (gauges.STANDING, {"most": 1000}),
    "runs that are not undone": (gauges.NOT_COMPENSATED, {"most": 1000}),
    "sizes": (views._SIZES, {"run_id": FORKED_RUN}),
    "size of a result": (results._SIZE, IDS),
    "has ended": (history._HAS_ENDED, {**OF_RUN, "unit": "u900"}),
    "journal, folded": (folded._GROUPS, {"run_id": FORKED_RUN, "counted": '["m"]'}),
    "journal, what is not folded": (
        folded._ENTRIES,
        {"run_id": FORKED_RUN, "counted": '["m"]', "alone": "[]"},
    ),
    "parts for a timeline": (
        spans._PARTS,
        {"run_id": FORKED_RUN, "counted": '["m"]', "limit": 200},
    ),
    "densities of a timeline": (
        spans._DENSITIES,
        {"run_id": FORKED_RUN, "counted": '["m"]', "begin": AT, "seconds": 1.5},
    ),
    "what is tried again": (
        folded._TRYING,
        {"run_id": FORKED_RUN, "limit": 100, "unit": None},
    ),
    "ending": (views._ENDING, OF_RUN),
    "history": (
        history._JOURNAL,
        {"run_id": FORKED_RUN, "after": None, "limit": None, "results": True},
    ),
    "history, a page on": (
        history._JOURNAL,
        {"run_id": FORKED_RUN, "after": "m#3", "limit": 100, "results": True},
    ),
    "compensation errors": (views._COMPENSATION_ERRORS, {"run_id": FORKED_RUN}),
    "places": (position._GROUPS, {"run_id": FORKED_RUN}),
    "awaited signals": (position._AWAITED, {"run_id": FORKED_RUN}),
    "progress": (position._PROGRESS, {"run_id": FORKED_RUN}),
    "units in hand": (position._UNITS, {"run_id": FORKED_RUN}),
    "list": listed(),
    "list, a page on": listed(before=RUN),
    "list of a workflow": listed(workflow="w1"),
    "list of completed": listed(status="completed"),
    "list of failed": listed(status="failed"),
    "list of running": listed(status="running"),
    "list of suspended": listed(status="suspended"),
    "list of sleeping of a workflow": listed(status="sleeping", workflow="w1"),
    "list of children": listed(parent=RUN),
    "list by tags": listed(tags={"tenant": "7"}),
    "list of a time": listed(since=AT - HOUR, until=AT),
    "list by key": listed(key="k1"),
    "list by key of a workflow": listed(key="k1", workflow="w1"),
    "list by error": listed(error="Declined"),
    "list by error of a workflow": listed(error="Declined: no money", workflow="w1"),
    "list of failed compensations": listed(compensation_failed=True),
    "list of failed runs without": listed(compensation_failed=False, status="failed"),
    "list of what has failed lately": listed(status="failed", ended_since=AT),
    "list of what stands": listed(standing_since=AT),
    "units": of_units(),
    "units of a node": of_units(node="m", is_undo=False, after="m#3"),
    "units of a node that failed": of_units(node="m", outcome=Outcome.FAILED),
    "compensations of a node": of_units(node="m", is_undo=True),
    "unit": (ended_units._UNIT, {**OF_RUN, "unit": "u900"}),
    "signals of a run": (received._SIGNALS, {"run_id": WAITING_RUN, "limit": 50}),
    "last message and action": (received._LAST, {"run_id": WAITING_RUN}),
    "unfinished runs, counted": (traffic._UNFINISHED, {}),
    "runs that began lately": (traffic._STARTED, LATELY),
    "runs that ended lately": (traffic._ENDED_LATELY, LATELY),
    "failures of a day": (traffic._FAILURES, LATELY),
    "list by everything": listed(
        status="failed",
        workflow="w1",
        parent=RUN,
        tags={"tenant": "7"},
        since=AT - HOUR,
        until=AT,
        key="k1",
        error="Declined: no money",
        compensation_failed=True,
        ended_since=AT - HOUR,
        before=RUN,
    ),
}

SMALL = {
    "durable_recovery": "one row",
    "durable_worker": "a row for each process that lived within the last minutes",
    "durable_definition": "a row for each version of a workflow",
    "durable_pause": "a row for each pause",
}
"""Tables that a statement may scan: how many rows they have has nothing to do with runs."""


@pytest.mark.parametrize("name", HOT)
def test_a_hot_statement_reads_no_table_from_end_to_end(full: World, name: str) -> None:
    """P11"""
    plan = plan_of(full, *HOT[name])
    assert [table for table in scanned(plan) if table not in SMALL] == []


def test_the_units_of_a_node_are_a_range_of_the_journals_key(full: World) -> None:
    """P11: a node's result costs what its own units cost, not what the run's journal holds."""
    condition, of_the_origin = index_conditions(plan_of(full, *HOT["results of parts"]))
    assert "inherited_from" in of_the_origin
    assert "unit >= 'm#'" in condition
    assert "unit < 'm$'" in condition


def test_items_are_opened_by_a_range_of_their_key(full: World) -> None:
    """P11: who leaves a map does not read through the items that others wait for."""
    conditions = index_conditions(plan_of(full, *HOT["leave"]))
    assert any("position" in condition and "opened" in condition for condition in conditions)


STALLED = {
    "after": TOKEN,
    "last": UUID(int=2**128 - 1),
    "page": 1000,
    "first_after": 10.0,
    "at_most": 600.0,
    "paces": "{}",
}
LOOK = {**STALLED, **lost_hints.TIMES}
TAKEN = {"lease": timedelta(1), "age": timedelta(minutes=10), **lost_hints.TIMES}
LEASE_ENDS = {"reached": TOKEN, "pause": timedelta(1), "saw_all": True, "paces": "{}"}

UNFINISHED: dict[str, tuple[Statement, Mapping[str, Any], set[str]]] = {
    "stalled": (lost_hints._HINT_AGAIN, STALLED, set()),
    "take the lease": (scan_lease._TAKE, TAKEN, set()),
    "look for lost hints": (lost_hints._LOOK, LOOK, set()),
    "paces": (lost_hints._PACES, {}, set()),
    "end the lease": (scan_lease._END, LEASE_ENDS, set()),
    "late signals": (signals._ORPHANS, {}, {"durable_inbox"}),
    "runs with commands": (inbox._PENDING, {"batch": 500}, set()),
}
"""What recovery asks every few seconds, and what it may read from end to end for it."""


@pytest.mark.parametrize("name", UNFINISHED)
def test_recovery_reads_nothing_that_has_ended(full: World, name: str) -> None:
    """P11: what it costs has nothing to do with the runs there have been."""
    statement, parameters, may_scan = UNFINISHED[name]
    assert set(scanned(plan_of(full, statement, parameters))) - set(SMALL) <= may_scan


def test_recovery_looks_at_a_page_of_tokens_by_a_range_of_their_key(full: World) -> None:
    """P11: however many there are."""
    conditions = index_conditions(plan_of(full, lost_hints._HINT_AGAIN, STALLED))
    assert any("id > " in condition and "id <= " in condition for condition in conditions)


def test_ended_runs_are_counted_by_their_index(full: World) -> None:
    """P11: many, but no more than the bound; nothing of the rows themselves is needed."""
    plan = plan_of(full, traffic._ENDED, {}, scans=False)
    assert scanned(plan) == []
    assert sorted(index_conditions(plan)) == sorted(f"(status = '{one}'::text)" for one in FINISHED)


def test_the_probe_sees_a_scan(full: World) -> None:
    of_no_index = sa.select(t.token.c.id).where(t.token.c.hints == sa.literal_column("1"))
    assert scanned(plan_of(full, Statement(of_no_index), {})) == ["durable_token"]
