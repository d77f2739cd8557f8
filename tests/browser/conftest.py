"""The page in a real browser: an installed chromium, and the application served on a port."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from starlette.types import ASGIApp

from tests import services
from tests.browser.serving import served
from tests.integration.driving import World
from tests.services import PostgresServer

Serve = Callable[[ASGIApp], str]

expect.set_options(timeout=60_000)  # far above what a slow machine needs; nobody waits for it


@pytest.fixture(scope="module")
def chromium(request: pytest.FixtureRequest) -> Iterator[Browser]:
    """A chromium without a window: ``CHROMIUM``, or the one on PATH.

    Not for a whole session: while playwright is there, an event loop runs in this thread, and
    neither Django nor `asyncio.run` works in it.
    """
    found = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    if found is None:
        services.missing(request.config, "Chromium", "install chromium, or set CHROMIUM")
    # Only a user who is not root has a sandbox.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def module_database_url(postgres: PostgresServer, template_database: str) -> Iterator[str]:
    """One database for the tests of a module, which leave it as they found it."""
    with postgres.database("durable_test", template_database) as name:
        yield postgres.url(name)


@pytest.fixture
def world(module_database_url: str) -> Iterator[World]:
    """An empty database, with `World`'s ways to drive workers on it."""
    with closing(World(module_database_url)) as world:
        yield world


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves an application by uvicorn until the test ends; the answer is its URL."""
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(served(app))


Open = Callable[..., Page]


@pytest.fixture
def browse(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens a URL in a browser of its own; options are those of playwright's `new_context`.

    An error of the page's script, and what the Content-Security-Policy has refused, fail the test.
    """
    contexts: list[BrowserContext] = []
    wrong: list[str] = []

    def opened(url: str, **options: Any) -> Page:
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "console",
            lambda said: wrong.append(said.text) if "Content Security" in said.text else None,
        )
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not wrong


Violations = Callable[..., list[str]]


@pytest.fixture
def violations(chromium: Browser) -> Violations:
    """What axe-core finds wrong with a page; see `tests.browser.accessibility`."""
    from tests.browser.accessibility import violations_of  # noqa: PLC0415 - axe is large

    def found(page: Page, **options: Any) -> list[str]:
        return violations_of(chromium, page, **options)

    return found
