"""The page opens in a browser."""

from __future__ import annotations

import pytest

from celery_durable.web import Viewer, create_app
from tests.browser.conftest import Open, Serve, Violations
from tests.integration.driving import World

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


@pytest.fixture
def page_url(world: World, serve: Serve) -> str:
    return serve(create_app(world.worker(), login=lambda _: Viewer("ann", "reader")))


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/login", "/nothing"])
def test_nothing_is_wrong_with_the_page(
    page_url: str, browse: Open, violations: Violations, path: str, color_scheme: str
) -> None:
    assert violations(browse(page_url + path), color_scheme=color_scheme) == []
