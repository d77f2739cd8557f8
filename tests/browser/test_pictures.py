"""The pictures of a run in a browser: by keyboard, without script, for everybody to see."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from celery_durable import Durable
from celery_durable.run import Run
from celery_durable.web import Viewer, create_app
from tests.browser.conftest import Open, Serve, Violations
from tests.integration.driving import World, noting


def define(durable: Durable) -> None:
    child = durable.workflow("customs").step(noting([], "declare")).wait_for_signal("stamp")
    durable.workflow("w").step(noting([], "first")).parallel(
        "checks", {f"check {n}": noting([], f"c{n}") for n in range(12)}
    ).map("lines", over=lambda _: list(range(60)), handler=noting([], "pick")).child_workflow(
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
def address(durable: Durable, run: Run, serve: Serve) -> str:
    return f"{serve(create_app(durable, login=lambda _: Viewer('ann')))}/runs/{run.id}"


AN_HOUR_BEHIND = """
    const now = Date.now;
    Date.now = () => now() - 3600_000;
    Object.defineProperty(performance, "timeOrigin", { value: performance.timeOrigin - 3600_000 });
"""


def focused(page: Page) -> str:
    found: str = page.evaluate("document.activeElement.getAttribute('aria-label') || ''")
    return found


def tab_to(page: Page, label: str) -> None:
    """Press Tab until what is called so has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if focused(page) == label:
            return
    raise AssertionError(f"no {label!r} is reached by keyboard")


def test_a_child_opens_in_its_place_by_keyboard(address: str, browse: Open) -> None:
    page = browse(address)
    requests: list[str] = []
    page.on("framenavigated", lambda frame: requests.append(frame.url))
    graph = page.locator("#graph-picture")
    expect(graph.get_by_text("declare")).to_have_count(0)
    tab_to(page, "Open the graph of border")
    page.keyboard.press("Enter")
    expect(graph.get_by_text("declare", exact=True)).to_be_visible()
    assert focused(page) == "Close the graph of border"
    assert "open=" in page.url
    page.keyboard.press("Enter")
    expect(graph.get_by_text("declare", exact=True)).to_have_count(0)
    assert focused(page) == "Open the graph of border"
    assert {url.partition("?")[0] for url in requests} <= {address}


def test_pictures_move_on_without_a_reload(
    world: World, durable: Durable, run: Run, address: str, browse: Open
) -> None:
    """What was opened in them stays open, and moves on, too."""
    page = browse(address)
    expect(page.locator("#live")).to_have_text("live")
    page.evaluate("document.documentElement.dataset.same = 'yes'")
    graph, timeline = page.locator("#graph-picture"), page.locator("#timeline-picture")
    graph.get_by_role("link", name="Open the graph of border").click()
    stamp = graph.get_by_role("listitem").filter(has_text="stamp")
    expect(stamp).to_contain_text("waiting")
    expect(graph.get_by_role("link", name="border: waiting")).to_be_visible()
    expect(timeline).to_contain_text("so far")
    (child,) = run.status().children
    durable.resume(child.run_id, "stamp")
    world.drain(durable)
    expect(stamp).to_contain_text("completed")
    expect(graph.get_by_role("link", name="border: completed")).to_be_visible()
    expect(timeline).not_to_contain_text("so far")
    expect(page.locator("#live")).to_have_text("")
    assert page.evaluate("document.documentElement.dataset.same === 'yes'")


def test_what_goes_on_is_counted_on_without_any_event(
    durable: Durable, run: Run, address: str, browse: Open
) -> None:
    page = browse(address)
    before = run.status()
    graph, timeline = page.locator("#graph-picture"), page.locator("#timeline-picture")
    card = graph.get_by_role("listitem").filter(has_text="border")
    row = timeline.get_by_role("listitem").filter(has_text="border")
    width = row.locator("rect.segment").last.get_attribute("width") or ""
    for waits in (card, row):
        counted = waits.locator("[data-since]")
        expect(counted).to_have_text(re.compile(r"^\d+s$"))
        expect(counted).not_to_have_text(counted.text_content() or "")
    expect(row.locator("rect.segment").last).not_to_have_attribute("width", width)
    assert run.status() == before


def test_the_ages_in_a_picture_are_by_the_clock_of_the_server(address: str, browse: Open) -> None:
    page = browse(address)
    page.add_init_script(AN_HOUR_BEHIND)
    page.reload()
    counted = page.locator("#timeline-picture [data-since]").first
    expect(counted).to_have_text(re.compile(r"^[1-9]\d*s$"))


def test_what_has_the_focus_keeps_it_while_an_opened_picture_grows(
    address: str, browse: Open
) -> None:
    page = browse(address)
    page.get_by_role("link", name="Open the graph of border").click()
    expect(page.get_by_role("link", name="Close the graph of border")).to_be_visible()
    page.locator("#graph-picture").get_by_role("link", name="border: waiting").focus()
    row = page.locator("#timeline-picture").get_by_role("listitem").filter(has_text="border")
    bar = row.locator("rect.segment").last
    expect(bar).not_to_have_attribute("width", bar.get_attribute("width") or "")
    assert focused(page).startswith("border: waiting")


def test_the_card_of_a_child_leads_to_its_run(address: str, browse: Open, run: Run) -> None:
    page = browse(address)
    (child,) = run.status().children
    page.locator("#graph-picture").get_by_role("link", name="border: waiting").focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/runs/{child.run_id}")


def test_folds_are_links_where_there_is_no_script(address: str, browse: Open) -> None:
    page = browse(address, java_script_enabled=False)
    page.get_by_role("link", name="Open all branches of checks").click()
    expect(page.locator("#graph-picture").get_by_text("check 11", exact=True)).to_be_visible()
    page.get_by_role("link", name="List the units of lines").click()
    expect(page.locator("#timeline-picture").get_by_text("#59", exact=True)).to_be_visible()
    expect(page.locator("#graph-picture").get_by_text("check 11", exact=True)).to_be_visible()


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_nothing_is_wrong_with_the_pictures(
    address: str, browse: Open, violations: Violations, color_scheme: str
) -> None:
    page = browse(address)
    page.get_by_role("link", name="Open the graph of border").click()
    expect(page.get_by_role("link", name="Close the graph of border")).to_be_visible()
    assert violations(page, color_scheme=color_scheme) == []


def test_a_narrow_screen_scrolls_the_picture_and_not_the_page(address: str, browse: Open) -> None:
    page = browse(address, viewport={"width": 360, "height": 720})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    scrolls = "e => e.scrollWidth > e.clientWidth"
    assert page.locator("#graph-picture").evaluate(scrolls)
    assert page.locator("#timeline-picture").evaluate(scrolls)


def test_a_narrow_screen_shows_the_bars_of_a_timeline_and_a_low_header(
    world: World, serve: Serve, browse: Open
) -> None:
    def define(durable: Durable) -> None:
        durable.workflow("w").step(noting([], "a"), name="a_step_with_a_name_that_is_very_long")

    durable = world.worker(define)
    run = durable.start("w")
    world.drain(durable)
    base = serve(create_app(durable, login=lambda _: Viewer("ann")))
    page = browse(f"{base}/runs/{run.id}", viewport={"width": 360, "height": 720})
    box = page.locator("#timeline-picture").bounding_box()
    axis = page.locator("#timeline-picture .tick").first.bounding_box()
    header = page.locator("header.top").bounding_box()
    assert box is not None
    assert axis is not None
    assert header is not None
    assert axis["x"] < box["x"] + box["width"] * 0.6
    assert header["height"] < 100
