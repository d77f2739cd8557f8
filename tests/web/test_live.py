"""Server-sent events: what a page shows is sent when it changes, and the stream ends in time."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request

from celery_durable import Durable
from celery_durable.run import Run
from celery_durable.web import Viewer, create_app, live, topics
from celery_durable.web.topics import Topics
from tests.apps import paged
from tests.browser.serving import served
from tests.faults.proxy import Proxy
from tests.integration.driving import World
from tests.services import free_port
from tests.waiting import PATIENCE, wait_until
from tests.web.following import Event, events_of, following
from tests.web.reading import read


def define(durable: Durable) -> None:
    durable.workflow("works").step(lambda _: None, name="a")
    durable.workflow("waits").wait_for_signal("signoff", "go")


@pytest.fixture
def durable(world: World) -> Durable:
    return world.worker(define)


@pytest.fixture
def waiting(world: World, durable: Durable) -> Run:
    """A run that waits for a signal."""
    run = durable.start("waits")
    world.drain(durable)
    return run


class Page:
    """The application on a port, and a client of it."""

    def __init__(self, app: Starlette, client: httpx.Client) -> None:
        self.app = app
        self.client = client

    @property
    def topics(self) -> Topics:
        found: Topics = self.app.state.topics
        return found

    def has_seen(self, key: Any) -> bool:
        """True if somebody watches it, and it was looked at."""
        found = self.topics._topics.get(key)
        return found is not None and found[0].state.look is not None

    def stream_of(self, path: str) -> str:
        """The address of the stream that the page follows."""
        page = read(self.client.get(path).text)
        (found,) = (
            one.attributes["data-live"] for one in page.all("div") if "data-live" in one.attributes
        )
        return found or ""


@pytest.fixture
def serve() -> Iterator[Any]:
    """Serves the page of a `Durable`; options are `create_app`'s."""
    with ExitStack() as stack:

        def serve(durable: Durable, **options: Any) -> Page:
            options.setdefault("login", lambda _: Viewer("ann"))
            app = create_app(durable, **options)
            url = stack.enter_context(served(app))
            return Page(app, stack.enter_context(httpx.Client(base_url=url)))

        yield serve


@given(st.text(alphabet=st.sampled_from("\r\n: adet\0\x0b\x85\u2028é")))
@example("k\r\revent: end\rdata: You are logged out\r\r")
def test_no_text_ends_its_event_or_begins_another(text: str) -> None:
    seen = re.sub("\r\n?", "\n", text)
    assert events_of(live.event("parts", text)) == [Event("parts", seen)]


def test_a_run_is_followed_until_it_has_ended(
    world: World, durable: Durable, waiting: Run, serve: Any
) -> None:
    """What the page shows already is not sent again."""
    page = serve(durable)
    with following(page.client, page.stream_of(f"/runs/{waiting.id}")) as events:
        wait_until(lambda: page.has_seen(("run", waiting.id)))
        waiting.resume("go", {"by": "ann"})
        # A look may have come before it: the timeline grows.
        came = next(one for one in events if read(one.data).has("signals"))
        assert came.name == "parts"
        assert "not yet" in read(came.data).by_id("signals").text
        world.drain(durable)
        *_, last, end = events
        assert (last.name, end) == ("parts", Event("end", ""))
        assert "completed" in read(last.data).by_id("head").text


def test_what_has_changed_since_the_page_was_made_is_sent_at_once(
    world: World, durable: Durable, waiting: Run, serve: Any
) -> None:
    page = serve(durable)
    stream = page.stream_of(f"/runs/{waiting.id}")
    waiting.resume("go")
    world.drain(durable)
    with following(page.client, stream) as events:
        last, end = events
        assert "completed" in last.data
        assert end.name == "end"


def test_a_page_is_no_older_than_what_was_done_and_its_stream_no_older_than_the_page(
    waiting: Run, durable: Durable, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while others watch the run, which is not looked at again for an hour."""
    monkeypatch.setattr(topics, "EVERY", 3600.0)
    page = serve(durable)
    path = f"/runs/{waiting.id}"
    with following(page.client, f"/live/run/{waiting.id}") as events:
        assert "suspended" in read(next(events).data).by_id("head").text
        waiting.pause()
        stream = page.stream_of(path)
        assert "paused" in read(page.client.get(path).text).by_id("head").text
        assert "paused" in read(next(events).data).by_id("head").text
        with following(page.client, stream) as others:
            waiting.cancel()
            assert "cancelled" in page.client.get(path).text
            assert "cancelled" in read(next(others).data).by_id("head").text


def test_a_list_is_followed(world: World, durable: Durable, serve: Any) -> None:
    page = serve(durable)
    with following(page.client, page.stream_of("/runs?status=suspended")) as events:
        run = durable.start("waits")
        world.drain(durable)
        came = next(one for one in events if str(run.id) in one.data)
        assert "waits for a signal" in read(came.data).by_id(f"run-{run.id}").text


def test_the_overview_is_followed(world: World, durable: Durable, serve: Any) -> None:
    page = serve(durable)
    with following(page.client, page.stream_of("/")) as events:
        durable.start("waits")
        world.drain(durable)
        came = next(one for one in events if "suspended 1" in read(one.data).by_id("statuses").text)
        assert came.name == "parts"


def test_a_wrong_filter_is_not_followed(durable: Durable, serve: Any) -> None:
    """The page of it has no stream; whoever asks for one is told what is wrong."""
    page = serve(durable)
    assert "data-live" not in page.client.get("/runs?status=odd").text
    with following(page.client, "/live/runs?status=odd") as events:
        came = next(events)
        assert (came.name, "No run is ever" in came.data) == ("trouble", True)


def test_a_thing_is_looked_at_once_for_all_who_watch_it(
    durable: Durable, waiting: Run, serve: Any
) -> None:
    page = serve(durable)
    path = f"/live/run/{waiting.id}"
    with ExitStack() as stack:
        streams = [stack.enter_context(following(page.client, path)) for _ in range(3)]
        assert {next(events).name for events in streams} == {"parts"}
        assert len(page.topics._topics) == 1
        assert page.topics.streams == 3
    wait_until(lambda: page.topics._topics == {}, message="nothing to be looked at any more")


def test_no_more_streams_are_open_than_may_be(durable: Durable, waiting: Run, serve: Any) -> None:
    page = serve(durable)
    page.app.state.topics = Topics(most_streams=1)
    path = f"/live/run/{waiting.id}"
    with following(page.client, path) as events:
        next(events)
        refused = page.client.get("/live/overview")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
        assert "Reload the page" in refused.text
    wait_until(lambda: page.topics.streams == 0)
    with following(page.client, path) as events:
        assert next(events).name == "parts"


def test_a_stream_ends_when_its_viewer_may_look_no_more(
    durable: Durable, waiting: Run, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while nothing changes; and nothing more is sent to them."""
    known = {"ann"}

    def login(_: Request) -> Viewer | None:
        return Viewer("ann") if "ann" in known else None

    monkeypatch.setattr(live, "KEEP_ALIVE", 0.1)
    page = serve(durable, login=login)
    with following(page.client, f"/live/run/{waiting.id}") as events:
        assert next(events).name == "parts"
        known.clear()
        waiting.resume("go")
        (end,) = events
        assert (end.name, "logged out" in end.data) == ("end", True)


def test_a_cookie_that_is_no_longer_good_ends_the_stream(
    durable: Durable, waiting: Run, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "KEEP_ALIVE", 0.1)
    page = serve(durable, login=None, token="a token that is long enough")
    page.client.get("/login?token=a+token+that+is+long+enough")
    with following(page.client, f"/live/run/{waiting.id}") as events:
        next(events)
        other = create_app(durable, token="another token, long enough")
        page.app.state.gate = other.state.gate
        assert [one.name for one in events] == ["end"]


def test_a_stream_ends_when_its_viewer_has_left(
    durable: Durable, waiting: Run, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "KEEP_ALIVE", 0.1)
    page = serve(durable, login=None, token="a token that is long enough")
    page.client.get("/login?token=a+token+that+is+long+enough")
    form = re.search(r'name="csrf_token" value="(\w+)"', page.client.get("/").text)
    assert form
    with following(page.client, f"/live/run/{waiting.id}") as events:
        next(events)
        page.client.post("/logout", data={"csrf_token": form[1]})
        assert [one.name for one in events] == ["end"]


def test_nobody_follows_who_is_not_let_in(durable: Durable, waiting: Run, serve: Any) -> None:
    page = serve(durable, login=lambda _: None)
    for path in (f"/live/run/{waiting.id}", "/live/runs", "/live/overview"):
        assert page.client.get(path).status_code == 403


def test_a_page_is_told_why_it_is_not_live_and_when_it_is_again(
    world: World, waiting: Run, serve: Any
) -> None:
    with closing(Proxy(world.url)) as proxy:
        client = world.worker(define, database_url=proxy.url)
        page = serve(client)
        with following(page.client, f"/live/run/{waiting.id}") as events:
            assert next(events).name == "parts"
            proxy.refuse()
            trouble = next(events)
            assert trouble.name == "trouble"
            assert "Postgres" in trouble.data
            proxy.accept()
            assert next(events) == Event("trouble", "")
        client.database.close()


def test_a_run_that_is_not_there_is_trouble(durable: Durable, serve: Any) -> None:
    page = serve(durable)
    with following(page.client, "/live/run/00000000-0000-0000-0000-000000000001") as events:
        assert next(events).name == "trouble"


def test_a_stream_that_nobody_reads_is_dropped(
    durable: Durable, waiting: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The browser is there, and takes nothing more."""
    monkeypatch.setattr(live, "READ_WITHIN", 0.05)
    app = create_app(durable, login=lambda _: Viewer("ann"))
    sent: list[str] = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message["type"])
        if len(sent) > 1:
            await asyncio.Event().wait()

    scope = {
        "type": "http",
        "method": "GET",
        "path": f"/live/run/{waiting.id}",
        "raw_path": b"",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "scheme": "http",
        "http_version": "1.1",
        "root_path": "",
    }
    asyncio.run(asyncio.wait_for(app(scope, receive, send), PATIENCE))
    assert sent == ["http.response.start", "http.response.body"]
    assert app.state.topics.streams == 0


def test_a_stream_is_opened_again_after_a_while(
    durable: Durable, waiting: Run, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has gone without a word is not sent to for ever."""
    monkeypatch.setattr(live, "LONGEST_STREAM", 0.0)
    page = serve(durable)
    with following(page.client, f"/live/run/{waiting.id}") as events:
        assert [one.name for one in events] == ["parts", "again"]


@pytest.fixture
def process(world: World) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`durable web` as somebody starts it in a terminal, and the address of its page."""
    port, token = free_port(), "a token that is long enough"
    command = [sys.executable, "-m", "celery", "-A", "tests.apps.paged", "durable", "web"]
    environment = {**os.environ, paged.DATABASE_URL: world.url, paged.TOKEN: token}
    process = subprocess.Popen([*command, "--port", str(port)], env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(url), timeout=60, message="the page to answer")
        yield process, url
    finally:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/login").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_server_stops_while_pages_are_live(
    world: World, process: tuple[subprocess.Popen[bytes], str], number: signal.Signals
) -> None:
    """Nobody has to close their page first; each is told to come again."""
    server, url = process
    run = world.worker(paged.define).start("waits")
    with httpx.Client(base_url=url) as client:
        client.get("/login?token=a+token+that+is+long+enough")
        with following(client, f"/live/run/{run.id}") as events:
            assert next(events).name == "parts"
            server.send_signal(number)
            assert [one.name for one in events] == ["again"]
    server.wait(PATIENCE)
