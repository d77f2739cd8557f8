"""What the application is made of is joined as it should be."""

from __future__ import annotations

import pytest

from tests.integration.driving import World, defining
from tests.web.conftest import Visit

PAGES = ["/", "/runs", "/approvals", "/workflows", "/metrics"]


@pytest.mark.parametrize("path", PAGES)
def test_each_page_is_there(world: World, visit: Visit, path: str) -> None:
    visit(world.worker()).see(path)


def test_a_run_has_a_page(world: World, visit: Visit) -> None:
    durable = world.worker(defining([], "a"))
    run = durable.start("w")
    page = visit(durable).see(f"/runs/{run.id}")
    assert str(run.id) in page
    assert "running" in page


def test_a_run_that_is_not_there_is_said_to_be_so(world: World, visit: Visit) -> None:
    answer = visit(world.worker()).get("/runs/00000000-0000-0000-0000-000000000001")
    assert answer.status_code == 404
    assert "00000000-0000-0000-0000-000000000001" in answer.text
