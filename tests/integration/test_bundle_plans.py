"""P11: the plans of a bundle's statements are those of large tables, also in small ones."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
import pytest

from celery_durable import Durable
from celery_durable.store.bundle import claiming, committing
from celery_durable.store.bundle.given import id_list
from celery_durable.store.connection import Statement
from tests.integration.driving import World, defining
from tests.integration.planning import scanned

ID = UUID(int=1)
GIVEN = {"given": id_list([ID]), "held_fence": ID, "worker": ID}
STATEMENTS: dict[str, tuple[Statement, dict[str, Any]]] = {
    "claim": (claiming._CLAIM_TOGETHER, {**GIVEN, "new_fence": ID}),
    "claim again": (claiming._CLAIM_AGAIN, {**GIVEN, "new_fence": ID}),
    "hint": (claiming._HINT, GIVEN),
    "look": (claiming._LOOK, GIVEN),
    "release": (claiming._RELEASE_TOGETHER, {**GIVEN, "single": True}),
    "move": (committing._MOVE, GIVEN),
    "move and release": (committing._MOVE_AND_RELEASE, GIVEN),
    "end": (committing._END, GIVEN),
    "leave": (committing._LEAVE, {**GIVEN, "parent": ID, "workflow": "w", "chunk": 1}),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_rows_are_looked_up_though_their_table_is_small(world: World, name: str) -> None:
    """Such a plan stays when the table has grown, until the next ANALYZE."""
    worker = world.worker(defining([], "a"))
    worker.start_many("w", [{}] * 20)
    world.rows("ANALYZE durable_run, durable_token, durable_inbox")
    plan = plan_of(worker, *STATEMENTS[name])
    assert [table for table in scanned(plan) if table.startswith("durable_")] == []
    assert joins(plan) <= {"Nested Loop"}


def plan_of(worker: Durable, statement: Statement, parameters: dict[str, Any]) -> Any:
    """How a session of the worker's own would execute it."""
    text, literals = statement.compiled("public")
    with worker.database.autocommit() as connection:
        cursor = psycopg.ClientCursor(connection.raw)
        cursor.execute(b"EXPLAIN (FORMAT JSON) " + text, {**literals, **parameters})
        ((plan,),) = cursor.fetchall()
    return plan[0]["Plan"]


def joins(plan: dict[str, Any]) -> set[str]:
    """The kinds of joins in a plan, but for those that look for rows that are not there."""
    kind = plan["Node Type"]
    below = [found for one in plan.get("Plans", ()) for found in joins(one)]
    is_join = kind == "Nested Loop" or kind.endswith("Join")
    return {*below, *([kind] if is_join else [])}
