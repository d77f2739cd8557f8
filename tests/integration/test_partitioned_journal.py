"""The journal in partitions: the SQL of docs/how-to/large-tables.md is executed here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from celery_durable import Durable
from celery_durable.run import Run
from tests.addresses import ROOT, conninfo
from tests.docs.pages import blocks
from tests.integration.driving import ONCE, PATIENCE, World
from tests.integration.pruned import Past

PAGE = ROOT / "docs" / "how-to" / "large-tables.md"


def block_with(words: str) -> str:
    """The SQL block of the page in which these words are."""
    (found,) = [
        block.code for block in blocks(PAGE) if block.language == "sql" and words in block.code
    ]
    return found


CONVERTS, NEXT = block_with("LOCK TABLE"), block_with("CREATE TABLE durable_journal_2027_02")
DETACHES, NEEDED = block_with("DETACH PARTITION"), block_with("root.finished_at IS NULL")
VACUUMS = block_with("autovacuum")


class Months:
    """Executes the page's SQL, for months that are days here, the first of which begins now."""

    def __init__(self, world: World) -> None:
        self._world = world
        now = datetime.now(UTC)
        self._begins: Mapping[str, datetime] = {
            "2027-01-01 00:00Z": now,
            "2027-02-01 00:00Z": now + timedelta(days=1),
            "2027-03-01 00:00Z": now + timedelta(days=2),
        }

    def execute(self, sql: str) -> Any:
        """What its last statement returns."""
        for month, begins in self._begins.items():
            sql = sql.replace(month, begins.isoformat())
        with psycopg.connect(conninfo(self._world.url), autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            while cursor.nextset():
                pass
            return cursor.fetchall() if cursor.description else []


def define(durable: Durable) -> None:
    """Every way in which the journal is written and read."""

    def undo(ctx: Any) -> None: ...

    def fail(_: Any) -> None:
        raise ValueError("no")

    def make(name: str, **options: Any) -> Any:
        return durable.step(lambda _: name, name=name, **options)

    kid = durable.workflow("kid").step(make("a", compensate=undo)).step(make("b"))
    nodes = durable.workflow("w").step(make("first", compensate=undo))
    nodes.parallel("both", {"one": make("one"), "kid": kid})
    nodes.map("each", over=lambda _: range(5), handler=make("item", compensate=undo), chunk=2)
    nodes.route("way", lambda _: "x", {"x": make("x")})
    nodes.loop("again", make("turn"), max_iterations=3)
    nodes.wait_for_signal("go")
    nodes.child_workflow("child", kid, compensate="cascade")
    nodes.step(make("last"))
    failing = durable.workflow("fails").step(make("done", compensate=undo))
    failing.child_workflow("child", kid, compensate="cascade")
    failing.step(durable.step(fail, name="fail", retry=ONCE))


@pytest.fixture
def months(fresh: World) -> Months:
    return Months(fresh)


@pytest.fixture
def worker(fresh: World) -> Iterator[Durable]:
    yield fresh.worker(define)
    fresh.end_workers()


def ended(world: World, worker: Durable, run: Run) -> Any:
    world.drain(worker)
    run.resume("go")
    world.drain(worker)
    return run.result(PATIENCE)


def partitions_of(world: World, run: Run) -> set[str]:
    query = "SELECT DISTINCT tableoid::regclass::text AS of FROM durable_journal WHERE run_id = %s"
    return {row["of"] for row in world.rows(query, run.id)}


def test_runs_go_on_over_the_change_and_after_it(fresh: World, worker: Durable) -> None:
    before, in_flight = worker.start("w"), worker.start("w")
    result = ended(fresh, worker, before)
    assert fresh.status(in_flight) == "running"
    months = Months(fresh)
    months.execute(CONVERTS)
    months.execute(NEXT)

    after = worker.start("w")
    assert ended(fresh, worker, in_flight) == ended(fresh, worker, after) == result
    assert before.result() == result
    assert partitions_of(fresh, in_flight) == {"durable_journal_before"}
    assert partitions_of(fresh, after) == {"durable_journal_2027_01"}
    order = [entry.unit for entry in before.history()]
    assert [entry.unit for entry in in_flight.history()] == order, "seq goes on"
    shown = "SELECT count(DISTINCT run_id) FROM durable_workflow_unit WHERE run_id IN (%s, %s)"
    assert fresh.one(shown, before.id, after.id) == 2
    assert fresh.one("SELECT durable_result(%s)", after.id) == result


def test_rollback_finds_its_way_in_partitions(
    fresh: World, worker: Durable, months: Months
) -> None:
    months.execute(CONVERTS)
    run = worker.start("fails")
    fresh.drain(worker)
    assert run.status().status == "failed"
    assert fresh.units(run)[-2:] == ["child#compensate completed", "done#compensate completed"]


def test_a_unit_that_is_recorded_already_is_known_by_the_key_of_its_partition(
    fresh: World, worker: Durable, months: Months, caplog: pytest.LogCaptureFixture
) -> None:
    """P3: the name of that key is another one."""
    months.execute(CONVERTS)
    run = worker.start("fails")
    fresh.rows(
        "INSERT INTO durable_journal"
        " (run_id, unit, node, outcome, undoable, attempt, result, started_at)"
        " VALUES (%s, 'done', 'done', 'completed', false, 1, '1', now())",
        run.id,
    )
    fresh.drain(worker)
    assert "comes to done once more, which is in its journal" in caplog.text
    assert fresh.units(run) == ["done completed"]


def test_prune_empties_partitions_and_an_empty_one_can_go(fresh: World, worker: Durable) -> None:
    run = worker.start("w")
    ended(fresh, worker, run)
    months = Months(fresh)
    months.execute(CONVERTS)
    young = worker.start("w")
    result = ended(fresh, worker, young)
    assert not months.execute(NEEDED)
    Past(fresh).age(run.id)

    assert worker.prune() == 3
    assert fresh.one("SELECT count(*) FROM durable_journal_before") == 0
    months.execute(DETACHES)
    assert young.result() == result
    another = worker.start("w")
    assert ended(fresh, worker, another) == result


def test_a_partition_that_was_detached_early_takes_the_results_with_it(
    fresh: World, worker: Durable
) -> None:
    run, waits = worker.start("w"), worker.start("w")
    ended(fresh, worker, run)
    fresh.drain(worker)
    months = Months(fresh)
    months.execute(CONVERTS)
    assert {row[0] for row in months.execute(NEEDED)} >= {waits.id}
    months.execute("ALTER TABLE durable_journal DETACH PARTITION durable_journal_before")
    assert run.status().results == {}
    Past(fresh).age(run.id)
    assert worker.prune() == 3


def test_the_settings_of_autovacuum_are_ones(months: Months) -> None:
    months.execute(VACUUMS)
