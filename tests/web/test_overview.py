"""The overview says what goes through, fails and waits, and whether anything is behind."""

from __future__ import annotations

from typing import Any

import pytest

from celery_durable import Durable
from celery_durable.store.connection import Statement
from celery_durable.worker import examination
from tests.integration.driving import ONCE, World, noting, worker_id
from tests.web.conftest import Visit
from tests.web.reading import read

NASTY = "<script>alert(1)</script>"


class Declined(Exception):
    """No money."""


def declining(_: Any) -> None:
    raise Declined(NASTY)


def define(durable: Durable) -> None:
    durable.workflow("works").step(noting([], "a"))
    durable.workflow("waits").wait_for_signal("signoff", "go")
    durable.workflow("fails").step(declining, name="d", retry=ONCE)


@pytest.fixture
def durable(world: World) -> Durable:
    return world.worker(define)


def a_relay_lives(world: World) -> None:
    world.rows(
        "INSERT INTO durable_relay (id, hostname, pid) VALUES (gen_random_uuid(), 'celery@h', 1)"
    )


def test_runs_are_counted_by_status_and_each_count_leads_to_them(
    world: World, durable: Durable, visit: Visit
) -> None:
    durable.start_many("works", [None] * 3)
    durable.start_many("waits", [None] * 2)
    world.drain(durable)
    someone = visit(durable)
    figures = read(someone.see("/")).by_id("statuses")
    assert "completed 3" in figures.text
    assert "suspended 2" in figures.text
    there = read(someone.see(figures.link("suspended")))
    assert there.by_id("list").text.count("waits for a signal") == 2


def test_what_could_not_be_undone_is_said_until_somebody_tries_again(
    world: World, visit: Visit
) -> None:
    def define(durable: Durable) -> None:
        undone = durable.step(name="u")(noting([], "u"))
        undone.compensate(declining, retry=ONCE)
        durable.workflow("stays").step(undone).step(declining, name="d", retry=ONCE)

    durable = world.worker(define)
    worker_id(durable)
    a_relay_lives(world)
    first, second = durable.start_many("stays", [None] * 2)
    world.drain(durable)
    behind = read(visit(durable).see("/")).by_id("behind")
    assert "In 2 runs compensations have failed for good" in behind.text
    there = read(visit(durable).see(behind.link("Which runs")))
    assert str(first.id) in there.by_id("list").text
    (finding,) = (one for one in durable.doctor() if one.code == "compensations")
    assert finding.severity == "warning"
    first.retry(from_step="d")
    second.retry_compensation()
    assert "Nothing is behind" in read(visit(durable).see("/")).by_id("behind").text


def test_failures_are_grouped_and_lead_to_their_runs(
    world: World, durable: Durable, visit: Visit
) -> None:
    """Also those of runs that were started long ago."""
    failed = [durable.start("fails") for _ in range(2)]
    durable.start("works")
    world.drain(durable)
    world.rows("UPDATE durable_run SET created_at = created_at - interval '1 week'")
    someone = visit(durable)
    failures = read(someone.see("/")).by_id("failures")
    assert f"fails {__name__}.Declined 2" in failures.text
    assert NASTY in failures.text
    found = read(someone.see(failures.link("Declined"))).by_id("list")
    assert {one for one in found.ids if one.startswith("run-")} == {
        f"run-{one.id}" for one in failed
    }
    assert failures.link("All of them") == "/runs?status=failed&ended_since=24h"


def test_nothing_is_behind_while_a_relay_and_a_worker_live(
    world: World, durable: Durable, visit: Visit
) -> None:
    worker_id(durable)
    a_relay_lives(world)
    assert "Nothing is behind" in read(visit(durable).see("/")).by_id("behind").text


def test_the_overview_says_that_nothing_is_published(
    world: World, durable: Durable, visit: Visit
) -> None:
    durable.start("works")
    behind = read(visit(durable).see("/")).by_id("behind")
    assert "No relay runs: nothing is published for 1 unfinished run" in behind.text
    assert "No live worker consumes the queue durable" in behind.text
    assert "celery -A t worker -Q durable" in behind.text


def test_the_overview_says_that_workers_do_not_come_after(
    world: World, durable: Durable, visit: Visit
) -> None:
    worker_id(durable)
    a_relay_lives(world)
    world.rows("UPDATE durable_worker SET queues = '[\"durable\"]'")
    durable.start("works")
    world.publish()
    someone = visit(durable)
    assert "Nothing is behind" in someone.see("/")
    world.rows("UPDATE durable_token SET hinted_at = hinted_at - interval '5 minutes'")
    behind = read(someone.see("/")).by_id("behind").text
    assert "1 units wait in the queue durable for a worker, the oldest for 5 min" in behind


def test_the_oldest_run_of_each_kind_is_a_click_away(
    world: World, durable: Durable, visit: Visit
) -> None:
    oldest = durable.start("waits")
    world.drain(durable)
    durable.start("waits")
    world.drain(durable)
    stands = read(visit(durable).see("/")).by_id("lately")
    assert "waits for a signal 2" in stands.text
    assert f"/runs/{oldest.id}" in {one.attributes["href"] for one in stands.all("a")}


def test_pauses_are_listed_with_their_reasons(durable: Durable, visit: Visit) -> None:
    run = durable.start("waits")
    run.pause(reason="the bank is away")
    durable.pause(workflow="works", reason=NASTY)
    pauses = read(visit(durable).see("/")).by_id("pauses")
    assert "the bank is away" in pauses.text
    assert f"workflow works, for 0s : {NASTY}" in pauses.text
    assert pauses.link("the run") == f"/runs/{run.id}"


def test_workers_and_queues_are_listed(world: World, durable: Durable, visit: Visit) -> None:
    worker_id(durable)
    durable.start("works")
    page = read(visit(durable).see("/"))
    assert "1 alive" in page.by_id("workers").text
    assert page.by_id("queues").text.startswith("Queues")
    assert "durable 1 0 0" in page.by_id("queues").text


def test_the_doctor_is_not_waited_for(
    world: World, durable: Durable, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page comes without it, and has where to ask."""

    def refuse(_: object) -> None:
        raise AssertionError

    with monkeypatch.context() as patched:
        patched.setattr(examination, "findings", refuse)
        page = visit(durable).see("/")
    assert 'data-src="/doctor?part=1"' in page


def test_the_doctor_says_what_is_wrong(durable: Durable, visit: Visit) -> None:
    someone = visit(durable)
    part, page = someone.see("/doctor?part=1"), someone.see("/doctor")
    assert "No relay runs" in part
    assert part.strip() in page
    assert "<html" not in part


def test_the_doctor_looks_once_for_all_who_ask(
    durable: Durable, visit: Visit, statements: list[Statement]
) -> None:
    someone = visit(durable)
    someone.see("/doctor")
    assert statements
    statements.clear()
    someone.see("/doctor?part=1")
    assert statements == []
