"""Five questions that people come with, each answered in three clicks at most."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Locator, Page, expect

from celery_durable import Durable
from celery_durable.run import Run
from celery_durable.web import Viewer, create_app
from tests.browser.conftest import Open, Serve
from tests.browser.test_watching import define
from tests.integration.driving import World

MOST_CLICKS = 3


@dataclass
class Visitor:
    """Somebody who begins at the overview; Enter in the search box counts as a click."""

    page: Page
    clicks: int = field(default=0)

    def click(self, what: Locator) -> None:
        self._count()
        what.click()

    def search(self, text: str) -> None:
        self._count()
        box = self.page.get_by_role("searchbox")
        box.fill(text)
        box.press("Enter")

    def _count(self) -> None:
        self.clicks += 1
        assert self.clicks <= MOST_CLICKS


@pytest.fixture
def durable(world: World) -> Durable:
    return world.worker(define)


@pytest.fixture
def order(world: World, durable: Durable) -> Run:
    """An order that waits for its approval, beside refunds that have failed."""
    run = durable.start("order", {"lines": 3}, key="order 7", tags={"customer": "c-42"})
    durable.start_many("refund", ["poor"] * 2)
    world.drain(durable)
    return run


@pytest.fixture
def visitor(durable: Durable, order: Run, serve: Serve, browse: Open) -> Visitor:
    url = serve(create_app(durable, login=lambda _: Viewer("ann")))
    return Visitor(browse(url))


def test_why_is_it_stuck(visitor: Visitor, order: Run) -> None:
    stands_at = visitor.page.get_by_role("region", name="What unfinished runs stand at")
    visitor.click(stands_at.get_by_role("link").first)
    expect(visitor.page.locator("#run-id")).to_have_text(str(order.id))
    expect(visitor.page.locator("#why")).to_contain_text("approved")


def test_what_failed_tonight(visitor: Visitor) -> None:
    failures = visitor.page.get_by_role("region", name="Failed in the last 24 hours")
    expect(failures).to_contain_text("the card was declined")
    visitor.click(failures.get_by_role("link", name="CardDeclined"))
    expect(visitor.page.get_by_role("main")).to_contain_text("refund")
    visitor.click(visitor.page.get_by_role("main").locator("a[href*='/runs/']").first)
    expect(visitor.page.locator("#error")).to_contain_text("the card was declined")


def test_what_did_this_customers_order_do(visitor: Visitor, order: Run) -> None:
    visitor.search("order 7")
    if str(order.id) not in visitor.page.url:
        visitor.click(visitor.page.get_by_role("main").locator(f"a[href*='{order.id}']").first)
    expect(visitor.page.locator("#run-id")).to_have_text(str(order.id))
    expect(visitor.page.locator("#units")).to_contain_text("reserve")
    expect(visitor.page.locator("#graph-picture svg")).to_be_visible()
    expect(visitor.page.locator("#timeline-picture svg")).to_be_visible()


def test_is_anything_behind(visitor: Visitor) -> None:
    expect(visitor.page.locator("#behind")).to_contain_text("No relay")
    assert visitor.clicks == 0


def test_who_cancelled_it(
    world: World, durable: Durable, order: Run, serve: Serve, browse: Open
) -> None:
    with durable.acting("bea", "the customer has left"):
        order.cancel()
    world.drain(durable)
    visitor = Visitor(browse(serve(create_app(durable, login=lambda _: Viewer("ann")))))
    visitor.click(visitor.page.locator("#statuses").get_by_role("link", name="cancelled"))
    visitor.click(visitor.page.get_by_role("main").locator(f"a[href*='{order.id}']").first)
    expect(visitor.page.locator("#why")).to_contain_text("bea")
    expect(visitor.page.locator("#acts")).to_contain_text("the customer has left")
