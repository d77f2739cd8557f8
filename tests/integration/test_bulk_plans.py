"""A page of a bulk action costs what a page has, however many runs there are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from celery_durable.core.status import FINISHED
from celery_durable.store import inbox, inheriting, pauses, reopening, signals, sql, steering
from celery_durable.store.cancelling import announcing, ending
from celery_durable.store.connection import Statement
from celery_durable.store.read import matching
from celery_durable.store.read.filters import checked_filter
from celery_durable.store.read.matching import Matching
from tests.addresses import conninfo
from tests.integration.driving import World
from tests.integration.planning import filled, index_conditions, plan_of, scanned
from tests.integration.test_query_plans import SMALL
from tests.services import PostgresServer


@pytest.fixture(scope="module")
def full(postgres: PostgresServer, template_database: str) -> Iterator[World]:
    """A database with 10,000 unfinished runs, and 22,000 that have ended."""
    with filled(postgres, template_database) as world:
        yield world


AT = datetime(2100, 1, 1, tzinfo=UTC)
RUNS = sql.array(UUID(int=n) for n in range(1, 101))
FAILED = sql.array(UUID(int=n) for n in range(30_001, 30_101))
TOKENS = "[" + ",".join(f'"{UUID(int=2**32 + n)}"' for n in range(1, 101)) + "]"
NEW = ",".join(
    f'{{"id": "{uuid4()}", "run_id": "{UUID(int=n)}", "fence": "{uuid4()}"}}'
    for n in range(30_001, 30_101)
)
HEIRS = ",".join(
    f'{{"id": "{uuid4()}", "run_id": "{UUID(int=n)}", "nodes": ["a", "b"]}}'
    for n in range(30_001, 30_101)
)
SENT = {"name": "go", "payload": "1", "key": "k", "trace": None}
ASKED = {"flags": 1, "payload": "{}"}

PAGES: dict[str, tuple[Statement, Mapping[str, Any]]] = {
    "ask to end": (inbox._SEND_TO_MANY, {"runs": RUNS, **ASKED}),
    "read what was asked": (inbox._READ, {"runs": RUNS}),
    "announce": (
        announcing._ANNOUNCE,
        {"tops": RUNS, "flags": 1, "top_flags": 1, "reason": None},
    ),
    "end": (ending._END, {"tops": RUNS, "tokens": TOKENS, "errors": "[]"}),
    "try now": (steering._TRY_MANY_NOW, {"runs": RUNS}),
    "wake": (
        steering._WAKE_RUNS,
        {"runs": RUNS, "after": UUID(int=0), "workflow": None, "version": None, "step": None},
    ),
    "set aside": (reopening._SET_ASIDE, {"runs": FAILED}),
    "reopen": (reopening._REOPEN_FAILED, {"tokens": f"[{NEW}]", "queue": "durable"}),
    "pause": (pauses._PAUSE_RUNS, {"runs": RUNS, "reason": None}),
    "unpause": (pauses._UNPAUSE_RUNS, {"runs": RUNS}),
    "send a signal": (signals._SEND_TO_MANY, {"runs": RUNS, **SENT}),
    "lock": (inheriting._LOCK_WITHOUT_WAITING, {"runs": FAILED}),
    "kept": (inheriting._KEPT, {"runs": FAILED}),
    "not undone": (inheriting._NOT_UNDONE, {"runs": FAILED}),
    "inherit": (inheriting._INHERIT, {"heirs": f"[{HEIRS}]"}),
    "mark as retried": (inheriting._RETRIED, {"heirs": f"[{HEIRS}]"}),
}
"""What is done to a page of 100 runs, besides what starts and deletes runs."""


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_done_by_indexes(full: World, name: str) -> None:
    """P11"""
    plan = plan_of(full, *PAGES[name])
    assert [table for table in scanned(plan) if table not in SMALL] == []


STANDING: dict[str, tuple[str, ...]] = {
    "cancel": ("to be cancelled",),
    "retry": ("not tried again", "nobody's child"),
    "retry_now": ("between tries",),
    "resume": ("unfinished", "signal is new"),
    "pause": ("not paused",),
    "unpause": ("paused",),
    "retry_compensation": ("compensation failed", "not tried again"),
    "prune": ("old",),
}
PARAMETERS = {
    "flags": 1,
    "signal": "go",
    "signal_key": "k",
    "began": AT,
    **dict.fromkeys((status.value for status in FINISHED), timedelta(1)),
}


@pytest.mark.parametrize("action", STANDING)
@pytest.mark.parametrize("is_first", [True, False])
def test_the_next_page_is_found_by_an_index(full: World, action: str, is_first: bool) -> None:
    """P11: from the last run of the page before."""
    oldest_first = action != "prune"
    place = () if is_first else ("after",) if oldest_first else ("before",)
    statement = matching._page_of(
        checked_filter(workflow="w1").conditions().union(place),
        frozenset({*STANDING[action], "started before"}),
        matching._MATCH,
        has_error=False,
        oldest_first=oldest_first,
    )
    these = Matching(checked_filter(workflow="w1"), parameters=PARAMETERS)
    last = UUID(int=500)
    parameters = {**these.all_parameters(), "limit": 100, "after": last, "before": last}
    plan = plan_of(full, statement, parameters)
    assert [table for table in scanned(plan) if table not in SMALL] == []
    # Most of these runs match. Of the others a page is found as quickly by reading all that match.
    if not is_first and action in ("cancel", "retry_now", "resume"):
        assert any("workflow =" in one and "id" in one for one in index_conditions(plan))


def work_of(plan: Mapping[str, Any]) -> float:
    """How many rows a plan that was executed has looked at, in all of its parts."""
    looked = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Join Filter")
    here = sum(plan.get(key, 0) for key in looked) * plan.get("Actual Loops", 0)
    return float(here + sum(map(work_of, plan.get("Plans", ()))))


@pytest.fixture(scope="module")
def forgotten(postgres: PostgresServer, template_database: str) -> Iterator[World]:
    """A database of which Postgres believes that nothing is in it, as at night; and it is full."""
    with postgres.database("durable_test", template_database) as name:
        world = World(postgres.url(name))
        worker = world.worker(lambda durable: durable.workflow("w").wait_for_signal("go"))
        worker.start_many("w", [{}] * MANY)
        for table in ("token", "outbox", "run"):
            world.rows(f"DELETE FROM durable_{table}")
        world.rows("ANALYZE")
        worker.start_many("w", [{}] * MANY)
        world.rows("UPDATE durable_token SET failures = '[]', wake_at = now() + interval '1 hour'")
        yield world
        world.close()


MANY, PAGE = 1000, 100

OF_PAGES: dict[str, Callable[[str, str], tuple[Statement, Mapping[str, Any]]]] = {
    "end": lambda runs, tokens: (
        ending._END,
        {"tops": f"{{{runs}}}", "tokens": tokens, "errors": "[]"},
    ),
    "delete tokens": lambda _, tokens: (ending._DELETE, {"tokens": tokens}),
    "try now": lambda runs, _: (steering._TRY_MANY_NOW, {"runs": f"{{{runs}}}"}),
    "send a signal": lambda runs, _: (signals._SEND_TO_MANY, {"runs": f"{{{runs}}}", **SENT}),
    "next page": lambda *_: (
        matching._page_of(
            frozenset({"workflow"}),
            frozenset({"not paused"}),
            matching._MATCH,
            has_error=False,
            oldest_first=True,
        ),
        {"workflow": "w", "limit": PAGE},
    ),
}


@pytest.mark.parametrize("name", OF_PAGES)
def test_a_page_is_looked_up_whatever_the_statistics_say(forgotten: World, name: str) -> None:
    """P11: and each row is not looked for among all others (ADR 27)."""
    rows = forgotten.rows("SELECT id, run_id FROM durable_token ORDER BY run_id LIMIT %s", PAGE)
    runs = ",".join(str(row["run_id"]) for row in rows)
    tokens = json.dumps([str(row["id"]) for row in rows])
    statement, parameters = OF_PAGES[name](runs, tokens)
    text, literals = statement.compiled("public")
    with psycopg.connect(conninfo(forgotten.url)) as connection:
        connection.execute("SET enable_seqscan = off")
        cursor = psycopg.ClientCursor(connection)
        cursor.execute(b"EXPLAIN (ANALYZE, FORMAT JSON) " + text, {**literals, **parameters})
        (plans,) = cursor.fetchone() or ([],)
        connection.rollback()
    assert work_of(plans[0]["Plan"]) < PAGE * MANY / 2
