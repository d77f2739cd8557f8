"""What users ask the views, and their models, finds runs by an index."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import aliased

from celery_durable.models import WorkflowRun, WorkflowUnit
from tests.integration.driving import World
from tests.integration.planning import filled, scanned
from tests.services import PostgresServer


@pytest.fixture(scope="module")
def full(postgres: PostgresServer, template_database: str) -> Iterator[World]:
    with filled(postgres, template_database) as world:
        yield world


NEWEST = sa.select(WorkflowRun).order_by(WorkflowRun.id.desc()).limit(50)
RUN = UUID(int=4001)
numbers = sa.func.generate_series(1, 20).table_valued("n")
parent = aliased(WorkflowRun)

FOUND = {
    "the newest": NEWEST,
    "of one workflow": NEWEST.where(WorkflowRun.workflow == "w7"),
    "one status": NEWEST.where(WorkflowRun.status == "failed"),
    "a status read from tokens": NEWEST.where(WorkflowRun.status == "sleeping"),
    "some statuses": NEWEST.where(WorkflowRun.status.in_(["failed", "cancelled"])),
    "both": NEWEST.where(WorkflowRun.workflow == "w7", WorkflowRun.status == "suspended"),
    "a count": sa.select(sa.func.count())
    .select_from(WorkflowRun)
    .where(WorkflowRun.status == "failed"),
    "by id": sa.select(WorkflowRun).where(WorkflowRun.id == RUN),
    "by key": sa.select(WorkflowRun).where(WorkflowRun.workflow == "w1", WorkflowRun.key == "k1"),
    "by tag": sa.select(WorkflowRun).where(
        WorkflowRun.tags.op("@>")(sa.text("""'{"tenant": 7}'"""))
    ),
    "children": sa.select(WorkflowRun).where(WorkflowRun.parent_run_id == RUN),
    "an alias": sa.select(parent).where(parent.status == "failed").limit(50),
    "units": sa.select(WorkflowUnit).where(WorkflowUnit.run_id == RUN).order_by(WorkflowUnit.seq),
}


@pytest.mark.parametrize("name", FOUND)
def test_runs_are_found_by_an_index(full: World, name: str) -> None:
    """P11"""
    assert set(scanned(plan(full, FOUND[name]))) <= {"durable_pause"}


def plan(world: World, query: Any) -> Any:
    """How Postgres would execute a user's query."""
    text = query.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True})
    return world.one(f"EXPLAIN (FORMAT JSON) {text}".replace("%%", "%"))[0]["Plan"]


def test_a_status_without_its_stored_one_is_looked_for_in_all_runs(full: World) -> None:
    """What the comparison is for; and the proof that the test above can fail."""
    query = sa.select(sa.func.count()).where(sa.text("status = 'failed'")).select_from(WorkflowRun)
    assert "durable_run" in scanned(plan(full, query))
