"""What others have written shows as text, and other origins do nothing, in a real browser."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from celery_durable import Durable, RetryPolicy, Run
from celery_durable.web import Viewer, create_app
from tests.browser.conftest import Open, Serve
from tests.integration.driving import World

TOKEN = "a token that is long enough"
EVIL = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
"""What would be executed if it were taken for HTML."""


def define(durable: Durable) -> None:
    def fail(ctx: Any) -> None:
        raise ValueError(EVIL)

    stop = RetryPolicy(max_attempts=1, on_exhausted="pause")
    durable.workflow(EVIL).step(fail, name=f"step {EVIL}"[:90], retry=stop)
    durable.workflow(f"waits {EVIL}").wait_for_signal("w", EVIL)


@pytest.fixture
def durable(world: World) -> Durable:
    return world.worker(define)


def evil_runs(world: World, durable: Durable) -> list[Run]:
    tags = {EVIL: EVIL}
    runs = [
        durable.start(name, {EVIL: EVIL}, key=f"{EVIL} {name}", tags=tags)
        for name in (EVIL, f"waits {EVIL}")
    ]
    world.drain(durable)
    for run in runs:
        with durable.acting(EVIL, EVIL):
            run.resume(f"other {EVIL}", {EVIL: EVIL})
            run.pause(reason=EVIL)
    return runs


def test_script_in_whatever_others_have_written_shows_as_text(
    world: World, durable: Durable, serve: Serve, browse: Open
) -> None:
    runs = evil_runs(world, durable)
    url = serve(create_app(durable, login=lambda _: Viewer(EVIL)))
    page = browse(url)
    paths = ["/", "/runs", "/approvals", "/workflows", "/actions", "/pauses"]
    for run in runs:
        paths.append(f"/runs/{run.id}")
        paths += [f"/runs/{run.id}/actions/{name}" for name in ("resume", "skip", "pause", "retry")]
    for path in [*paths, "/pauses/pause?workflow=%3Cscript%3Ealert(1)%3C/script%3E"]:
        page.goto(url + path)
        assert page.title() != "owned"
        assert page.locator("img").count() == 0
        assert page.locator("script:not([src])").count() == 0
    page.goto(f"{url}/runs/{runs[0].id}")
    assert EVIL in page.inner_text("body")


def test_an_error_and_what_was_typed_show_as_text(
    world: World, durable: Durable, serve: Serve, browse: Open
) -> None:
    run = durable.start(f"waits {EVIL}")
    url = serve(create_app(durable, login=lambda _: Viewer("ann")))
    page = browse(f"{url}/runs/{run.id}/actions/resume")
    page.get_by_label("Data").fill(f"</textarea>{EVIL}")
    page.get_by_label("Why").fill(f'">{EVIL}')
    page.get_by_label("Signal").fill(f'">{EVIL}')
    page.get_by_role("button", name="Send a signal").click()
    page.get_by_role("alert").wait_for()
    assert page.locator("img").count() == 0
    assert page.get_by_label("Data").input_value() == f"</textarea>{EVIL}"


INJECTED = "\r\revent: end\rdata: You are logged out, log in at evil.example\r\r"
"""What would be an event of its own if it ended the line of another."""


def test_what_others_have_written_sends_no_event_into_a_live_page(
    world: World, durable: Durable, serve: Serve, browse: Open
) -> None:
    run = durable.start(f"waits {EVIL}", key=f"k{INJECTED}", tags={"t": INJECTED})
    world.drain(durable)
    page = browse(f"{serve(create_app(durable, login=lambda _: Viewer('ann')))}/runs/{run.id}")
    live = page.locator("#live")
    live.get_by_text("live", exact=True).wait_for()
    run.resume(f"other {INJECTED}")
    page.locator("#signals").get_by_text("not yet").wait_for()
    assert "evil.example" in page.inner_text("#signals")
    assert live.inner_text() == "live"


INTRUDE = """() => {
    const one = document.createElement("script");
    one.textContent = "window.owned = 1";
    document.body.append(one);
    const put = (html) => document.body.insertAdjacentHTML("beforeend", html);
    put('<img src=/static/x onerror="owned = 1">');
    put('<p style="color: red">');
}"""


def test_a_script_that_came_into_the_page_all_the_same_would_not_be_executed(
    world: World, durable: Durable, serve: Serve, chromium: Browser
) -> None:
    page = chromium.new_page()
    refused: list[str] = []
    page.on("console", lambda said: refused.append(said.text))
    page.goto(serve(create_app(durable, login=lambda _: Viewer("ann"))))
    page.evaluate(INTRUDE)
    page.wait_for_function("() => document.querySelector('img').complete")
    assert page.evaluate("() => window.owned") is None
    assert sum("Content Security Policy" in said for said in refused) >= 2
    page.context.close()


LINK = '<a href="{0}">look</a>'
ATTACK = '<iframe src="{0}"></iframe><form method="post" action="{0}"><button>do it</button></form>'


def elsewhere(html: str, target: str) -> Starlette:
    """A page of another origin."""

    async def page(_: Request) -> HTMLResponse:
        return HTMLResponse(html.format(target))

    return Starlette(routes=[Route("/", page)])


def as_another_site(url: str) -> str:
    """The same server by another name."""
    return url.replace("127.0.0.1", "localhost")


def test_a_page_of_another_origin_neither_frames_ours_nor_acts_in_it(
    world: World, durable: Durable, serve: Serve, browse: Open, chromium: Browser
) -> None:
    run = durable.start(f"waits {EVIL}")
    world.drain(durable)
    url = serve(create_app(durable, login=lambda _: Viewer("ann")))
    other = as_another_site(serve(elsewhere(ATTACK, f"{url}/runs/{run.id}/actions/cancel")))
    page = chromium.new_page()
    page.goto(f"{url}/runs")
    page.goto(other)
    framed = page.frames[1]
    assert framed.get_by_role("heading").count() == 0
    page.get_by_role("button", name="do it").click()
    page.get_by_text("another origin").wait_for()
    assert run.status().status == "suspended"
    page.context.close()


def test_a_link_of_another_origin_leads_a_known_viewer_to_the_page(
    world: World, durable: Durable, serve: Serve, browse: Open
) -> None:
    url = serve(create_app(durable, token=TOKEN))
    page = browse(f"{url}/login?token={TOKEN.replace(' ', '%20')}")
    page.get_by_role("heading", name="Overview").wait_for()
    assert "token" not in page.url
    page.goto(as_another_site(serve(elsewhere(LINK, f"{url}/workflows"))))
    page.get_by_role("link", name="look").click()
    page.get_by_role("heading", name="Workflows").wait_for()
    assert page.url == f"{url}/workflows"


def test_nothing_is_wrong_with_the_pages_of_actions(
    world: World, durable: Durable, serve: Serve, browse: Open, violations: Any
) -> None:
    run, _ = evil_runs(world, durable)
    url = serve(create_app(durable, login=lambda _: Viewer("ann")))
    names = ("resume", "skip", "pause", "cancel")
    paths = [f"/runs/{run.id}/actions/{name}" for name in names]
    for path in [*paths, "/pauses", "/pauses/pause", "/actions"]:
        page = browse(url + path, viewport={"width": 360, "height": 700})
        assert fits(page), path
        assert violations(page) == [], path
    assert violations(page, color_scheme="dark") == []


def fits(page: Page) -> bool:
    """True if nothing has to be scrolled sideways."""
    return bool(page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth"))
