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
from celery_durable.core.status import Status
from celery_durable.core.token import ForBranches, ForChild, ForSignal, ForTimer, Token
from celery_durable.store import (
    due,
    heartbeat,
    inbox,
    journal,
    lost_hints,
    reaping,
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
from celery_durable.store.read import facts, folded, history, outcome, position, results, views
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
LISTED = {
    "status": None,
    "stored": None,
    "workflow": None,
    "parent": None,
    "tags": None,
    "limit": 100,
    "before": None,
}
IDS = {"ids": f'["{FORKED_RUN}", "{WAITING_RUN}"]'}
FORKED_RUNS = f'["{FORKED_RUN}"]'
ASKED = f'["{WAITING_RUN}", "{FORKED_RUN}"]'
SENT = {"name": "go", "payload": "1", "key": "k"}
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
        {"token_id": TOKEN, "held_fence": ID, "worker": ID, "delay": timedelta(1)},
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
        runs._REOPEN,
        {**OF_RUN, "parent_token": ID, "token_id": ID, "fence": ID, "queue": "durable"},
    ),
    "is scheduled": (runs._IS_SCHEDULED, {"workflow": "w1", "schedule": "nightly"}),
    "with key": (runs._WITH_KEY, {"workflow": "w1", "key": "k1"}),
    "send a signal": (signals._SEND, {"run_id": WAITING_RUN, **SENT}),
    "send a signal to many": (signals._SEND, {"run_id": FORKED_RUN, **SENT}),
    "status for a signal": (signals._STATUS, {**OF_RUN, "name": "go"}),
    "oldest signal": (signals._OLDEST, {"run_id": WAITING_RUN, "name": "go"}),
    "last signal": (signals._CONSUMED, {"run_id": WAITING_RUN, "name": "go"}),
    "read commands": (inbox._READ, OF_RUN),
    "remove commands": (inbox._REMOVE, {"ids": "{1, 2}"}),
    "announce": (announcing._ANNOUNCE, {**OF_RUN, "flags": 1, "reason": None}),
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
    "end runs": (ending._END, {**OF_RUN, "tokens": FORKED_RUNS}),
    "hint what is left": (ending._HINT, {"runs": FORKED_RUNS}),
    "hint a run": (inbox._HINT, OF_RUN),
    "orphans": (reaping._FIND, {"batch": 500}),
    "claimed by": (reaping._CLAIMED_BY, {"worker": ID}),
    "renew": (workers._RENEW, {"worker": ID, "ttl": timedelta(1)}),
    "what a reaper watches": (watching._LOOK, {"lock_space": "x", "batch": 500}),
    "free": (reaping._REAP, FREED),
    "status": (views._STATUS, {**OF_RUN, "results": True}),
    "runs, to explain them": (facts._RUNS, {"run_ids": ASKED}),
    "tokens, to explain runs": (facts._TOKENS, {"run_ids": ASKED}),
    "signals, to explain runs": (facts._SIGNALS, {"run_ids": ASKED}),
    "workers, to explain runs": (facts._WORKERS, {"lock_space": "x"}),
    "sizes": (views._SIZES, {"run_id": FORKED_RUN}),
    "size of a result": (results._SIZE, IDS),
    "has ended": (history._HAS_ENDED, {**OF_RUN, "unit": "u900"}),
    "journal, folded": (folded._GROUPS, {"run_id": FORKED_RUN, "counted": '["m"]'}),
    "journal, what is not folded": (
        folded._ENTRIES,
        {"run_id": FORKED_RUN, "counted": '["m"]', "alone": "[]"},
    ),
    "what is tried again": (folded._TRYING, {"run_id": FORKED_RUN, "limit": 100}),
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
    "list": (views._LIST, LISTED),
    "list, a page on": (views._LIST, {**LISTED, "before": RUN}),
    "list of a workflow": (views._LIST, {**LISTED, "workflow": "w1"}),
    "list of completed": (views._LIST, {**LISTED, "status": "completed", "stored": "completed"}),
    "list of failed": (views._LIST, {**LISTED, "status": "failed", "stored": "failed"}),
    "list of running": (views._LIST, {**LISTED, "status": "running", "stored": "running"}),
    "list of suspended": (views._LIST, {**LISTED, "status": "suspended", "stored": "running"}),
    "list of sleeping of a workflow": (
        views._LIST,
        {**LISTED, "status": "sleeping", "stored": "running", "workflow": "w1"},
    ),
    "list of children": (views._LIST, {**LISTED, "parent": RUN}),
    "list by tags": (views._LIST, {**LISTED, "tags": '{"tenant": 7}'}),
}

SMALL = {
    "durable_recovery": "one row",
    "durable_worker": "a row for each process that lived within the last minutes",
    "durable_definition": "a row for each version of a workflow",
}
"""Tables that a statement may scan: how many rows they have has nothing to do with runs."""


@pytest.mark.parametrize("name", HOT)
def test_a_hot_statement_reads_no_table_from_end_to_end(full: World, name: str) -> None:
    """P11"""
    plan = plan_of(full, *HOT[name])
    assert [table for table in scanned(plan) if table not in SMALL] == []


def test_the_units_of_a_node_are_a_range_of_the_journals_key(full: World) -> None:
    """P11: a node's result costs what its own units cost, not what the run's journal holds."""
    (condition,) = index_conditions(plan_of(full, *HOT["results of parts"]))
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


def test_the_probe_sees_a_scan(full: World) -> None:
    of_no_index = sa.select(t.token.c.id).where(t.token.c.hints == sa.literal_column("1"))
    assert scanned(plan_of(full, Statement(of_no_index), {})) == ["durable_token"]
