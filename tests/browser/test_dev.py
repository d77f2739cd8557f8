"""From nothing to an approved run in the browser: a folder with one file, and one command."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open, Violations
from tests.dev.projects import dev, project, wait_until_up
from tests.dev.running import PATIENCE, Running

pytest.importorskip("pgmq", reason="the pgmq extra is not installed")

pytestmark = pytest.mark.timeout(600)  # four interpreters are started, again and again

SHOP = """\
from dataclasses import dataclass

from celery import Celery

from celery_durable import Durable

app = Celery("shop")
durable = Durable(app)


@dataclass
class Order:
    item: str
    price: int


@dataclass
class Signoff:
    approved: bool
    note: str = ""


@durable.step
def reserve(ctx):
    return {"reservation": ctx.input.item}


@durable.step
def ship(ctx):
    return {"note": ctx.results["signoff"].note}


order = (
    durable.workflow("order", input=Order)
    .step(reserve)
    .wait_for_signal("signoff", schema=Signoff)
    .step(ship)
)
"""


@pytest.fixture(scope="module")
def started() -> Iterator[tuple[Running, str]]:
    with project() as folder:
        (folder / "shop.py").write_text(SHOP)
        with dev(folder) as running:
            yield running, wait_until_up(running)


@pytest.fixture
def page(started: tuple[Running, str], browse: Open) -> Page:
    page = browse(started[1])
    page.set_default_timeout(1000 * PATIENCE)
    return page


def start_order(page: Page, price: str = "7") -> None:
    page.get_by_role("link", name="Workflows").click()
    page.get_by_role("link", name="order", exact=True).click()
    page.get_by_label("Item").fill("lamp")
    page.get_by_label("Price").fill(price)
    page.get_by_role("button", name="Start").click()


def test_a_run_is_started_by_its_form_approved_and_ends(page: Page) -> None:
    start_order(page)
    page.get_by_role("link", name="Answer it").click()
    page.get_by_label("Approved").select_option(label="yes")
    page.get_by_label("Note").fill("by hand")
    page.get_by_role("button", name="Answer").click()
    expect(page.get_by_text("this is answered")).to_be_visible()
    page.locator("main").get_by_role("link", name="The run").click()
    expect(page.locator("main .pill.completed").first).to_be_visible()


def test_what_is_wrong_stands_beside_its_field_and_what_was_typed_stays(page: Page) -> None:
    start_order(page, price="")
    expect(page.get_by_label("Price")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Item")).to_have_value("lamp")
    page.get_by_label("Price").fill("8")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("main .pill").first).to_be_visible()
    assert "/runs/" in page.url


@pytest.mark.parametrize("path", ["/workflows", "/workflow?name=order"])
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_the_pages_of_workflows_are_accessible_and_fit_a_phone(
    page: Page, violations: Violations, path: str, colours: str
) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(page.url.split("/login")[0].rstrip("/") + path)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert violations(page, color_scheme=colours) == []
