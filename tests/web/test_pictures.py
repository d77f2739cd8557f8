"""The pictures on the page of a run: folds in the address, children in place, nothing unsafe."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from celery_durable import Durable
from celery_durable.run import Run
from celery_durable.web import Viewer, create_app
from tests.integration.driving import World, noting
from tests.unit.picturing import parsed, texts
from tests.web.conftest import Visit
from tests.web.viewing import SomeoneAt

NAME = "<script>alert(1)</script>\"'&"
BRANCHES = 12
ITEMS = 60


def define(durable: Durable) -> None:
    child = durable.workflow("customs").step(noting([], "declare")).wait_for_signal("stamp")
    durable.workflow("w").step(noting([], "first"), name=NAME).parallel(
        "checks", {f"check {n}": noting([], f"c{n}") for n in range(BRANCHES)}
    ).map("lines", over=lambda _: list(range(ITEMS)), handler=noting([], "pick")).child_workflow(
        "border", child
    )


@pytest.fixture
def durable(world: World) -> Durable:
    return world.worker(define)


@pytest.fixture
def run(world: World, durable: Durable) -> Run:
    """A run that waits for its child, which waits for a stamp."""
    started = durable.start("w")
    world.drain(durable)
    return started


@pytest.fixture
def someone(durable: Durable, visit: Visit) -> SomeoneAt:
    return visit(durable)


def pictures(page: str) -> list[Any]:
    """The graph and the timeline of a page."""
    return [parsed(found) for found in re.findall(r"<svg .*?</svg>", page, re.DOTALL)]


def folds(page: str) -> dict[str, str]:
    """The addresses of the folds by their keys."""
    root = pictures(page)
    found = [a for one in root for a in one.iter() if "data-fold" in a.attrib]
    return {a.attrib["data-fold"]: a.attrib["href"] for a in found}


def child_of(run: Run) -> UUID:
    (child,) = run.status().children
    return child.run_id


def test_the_page_of_a_run_has_its_pictures(someone: SomeoneAt, run: Run) -> None:
    graph, timeline = pictures(someone.see(f"/runs/{run.id}"))
    assert "border" in texts(graph)
    assert f"{ITEMS} items" in texts(graph)
    assert "border" in texts(timeline)
    assert graph.attrib["role"] == timeline.attrib["role"] == "group"


def test_names_are_text_in_a_picture_whatever_is_in_them(someone: SomeoneAt, run: Run) -> None:
    page = someone.see(f"/runs/{run.id}")
    assert "<script>alert" not in page
    for picture in pictures(page):
        assert any(NAME in whole for whole in texts(picture, "title"))


def test_a_child_run_opens_in_its_place_and_closes_again(someone: SomeoneAt, run: Run) -> None:
    child = child_of(run)
    closed = someone.see(f"/runs/{run.id}")
    assert f'href="/runs/{child}"' in closed
    assert "declare" not in texts(pictures(closed)[0])
    address = folds(closed)[str(child)]
    opened = someone.see(address)
    assert {"declare", "stamp"} <= {*texts(pictures(opened)[0])}
    assert "declare" not in texts(pictures(someone.see(folds(opened)[str(child)]))[0])


def test_a_run_that_is_no_child_opens_nowhere(
    someone: SomeoneAt, durable: Durable, run: Run
) -> None:
    stranger = durable.start("customs")
    page = someone.see(f"/runs/{run.id}?open={stranger.id}&open=nonsense&list=nonsense&from=-1")
    assert "declare" not in texts(pictures(page)[0])


def test_branches_that_are_folded_open(someone: SomeoneAt, run: Run) -> None:
    closed = someone.see(f"/runs/{run.id}")
    graph, _ = pictures(closed)
    assert "7 more" in texts(graph)
    graph, _ = pictures(someone.see(folds(closed)["checks"]))
    assert {f"check {n}" for n in range(BRANCHES)} <= {*texts(graph)}
    assert "7 more" not in texts(graph)


def test_items_that_are_folded_in_time_are_listed(someone: SomeoneAt, run: Run) -> None:
    closed = someone.see(f"/runs/{run.id}")
    assert "#7" not in texts(pictures(closed)[1])
    opened = someone.see(folds(closed)["lines in time"])
    assert {f"#{n}" for n in range(ITEMS)} <= {*texts(pictures(opened)[1])}


def test_a_fold_keeps_the_others_open(someone: SomeoneAt, run: Run) -> None:
    opened = someone.see(folds(someone.see(f"/runs/{run.id}"))["checks"])
    both = someone.see(folds(opened)["lines in time"])
    graph, timeline = pictures(both)
    assert "check 11" in texts(graph)
    assert "#7" in texts(timeline)


def test_a_fragment_has_the_pictures_and_no_page(someone: SomeoneAt, run: Run) -> None:
    found = someone.see(f"/runs/{run.id}/pictures?open={child_of(run)}")
    assert "declare" in texts(pictures(found)[0])
    assert "<html" not in found


def test_items_that_wait_for_a_place_are_not_queued(world: World, visit: Visit) -> None:
    def define(durable: Durable) -> None:
        durable.workflow("many").map(
            "lines", over=lambda _: [*range(30)], handler=noting([], "pick"), max_concurrency=4
        )

    durable = world.worker(define)
    run = durable.start("many")
    durable.engine.advance(world.token_id(run))
    page = visit(durable).see(f"/runs/{run.id}")
    assert "0 of 30 ended, 0 executing, 0 waiting, 4 queued, 26 not begun" in page
    graph, _ = pictures(page)
    assert "0 of 30, 4 queued, 26 not begun" in texts(graph)


@pytest.mark.parametrize("name", ["graph", "timeline"])
def test_a_picture_can_be_had_as_a_file_that_stands_alone(
    someone: SomeoneAt, run: Run, name: str
) -> None:
    answer = someone.get(f"/runs/{run.id}/{name}.svg")
    assert answer.headers["content-type"].startswith("image/svg+xml")
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "style-src 'sha256-" in policy
    picture = parsed(answer.text)
    assert picture.attrib["role"] == "img"
    assert texts(picture, "style")
    assert not list(picture.iter("{http://www.w3.org/2000/svg}a"))


def test_a_page_that_is_not_let_in_has_no_pictures(
    durable: Durable, visit: Visit, run: Run
) -> None:
    stranger = visit(durable, token="a token that is long enough")
    for path in ("pictures", "graph.svg", "timeline.svg"):
        assert stranger.get(f"/runs/{run.id}/{path}").status_code in (303, 401, 403)
    assert stranger.get("/picture.css").status_code == 200


def test_pictures_are_below_what_the_page_is_mounted_at(durable: Durable, run: Run) -> None:
    mounted = Starlette(routes=[Mount("/ops", create_app(durable, login=lambda _: Viewer("ann")))])
    with TestClient(mounted, base_url="http://localhost") as client:
        page = client.get(f"/ops/runs/{run.id}").text
        assert all(address.startswith("/ops/") for address in folds(page).values())
        assert client.get(f"/ops/runs/{run.id}/graph.svg").status_code == 200
