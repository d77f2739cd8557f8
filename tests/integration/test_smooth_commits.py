"""The commit of a step that nothing has happened to writes what the general one would (P1)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from psycopg.rows import dict_row

from celery_durable import Durable
from celery_durable.core.claim import Claim
from celery_durable.core.decide import decide
from celery_durable.core.decision import Decision, End, JournalRecord, Move, Outcome
from celery_durable.core.event import Succeeded
from celery_durable.core.failure import FailedAttempt
from celery_durable.core.nodes import Gathers, Routing
from celery_durable.core.status import Status
from celery_durable.core.token import Flags, ForTimer, Token
from celery_durable.errors import ErrorRecord
from celery_durable.store.commit import statement
from celery_durable.store.commit.parameters import Routed, is_smooth, parameters_of, variant_of
from tests.integration.driving import World, claimed, defining

NOW = datetime(2026, 1, 1, tzinfo=UTC)

CHANGES_EACH_TIME = frozenset(
    ("since", "hinted_at", "look_at", "finished_at", "available_at", "seq", "id", "fence")
)
"""The columns that hold a time, a number or a fence of their own."""

WRITTEN = (
    "SELECT * FROM durable_token",
    "SELECT * FROM durable_journal",
    "SELECT * FROM durable_outbox",
)


@pytest.mark.parametrize(
    "routed", [None, Routed("elsewhere", 3, 2.5, True)], ids=["on", "released"]
)
def test_it_writes_what_the_general_commit_writes(world: World, routed: Routed | None) -> None:
    worker = world.worker(defining([], "a", "b"))
    worker.start("w", {})
    claim, decision = completed(worker, world)
    world.rows("UPDATE durable_token SET crashes = 1, progress = '{}', wake_at = now()")
    assert is_smooth(decision)

    variant, parameters = (
        variant_of(claim, decision, routed),
        parameters_of(claim, decision, routed),
    )
    both = [
        written(worker, replace(variant, is_smooth=is_as_it_is), parameters)
        for is_as_it_is in (True, False)
    ]
    assert both[0] == both[1]
    assert [len(rows) for rows in both[0]] == [1, 1, 1 if routed else 0]


def test_it_sees_a_cancel_that_came_meanwhile(world: World) -> None:
    """P3"""
    worker = world.worker(defining([], "a", "b"))
    run = worker.start("w", {})
    claim, decision = completed(worker, world)
    world.rows("UPDATE durable_token SET flags = 1")
    with worker.database.autocommit() as connection:
        answer = statement.commit(connection, claim, decision, None)
    assert answer == statement.FlagRaised(Flags.CANCEL)
    assert world.units(run) == []


def completed(worker: Durable, world: World) -> tuple[Claim, Decision]:
    """A claim of the run's first step, and the decision when it has completed."""
    (token_id,) = world.publish()
    claim, workflow = claimed(worker, token_id), worker.registry.find("w", 1)
    assert claim is not None
    assert workflow is not None
    decision = decide(workflow.plan, claim.token, Succeeded("[1]", NOW), NOW)
    assert isinstance(decision, Decision)
    return claim, decision


def written(worker: Durable, variant: Any, parameters: Any) -> list[list[dict[str, Any]]]:
    """What the variant leaves in the tables; it is taken back."""
    with (
        worker.database.autocommit() as connection,
        connection.raw.cursor(row_factory=dict_row) as cursor,
    ):
        cursor.execute("BEGIN")
        assert connection.rows(statement._commit(variant), parameters)
        tables = [cursor.execute(query).fetchall() for query in WRITTEN]
        cursor.execute("ROLLBACK")
    return [
        [{k: v for k, v in row.items() if k not in CHANGES_EACH_TIME} for row in rows]
        for rows in tables
    ]


TOKEN = Token(UUID(int=1), UUID(int=2), "a", "a")
RECORD = JournalRecord("a", "a", Outcome.COMPLETED, 1, NOW, result="[1]")
ON = Move(replace(TOKEN, node="b", unit="b"), Routing())
SMOOTH = Decision(TOKEN, ON, (RECORD,))
FAILED = (FailedAttempt(1, ErrorRecord("E", "no"), NOW, NOW),)


def there(**changes: Any) -> Move:
    return replace(ON, token=replace(ON.token, **changes))


def test_a_step_that_goes_on_to_the_next_is_smooth() -> None:
    assert is_smooth(SMOOTH)
    assert is_smooth(replace(SMOOTH, token=replace(TOKEN, attempt=2, crashes=1)))


@pytest.mark.parametrize(
    "rough",
    [
        *(
            replace(SMOOTH, token=replace(TOKEN, **changes))
            for changes in (
                {"flags": Flags.CANCEL},
                {"rollback": Status.FAILED},
                {"failures": FAILED},
                {"wait": ForTimer()},
                {"position": 0},
            )
        ),
        *(
            replace(SMOOTH, then=there(**changes))
            for changes in (
                {"attempt": 2},
                {"crashes": 1},
                {"flags": Flags.CANCEL},
                {"rollback": Status.FAILED},
                {"failures": FAILED},
                {"input": "1"},
            )
        ),
        replace(SMOOTH, then=replace(ON, delay=1.0)),
        replace(SMOOTH, then=End()),
        replace(SMOOTH, records=()),
        replace(SMOOTH, records=(RECORD, RECORD)),
        *(
            replace(SMOOTH, records=(replace(RECORD, **changes),))
            for changes in (
                {"outcome": Outcome.FAILED},
                {"unit": "b"},
                {"part": "x"},
                {"gathers": Gathers.ITEMS},
            )
        ),
    ],
)
def test_what_has_more_to_write_is_not(rough: Decision) -> None:
    assert not is_smooth(rough)
