"""P11: pages cost what they show, with 100,000 runs, and of a run with 10,000 units."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from celery_durable import Durable
from tests.integration.driving import World
from tests.integration.planning import plan_of, scanned
from tests.integration.watching import Executed, watch
from tests.services import PostgresServer
from tests.web.conftest import Visit
from tests.web.many import FILL, LARGE
from tests.web.reading import read

SMALL = {"durable_worker", "durable_relay", "durable_definition", "durable_pause"}
"""Tables that a page may read whole: how many rows they have has nothing to do with runs."""


@pytest.fixture(scope="module")
def many(postgres: PostgresServer, template_database: str) -> Iterator[World]:
    with (
        postgres.database("durable_test", template_database) as name,
        closing(World(postgres.url(name))) as world,
    ):
        for statement in FILL.split(";\n"):
            world.rows(statement)
        yield world
        world.end_workers()


@pytest.fixture
def durable(many: World) -> Durable:
    return many.worker()


PAGES = {
    "/": (32, 500, 40_000),
    "/runs": (13, 350, 120_000),
    "/runs?status=suspended": (13, 350, 120_000),
    "/runs?status=failed&ended_since=24h&workflow=w10": (13, 350, 120_000),
    "/runs?status=running&standing_since=1h": (13, 350, 120_000),
    f"/runs/{LARGE}": (46, 1_200, 60_000),
    f"/runs/{LARGE}/units": (4, 110, 60_000),
    f"/runs/{LARGE}/units?node=lines&outcome=failed&part=1": (4, 110, 40_000),
}
"""At most so many statements, rows that these return, and bytes of a page."""


@pytest.mark.parametrize("path", PAGES)
def test_a_page_reads_and_sends_no_more_than_it_shows(
    many: World, durable: Durable, visit: Visit, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    someone = visit(durable)
    executed: list[Executed] = []
    watch(monkeypatch, executed.append)
    page = someone.see(path)
    statements, rows, size = PAGES[path]
    assert len(executed) <= statements
    assert sum(len(one.rows) for one in executed) <= rows
    assert len(page) <= size


@pytest.mark.parametrize("path", PAGES)
def test_no_page_reads_a_large_table_from_end_to_end(
    many: World, durable: Durable, visit: Visit, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    someone = visit(durable)
    with monkeypatch.context() as patched:
        executed: list[Executed] = []
        watch(patched, executed.append)
        someone.see(path)
    reads = [one for one in executed if one.text.lstrip().startswith(("SELECT", "WITH"))]
    assert reads
    for one in reads:
        plan = plan_of(many, one.statement, one.parameters, scans=False)
        assert set(scanned(plan)) - SMALL == set(), one.text


def test_the_items_of_a_large_run_are_folded(durable: Durable, visit: Visit) -> None:
    page = read(visit(durable).see(f"/runs/{LARGE}"))
    assert "lines#* ✓ completed 9,400 ✗ failed 100" in page.by_id("units").text
    assert "9,500 of 10,000 ended, 100 failed, 50 executing" in page.by_id("current").text
    assert "first 20 of 100 or more" in page.by_id("current").text


def test_counts_of_many_runs_lead_to_them(durable: Durable, visit: Visit) -> None:
    page = read(visit(durable).see("/"))
    assert "completed 68,000" in page.by_id("statuses").text
    assert "failed 10,000" in page.by_id("statuses").text
