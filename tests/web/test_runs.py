"""The list of runs: filters in the address, pages, and the search."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID, uuid4

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from celery_durable import Durable, RetryPolicy
from celery_durable.run import Run
from celery_durable.web import Viewer, create_app
from celery_durable.web.filters import PRESETS
from tests.integration.driving import ONCE, World, noting
from tests.web.conftest import Visit
from tests.web.reading import read
from tests.web.viewing import SomeoneAt

NASTY = "<script>alert('&')</script>"


def declining(_: Any) -> None:
    raise ValueError(f"no money {NASTY}")


def define(durable: Durable) -> None:
    durable.workflow("works").step(noting([], "a"))
    durable.workflow("waits").wait_for_signal("signoff", "go")
    durable.workflow("fails").step(declining, name="d", retry=ONCE)
    durable.workflow("tries").step(declining, name="d", retry=RetryPolicy(3, initial=3600))
    durable.workflow("has a child").step(durable.workflow("child").wait_for_signal("s", "go"))
    undone = durable.step(name="u")(noting([], "u"))
    undone.compensate(declining, retry=ONCE)
    durable.workflow("stays").step(undone).step(declining, name="d", retry=ONCE)


@pytest.fixture
def durable(world: World) -> Durable:
    return world.worker(define)


@pytest.fixture
def runs(world: World, durable: Durable) -> dict[str, Run]:
    """A run of each workflow, with its name as its key and its tag `name`."""
    names = ("works", "waits", "fails", "tries", "has a child", "stays")
    found = {name: durable.start(name, key=name, tags={"name": name}) for name in names}
    world.drain(durable)
    (child,) = durable.list(workflow="child")
    return {**found, "child": durable.run(child.run_id)}


def listed(someone: SomeoneAt, query: str) -> list[UUID]:
    """The runs that the page lists, in order."""
    page = read(someone.see(f"/runs{query}"))
    ids = page.by_id("list").ids
    return [UUID(one.removeprefix("run-")) for one in ids if one.startswith("run-")]


EVERY = {"works", "waits", "fails", "tries", "has a child", "stays", "child"}

FILTERS = {
    "": EVERY,
    "?status=completed": {"works"},
    "?status=suspended": {"waits", "has a child", "child"},
    "?workflow=waits": {"waits"},
    "?key=has+a+child": {"has a child"},
    "?tag=name%3Dfails": {"fails"},
    "?tag=name%3Dfails&tag=name%3Dfails&tag=": {"fails"},
    "?tags=name%20%3D%20fails,%20name%3Dfails,": {"fails"},
    "?tag=name%3Dfails&tags=other%3D": set(),
    "?error=ValueError": {"fails", "tries", "stays"},
    "?error=ValueError:%20no%20money&status=failed": {"fails", "stays"},
    "?since=1h": EVERY,
    "?until=1h": set(),
    "?until=2999-01-01": EVERY,
    "?since=2999-01-01T12:00Z": set(),
    "?status=failed&ended_since=24h": {"fails", "stays"},
    "?standing_since=2999-01-01": {"waits", "tries", "has a child", "child"},
    "?standing_since=1h": set(),
    "?compensation_failed=yes": {"stays"},
    "?compensation_failed=no&status=failed": {"fails"},
    "?status=&workflow=&key=&tag=&tags=&parent=": EVERY,
}


@pytest.mark.parametrize("query", FILTERS)
def test_a_list_has_the_runs_of_its_address(
    runs: dict[str, Run], durable: Durable, visit: Visit, query: str
) -> None:
    names = {run.id: name for name, run in runs.items()}
    assert {names[one] for one in listed(visit(durable), query)} == FILTERS[query]


def test_children_are_found_by_their_parent(
    runs: dict[str, Run], durable: Durable, visit: Visit
) -> None:
    parent = runs["has a child"].id
    assert listed(visit(durable), f"?parent={parent}") == [runs["child"].id]


WRONG = {
    "status=odd": "No run is ever",
    "since=yesterday": "Created since: 'yesterday' is neither",
    "tag=name": "A tag is written name=value",
    "parent=7": "A run id is a UUID",
    "before=7": "A run id is a UUID",
    "ended_since=1h": "Ended since goes with the status of runs that have ended: completed, failed",
    "compensation_failed=maybe": "Compensation failed is yes or no",
    "error=:": "Error takes the type of an error",
    "error=RunCancelled": "A run that was cancelled has no error: Status 'cancelled' finds it.",
    "tags=customer": "A tag is written name=value",
    "tag=a%3D1&tag=a%3D2": "one value of the tag 'a'",
    "statuss=failed": "There is no filter 'statuss'. Did you mean 'status'?",
    f"status={quote(NASTY)}": NASTY,
}


@pytest.mark.parametrize("query", WRONG)
def test_a_wrong_filter_is_said_beside_the_form(durable: Durable, visit: Visit, query: str) -> None:
    answer = visit(durable).get(f"/runs?{quote(query, safe='=%&')}")
    assert answer.status_code == 400
    page = read(answer.text)
    assert WRONG[query] in page.by_id("filter-error").text
    assert not page.has("list")


def test_the_form_holds_what_the_address_says(durable: Durable, visit: Visit) -> None:
    query = (
        "status=failed&workflow=a%22b&tag=x%3Dy&tag=c%3DDoe,%20J&tags=z%3D&since=2h&ended_since=24h"
    )
    page = read(visit(durable).see(f"/runs?{query}"))
    fields = {one.attributes.get("name"): one.attributes.get("value") for one in page.all("input")}
    assert fields["workflow"] == 'a"b'
    assert (fields["tags"], fields["tag"]) == ("x=y, z=", "c=Doe, J")
    assert fields["since"] == "2h"
    (chosen,) = (
        one.text for one in page.all("option") if "selected" in one.attributes and one.text != "any"
    )
    assert chosen == "failed"


def test_pages_follow_each_other(durable: Durable, visit: Visit) -> None:
    started = [run.id for run in durable.start_many("works", [None] * 120)]
    someone, seen, at = visit(durable), list[UUID](), "?workflow=works"
    for _ in range(3):
        seen += listed(someone, at)
        pager = read(someone.see(f"/runs{at}")).by_id("pager")
        older = [one.attributes["href"] for one in pager.all("a") if one.text == "Older"]
        at = (older[0] or "").removeprefix("/runs") if older else ""
    assert at == ""
    assert seen == sorted(started, reverse=True)


def test_a_list_says_where_runs_stand_and_why(
    runs: dict[str, Run], durable: Durable, visit: Visit
) -> None:
    someone = visit(durable)
    waits = read(someone.see("/runs?workflow=waits")).by_id(f"run-{runs['waits'].id}")
    assert "signoff for 0s waits for a signal" in waits.text
    tries = read(someone.see("/runs?workflow=tries")).by_id(f"run-{runs['tries'].id}")
    assert "d for 0s , attempt 2 of 3" in tries.text
    assert f"tried again later ValueError: no money {NASTY}" in tries.text


@pytest.mark.parametrize("value", ["Doe, Jane", " x ", "a=b", ",", "größe & %"])
def test_the_links_of_tags_and_keys_find_what_they_say(
    durable: Durable, visit: Visit, value: str
) -> None:
    run = durable.start("works", key=f" {value} ", tags={"c": value})
    durable.start("works", key=value.strip(), tags={"c": "another"})
    someone = visit(durable)
    for path in (f"/runs/{run.id}", "/runs"):
        link = read(someone.see(path)).link(" ".join(f"c={value}".split()))
        assert listed(someone, link.removeprefix("/runs")) == [run.id]
    assert listed(someone, f"?{urlencode({'key': f' {value} '})}") == [run.id]
    answer = someone.get(f"/search?{urlencode({'q': f' {value} '})}")
    assert answer.headers["location"] == f"/runs/{run.id}"


def test_what_users_have_named_is_shown_as_text(
    world: World, durable: Durable, visit: Visit
) -> None:
    durable.start("waits", key=NASTY, tags={NASTY: NASTY})
    page = visit(durable).see("/runs")
    assert NASTY not in page
    found = read(page).by_id("list")
    assert f"{NASTY} {NASTY}={NASTY}" in found.text
    assert (
        f"{NASTY}={NASTY}" in read(visit(durable).see(found.link(NASTY + "="))).by_id("list").text
    )


def test_every_preset_is_a_filter_that_holds(
    runs: dict[str, Run], durable: Durable, visit: Visit
) -> None:
    someone = visit(durable)
    page = read(someone.see("/runs"))
    for preset in PRESETS:
        preset.filters.found(datetime.now(UTC))
        someone.see(page.link(preset.title))


def test_an_id_leads_to_its_run(durable: Durable, visit: Visit) -> None:
    run = durable.start("works")
    someone = visit(durable)
    for said in (str(run.id), f" {run.id} ", str(run.id).upper(), run.id.hex):
        answer = someone.get(f"/search?q={quote(said)}")
        assert (answer.status_code, answer.headers["location"]) == (303, f"/runs/{run.id}")


def test_a_key_leads_to_its_run_or_to_all_that_have_it(durable: Durable, visit: Visit) -> None:
    """A key may look like an id."""
    someone, number = visit(durable), str(uuid4())
    one = durable.start("works", key="order 7")
    other = durable.start("works", key=number)
    durable.start("works", key="twice")
    durable.start("waits", key="twice")

    def leads(said: str) -> str:
        return str(someone.get(f"/search?q={quote(said)}").headers["location"])

    assert leads("order 7") == f"/runs/{one.id}"
    assert leads(number) == f"/runs/{other.id}"
    assert leads("twice") == "/runs?key=twice"
    assert leads("nobody's") == "/runs?key=nobody%27s"
    assert leads("") == leads("  ") == "/runs"
    assert leads(" a=b ") == "/runs?tag=a%3Db"
    assert leads("x" * 5000).startswith("/runs?key=x")
    assert len(listed(someone, "?key=twice")) == 2
    assert "A key is found by the whole of it" in someone.see("/runs?key=nobody%27s")


def test_the_search_is_on_every_page(durable: Durable, visit: Visit) -> None:
    run = durable.start("works")
    someone = visit(durable)
    for path in ("/", "/runs", f"/runs/{run.id}", "/workflows", "/approvals"):
        (form,) = (one for one in read(someone.see(path)).all("form") if one.attributes.get("role"))
        assert form.attributes["action"] == "/search"


def test_all_links_lead_below_what_the_page_is_mounted_at(durable: Durable, visit: Visit) -> None:
    run = durable.start("waits", key="k", tags={"a": "b"})
    outer = Starlette(
        routes=[Mount("/ops/durable", create_app(durable, login=lambda _: Viewer("ann")))]
    )
    client = TestClient(outer, base_url="http://localhost", follow_redirects=False)
    for path in ("/", "/runs", f"/runs/{run.id}", f"/runs/{run.id}/units", "/doctor"):
        page = read(client.get(f"/ops/durable{path}").text)
        names = ("href", "src", "action", "data-live", "data-src")
        links = {
            str(value)
            for tag in ("a", "form", "link", "script", "div", "details")
            for one in page.all(tag)
            for name, value in one.attributes.items()
            if name in names
        }
        assert len(links) > 5
        assert {one for one in links if not one.startswith(("/ops/durable/", "#"))} == set()
