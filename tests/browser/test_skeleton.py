"""The page opens in a browser."""

from __future__ import annotations

import pytest

from celery_durable.web import Viewer, create_app
from tests.browser.conftest import Open, Serve, Violations
from tests.integration.driving import World, defining

TOKEN = "a token that is long enough"


def test_a_viewer_logs_in_and_out(world: World, serve: Serve, browse: Open) -> None:
    page = browse(serve(create_app(world.worker(), token=TOKEN)))
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_label("Your name").fill("Ann")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Overview").wait_for()
    page.get_by_role("link", name="Workflows").click()
    page.get_by_role("heading", name="Workflows").wait_for()
    page.get_by_role("button", name="Log out").click()
    page.get_by_label("Token").wait_for()


def test_the_address_of_a_run_that_was_started_is_that_of_its_page(
    world: World, serve: Serve, browse: Open
) -> None:
    """A browser adds what stands behind the # of the form's address."""
    durable = world.worker(defining([], "a"))
    durable.start("w")
    page = browse(f"{serve(create_app(durable, login=lambda _: Viewer('ann')))}/workflows")
    page.get_by_role("link", name="Start").click()
    page.locator("[name=data]").fill("{")
    page.get_by_role("button", name="Start").click()
    page.get_by_role("alert").wait_for()
    assert page.evaluate("() => document.activeElement.id") == "start"
    page.locator("[name=data]").fill("{}")
    page.get_by_role("button", name="Start").click()
    page.get_by_role("heading", name="Why it stands where it stands").wait_for()
    (run, _) = durable.list()
    assert page.url.endswith(f"/runs/{run.run_id}")


@pytest.fixture
def page_url(world: World, serve: Serve) -> str:
    return serve(create_app(world.worker(), login=lambda _: Viewer("ann", "reader")))


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/login", "/nothing"])
def test_nothing_is_wrong_with_the_page(
    page_url: str, browse: Open, violations: Violations, path: str, color_scheme: str
) -> None:
    assert violations(browse(page_url + path), color_scheme=color_scheme) == []
