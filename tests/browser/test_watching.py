"""Pages in a browser: they follow what they show, by keyboard, on a phone, light and dark."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from starlette.applications import Starlette

from celery_durable import Durable, RetryPolicy
from celery_durable.run import Run
from celery_durable.web import Viewer, create_app
from tests.browser.conftest import Open, Serve, Violations
from tests.browser.serving import served
from tests.integration.driving import ONCE, World, worker_id
from tests.services import free_port
from tests.waiting import wait_until

NASTY = "<img src=x onerror=alert(1)>"

IMAGES = Path(__file__).parents[2] / "docs" / "images"


class CardDeclined(Exception):
    """No money."""


def reserve(ctx: Any) -> dict[str, Any]:
    return {"order": ctx.input, "warehouse": "north"}


def charge(ctx: Any) -> str:
    if ctx.input == "poor":
        raise CardDeclined(f"the card was declined {NASTY}")
    if ctx.input == "slow" or ctx.attempt == 1:
        raise TimeoutError("the bank does not answer")
    return "receipt 4711"


def pack(ctx: Any) -> str:
    if ctx.item % 7 == 3:
        raise ValueError(f"line {ctx.item} is out of stock")
    return f"line {ctx.item}"


def define(durable: Durable) -> None:
    lines = durable.step(name="pack", retry=ONCE)(pack)
    (
        durable.workflow("order")
        .step(reserve, name="reserve")
        .step(charge, name="charge", retry=RetryPolicy(3, initial=0))
        .map(
            "lines",
            over=lambda ctx: [*range(ctx.input.get("lines", 2))],
            handler=lines,
            tolerate=20,
        )
        .wait_for_signal("signoff", "approved")
        .step(lambda _: "shipped", name="ship")
    )
    durable.workflow("refund").step(charge, name="charge", retry=ONCE)
    durable.workflow("later").step(charge, name="charge", retry=RetryPolicy(5, initial=3600))


@pytest.fixture
def durable(world: World) -> Durable:
    return world.worker(define)


@pytest.fixture
def app(durable: Durable) -> Starlette:
    return create_app(durable, login=lambda _: Viewer("ann"))


@pytest.fixture
def url(app: Starlette, serve: Serve) -> str:
    return serve(app)


@pytest.fixture
def order(world: World, durable: Durable) -> Run:
    """An order that waits for its approval."""
    run = durable.start(
        "order", {"customer": NASTY, "lines": 30}, key="order 7", tags={"customer": "c-42"}
    )
    world.drain(durable)
    return run


@pytest.fixture
def shop(world: World, durable: Durable, order: Run) -> Run:
    """A shop in which something of all kinds has happened."""
    worker_id(durable)
    world.rows(
        "INSERT INTO durable_relay (id, hostname, pid) VALUES (gen_random_uuid(), 'celery@h', 1)"
    )
    for n in range(8):
        done = durable.start("order", {"customer": n}, key=f"order {100 + n}")
        done.resume("approved")
    durable.start_many("refund", ["poor"] * 3)
    durable.start("later", "slow", key=NASTY, tags={NASTY: NASTY})
    world.drain(durable)
    durable.pause(workflow="refund", reason="the bank is away")
    return order


def is_live(page: Page) -> None:
    expect(page.locator("#live")).to_have_text("live")


def mark(page: Page) -> None:
    """Leave a mark that is gone when the page is loaded again."""
    page.evaluate("document.documentElement.dataset.same = 'yes'")


def is_same(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.dataset.same === 'yes'"))


def test_a_run_is_seen_to_go_on_without_a_reload(
    world: World, durable: Durable, order: Run, url: str, browse: Open
) -> None:
    page = browse(f"{url}/runs/{order.id}")
    is_live(page)
    mark(page)
    expect(page.get_by_role("heading", level=1)).to_contain_text("suspended")
    order.resume("approved")
    world.drain(durable)
    expect(page.get_by_role("heading", level=1)).to_contain_text("completed")
    expect(page.locator("#result")).to_contain_text("shipped")
    expect(page.locator("#live")).to_have_text("")
    assert is_same(page)


def test_what_a_viewer_has_opened_chosen_and_typed_stays(
    world: World, durable: Durable, order: Run, url: str, browse: Open
) -> None:
    page = browse(f"{url}/runs/{order.id}", viewport={"width": 900, "height": 500})
    is_live(page)
    page.locator("#group-lines-do > summary").click()
    expect(page.locator("#group-lines-do")).to_contain_text("lines#0")
    page.locator("#unit-charge > summary").click()
    expect(page.locator("#unit-charge")).to_contain_text("the bank does not answer")
    page.locator("#unit-charge > summary").focus()
    page.evaluate("window.scrollTo(0, 300)")
    before = page.evaluate("document.getElementById('units').getBoundingClientRect().top")
    order.resume("other", "something else")
    expect(page.locator("#signals")).to_contain_text("something else")
    after = page.evaluate("document.getElementById('units').getBoundingClientRect().top")
    assert after == before
    expect(page.locator("#unit-charge > summary")).to_be_focused()
    expect(page.locator("#group-lines-do")).to_have_attribute("open", "")
    expect(page.locator("#group-lines-do")).to_contain_text("lines#0")
    expect(page.locator("#unit-charge")).to_contain_text("the bank does not answer")


def test_a_form_is_left_alone_while_it_is_filled_in(order: Run, url: str, browse: Open) -> None:
    page = browse(url)
    made = (
        "<form id='f'><label>Why <input name='why' value='{}'></label>"
        "<select name='s'><option>a</option><option>b</option></select></form><p>{}</p>"
    )
    page.evaluate(
        "html => { const box = document.createElement('div'); box.id = 'box';"
        " document.getElementById('main').append(box); box.innerHTML = html; }",
        made.format("", "old"),
    )
    show = "html => show(document.getElementById('box'), html)"
    page.evaluate(show, made.format("said", "new"))
    expect(page.locator("#box input")).to_have_value("said")
    page.get_by_label("Why").fill("because")
    page.get_by_role("searchbox").focus()
    page.evaluate(show, made.format("other", "newer"))
    expect(page.locator("#box input")).to_have_value("because")
    expect(page.locator("#box p")).to_have_text("newer")


def test_a_list_and_the_overview_follow_what_happens(
    world: World, durable: Durable, url: str, browse: Open
) -> None:
    overview, runs = browse(url), browse(f"{url}/runs?status=suspended")
    for page in (overview, runs):
        is_live(page)
        mark(page)
    expect(runs.locator("#list")).to_contain_text("No run matches")
    run = durable.start("order", {})
    world.drain(durable)
    expect(runs.locator("#list")).to_contain_text(str(run.id))
    expect(overview.locator("#statuses")).to_contain_text("suspended 1")
    assert is_same(overview)
    assert is_same(runs)


def test_a_connection_that_was_lost_comes_again(
    world: World, durable: Durable, order: Run, browse: Open
) -> None:
    port = free_port()
    with served(create_app(durable, login=lambda _: Viewer("ann")), port) as url:
        page = browse(f"{url}/runs/{order.id}")
        is_live(page)
        mark(page)
    expect(page.locator("#live")).to_contain_text("not live")
    order.resume("approved")
    world.drain(durable)
    with served(create_app(durable, login=lambda _: Viewer("ann")), port):
        expect(page.get_by_role("heading", level=1)).to_contain_text("completed")
        assert is_same(page)


def test_a_page_that_nobody_sees_follows_nothing(
    app: Starlette, order: Run, url: str, browse: Open
) -> None:
    page = browse(f"{url}/runs/{order.id}")
    is_live(page)
    hide = (
        "is => { Object.defineProperty(document, 'hidden', { value: is, configurable: true });"
        " document.dispatchEvent(new Event('visibilitychange')); }"
    )
    page.evaluate(hide, True)
    wait_until(lambda: app.state.topics.streams == 0, message="the stream to end")
    page.evaluate(hide, False)
    is_live(page)
    assert app.state.topics.streams == 1


def test_the_doctor_comes_after_the_page(world: World, url: str, browse: Open) -> None:
    page = browse(url)
    expect(page.get_by_text("No relay runs: nothing would be published").last).to_be_visible()


def test_a_run_is_found_and_looked_into_by_keyboard_alone(
    order: Run, url: str, browse: Open
) -> None:
    page = browse(url)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    tab_to(page, page.get_by_role("searchbox"), backwards=True)
    page.keyboard.type("order 7")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/runs/{order.id}")
    tab_to(page, page.locator("#unit-charge > summary"))
    page.keyboard.press("Enter")
    expect(page.locator("#unit-charge")).to_contain_text("receipt 4711")


def tab_to(page: Page, what: Any, *, backwards: bool = False) -> None:
    """Press Tab until it has the focus, as somebody without a mouse does."""
    for _ in range(80):
        page.keyboard.press("Shift+Tab" if backwards else "Tab")
        if what.evaluate("element => element === document.activeElement"):
            return
    raise AssertionError("it cannot be reached")


def test_filters_are_saved_in_the_browser_by_keyboard(shop: Run, url: str, browse: Open) -> None:
    page = browse(f"{url}/runs?status=failed&workflow=refund")
    tab_to(page, page.get_by_label("Save these filters as"))
    page.keyboard.type(f"refunds {NASTY}")
    page.keyboard.press("Enter")
    page.goto(f"{url}/runs")
    saved = page.get_by_role("link", name="refunds")
    tab_to(page, saved)
    page.keyboard.press("Enter")
    page.wait_for_url("**/runs?status=failed&workflow=refund")
    assert page.get_by_role("row").count() == 1 + 3
    page.get_by_role("button", name="Remove refunds").press("Enter")
    expect(page.locator("#saved")).to_be_hidden()
    page.reload()
    expect(page.locator("#saved")).to_be_hidden()


def test_all_is_there_without_script(shop: Run, url: str, browse: Open) -> None:
    page = browse(f"{url}/runs/{shop.id}", java_script_enabled=False)
    page.locator("#unit-charge > summary").click()
    page.get_by_role("link", name="Attempts, result and worker").click()
    expect(page.get_by_role("main")).to_contain_text("the bank does not answer")
    page.get_by_role("link", name=str(shop.id)).click()
    page.locator("#group-lines-do > summary").click()
    page.get_by_role("link", name="Each of them").click()
    expect(page.get_by_role("main")).to_contain_text("line 3 is out of stock")
    page.get_by_role("link", name="Overview").click()
    page.get_by_role("link", name="Look at settings").click()
    expect(page.get_by_role("heading", name="What the doctor finds")).to_be_visible()


PATHS = {
    "overview": "/",
    "all": "/runs",
    "runs": "/runs?status=failed",
    "nothing": "/runs?key=nobody",
    "run": "/runs/{shop}",
    "failed": "/runs/{failed}",
    "units": "/runs/{shop}/units",
    "unit": "/runs/{shop}/unit?unit=charge",
    "doctor": "/doctor",
}


@pytest.fixture
def links(shop: Run, durable: Durable, url: str) -> Mapping[str, str]:
    """The addresses of `PATHS`."""
    (failed, *_) = durable.list(status="failed", limit=1)
    return {
        name: url + path.format(shop=shop.id, failed=failed.run_id) for name, path in PATHS.items()
    }


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PATHS)
def test_axe_finds_nothing_wrong(
    links: Mapping[str, str], browse: Open, violations: Violations, name: str, color_scheme: str
) -> None:
    page = browse(links[name])
    assert violations(page, color_scheme=color_scheme) == []


@pytest.mark.parametrize("name", PATHS)
def test_a_page_is_no_wider_than_a_phone(links: Mapping[str, str], browse: Open, name: str) -> None:
    page = browse(links[name], viewport={"width": 360, "height": 740}, has_touch=True)
    for details in page.locator("details > summary").all():
        details.click()
    assert page.evaluate("document.documentElement.scrollWidth") == 360


PICTURES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "overview": ("overview", {}),
    "runs": ("all", {}),
    "run": ("run", {}),
    "run-dark": ("run", {"color_scheme": "dark"}),
    "run-phone": ("run", {"viewport": {"width": 360, "height": 740}}),
}


def look_ordinary(world: World) -> None:
    """Without what only a test writes."""
    world.rows("UPDATE durable_run SET key = 'order 8', tags = '{}' WHERE key LIKE '<%%'")
    world.rows(
        "UPDATE durable_run SET error = replace(replace(error::text, %s, ''), %s, 'shop')::json,"
        " input = replace(input::text, %s, 'c-42')::json",
        f" {NASTY}",
        __name__,
        NASTY,
    )


@pytest.fixture
def pictures(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where pictures are written to: the docs only when it is asked for."""
    return IMAGES if request.config.getoption("--screenshots") else tmp_path


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_of_the_docs_are_small(
    world: World, links: Mapping[str, str], browse: Open, name: str, pictures: Path
) -> None:
    look_ordinary(world)
    path, options = PICTURES[name]
    page = browse(links[path], **{"viewport": {"width": 1100, "height": 760}, **options})
    is_live(page)
    picture = page.screenshot(path=pictures / f"{name}.png")
    assert len(picture) < 200_000
