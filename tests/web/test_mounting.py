"""The page mounted in another application: everything stays below its prefix."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.routing import Mount
from starlette.testclient import TestClient

from celery_durable import Durable
from celery_durable.web import Viewer, create_app
from tests.integration.driving import World, defining

TOKEN = "a token that is long enough"
PREFIX = "/ops/durable"


def in_fastapi(page: Starlette) -> FastAPI:
    app = FastAPI()
    app.mount(PREFIX, page)

    @app.get("/runs")
    def runs() -> str:
        return "the host's own"

    return app


def in_starlette(page: Starlette) -> Starlette:
    return Starlette(routes=[Mount("/ops", routes=[Mount("/durable", page)])])


HOSTS = [in_fastapi, in_starlette]


@pytest.fixture
def durable(world: World) -> Durable:
    return world.worker(defining([], "a"))


def links(html: str) -> set[str]:
    """Where a page leads, and what it loads."""
    return set(re.findall(r'(?:href|src|action|data-live)="([^"#]+)"', html))


@pytest.mark.parametrize("host", HOSTS)
def test_every_link_and_file_is_below_the_prefix(durable: Durable, host: Any) -> None:
    run = durable.start("w")
    page = create_app(durable, login=lambda _: Viewer("ann"))
    client = TestClient(host(page), base_url="http://localhost")
    for path in ("/", "/runs", f"/runs/{run.id}", f"/runs/{run.id}/actions/cancel", "/pauses"):
        answer = client.get(PREFIX + path)
        assert answer.status_code == 200
        found = links(answer.text)
        assert len(found) > 5
        assert all(link.startswith(f"{PREFIX}/") for link in found), found
        for link in found:
            if "/static/" in link:
                assert client.get(link).status_code == 200
    assert PREFIX in client.get(PREFIX).url.path


@pytest.mark.parametrize("host", HOSTS)
def test_an_action_leads_back_to_the_run_below_the_prefix(
    world: World, durable: Durable, host: Any
) -> None:
    run = durable.start("w")
    page = create_app(durable, login=lambda _: Viewer("ann"))
    client = TestClient(host(page), base_url="http://localhost", follow_redirects=False)
    path = f"{PREFIX}/runs/{run.id}/actions/cancel"
    token = re.search(r'name="csrf_token" value="(\w+)"', client.get(path).text)
    assert token
    answer = client.post(path, data={"csrf_token": token[1]})
    assert (answer.status_code, answer.headers["location"]) == (303, f"{PREFIX}/runs/{run.id}")
    assert world.status(run) == "cancelled"


@pytest.mark.parametrize("host", HOSTS)
def test_the_login_and_its_cookie_stay_below_the_prefix(durable: Durable, host: Any) -> None:
    page = create_app(durable, token=TOKEN)
    client = TestClient(host(page), base_url="http://localhost", follow_redirects=False)
    asked = client.get(f"{PREFIX}/runs?status=failed")
    to_login = asked.headers["location"]
    assert to_login == f"{PREFIX}/login?next=%2Fops%2Fdurable%2Fruns%3Fstatus%3Dfailed"
    wanted = f"{PREFIX}/runs?status=failed"
    answer = client.post(f"{PREFIX}/login", data={"token": TOKEN, "next": wanted})
    assert answer.headers["location"] == wanted
    assert f"path={PREFIX}/;" in answer.headers["set-cookie"].lower()
    assert client.get(wanted).status_code == 200
    elsewhere = {"token": TOKEN, "next": "/runs"}
    assert client.post(f"{PREFIX}/login", data=elsewhere).headers["location"] == f"{PREFIX}/"


def test_the_host_keeps_its_own_pages(durable: Durable) -> None:
    page = create_app(durable, login=lambda _: None)
    client = TestClient(in_fastapi(page), base_url="http://localhost")
    assert client.get("/runs").json() == "the host's own"
    assert client.get(f"{PREFIX}/runs").status_code == 403


def test_the_hosts_session_says_who_it_is(durable: Durable) -> None:
    """The host's middlewares run before the page: its login may read what they have found."""

    def viewer(request: Request) -> Viewer | None:
        name = request.session.get("user")
        return Viewer(name) if name else None

    app = FastAPI(middleware=[Middleware(SessionMiddleware, secret_key="of the host")])
    app.mount(PREFIX, create_app(durable, login=viewer))

    @app.get("/enter")
    def enter(request: Request) -> None:
        request.session["user"] = "ann"

    client = TestClient(app, base_url="http://localhost")
    assert client.get(f"{PREFIX}/").status_code == 403
    client.get("/enter")
    assert "ann" in client.get(f"{PREFIX}/").text


def test_behind_a_proxy_that_takes_a_prefix_away_links_have_it(durable: Durable) -> None:
    page = create_app(durable, login=lambda _: Viewer("ann"))
    client = TestClient(page, base_url="http://localhost", root_path="/behind")
    found = links(client.get("/runs").text)
    assert found
    assert all(urlsplit(link).path.startswith("/behind/") for link in found)
