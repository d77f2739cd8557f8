"""Who is let in, by the token or by the host application's login, and what they may do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.testclient import TestClient

from celery_durable import ConfigurationError
from celery_durable.web import Viewer, create_app
from celery_durable.web.access import Gate
from tests.integration.driving import World, defining
from tests.web.conftest import Visit
from tests.web.viewing import SomeoneAt

TOKEN = "a token that is long enough"
WRONG = "another token, just as long"


def gate_of(somebody: SomeoneAt) -> Gate:
    found: Gate = somebody.client.app.state.gate  # type: ignore[attr-defined]
    return found


@pytest.fixture
def waits() -> list[float]:
    """For how long answers were held back."""
    return []


@pytest.fixture
def stranger(world: World, visit: Visit, waits: list[float]) -> SomeoneAt:
    """Somebody who has not shown the token; nobody really waits."""
    found = visit(world.worker(), token=TOKEN)

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    gate_of(found).sleep = sleep
    return found


def log_in(somebody: SomeoneAt, token: str = TOKEN, name: str = "Ann", **more: str) -> Any:
    return somebody.client.post("/login", data={"token": token, "name": name, **more})


PAGES = ["/", "/runs", "/approvals", "/workflows", "/actions", "/pauses", "/nothing"]


@pytest.mark.parametrize("path", PAGES)
def test_a_stranger_is_led_to_the_login(stranger: SomeoneAt, path: str) -> None:
    answer = stranger.get(path)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login?next=%2F")
    assert stranger.post_as_it_is("/logout").status_code == 403


def test_the_token_is_exchanged_for_a_cookie_that_no_script_and_no_other_site_sees(
    stranger: SomeoneAt,
) -> None:
    answer = log_in(stranger)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert {"httponly", "samesite=strict", "path=/"} <= {one.strip() for one in cookie.split(";")}
    assert TOKEN not in cookie
    assert "secure" not in cookie
    assert "Ann" in stranger.see("/")


def test_the_cookie_is_secure_where_the_page_is_opened_by_https(
    world: World, stranger: SomeoneAt
) -> None:
    client = TestClient(stranger.client.app, base_url="https://localhost", follow_redirects=False)
    answer = client.post("/login", data={"token": TOKEN})
    assert "secure" in answer.headers["set-cookie"].lower()


def test_the_link_that_is_printed_lets_in_and_does_not_stay_in_the_address(
    stranger: SomeoneAt,
) -> None:
    answer = stranger.get("/login", params={"token": TOKEN})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "token@testclient" in stranger.see("/")


@pytest.mark.parametrize(
    ("wanted", "after"),
    [
        ("/runs?status=failed", "/runs?status=failed"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/\t/evil.example", "/"),
        ("/\t/[x", "/"),
        ("//[x", "/"),
    ],
)
def test_after_the_login_they_are_where_they_wanted_to_be_if_that_is_here(
    stranger: SomeoneAt, wanted: str, after: str
) -> None:
    assert log_in(stranger, next=wanted).headers["location"] == after


def test_a_wrong_token_is_slow_and_logged_without_it(
    stranger: SomeoneAt, waits: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        answer = log_in(stranger, WRONG)
        assert answer.status_code == 403
        assert "This is not the token" in answer.text
        assert "set-cookie" not in answer.headers
    assert len(waits) == 3
    assert waits == sorted(waits)
    assert waits[0] > 0.4
    logged = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert logged == [
        f"A wrong token for the web page from testclient, its number {n}" for n in (1, 2, 3)
    ]
    assert stranger.get("/").status_code == 303


def test_after_wrong_tokens_a_right_one_waits_as_long(
    stranger: SomeoneAt, waits: list[float]
) -> None:
    for _ in range(3):
        log_in(stranger, WRONG)
    waits.clear()
    assert log_in(stranger).headers["location"] == "/"
    assert waits[0] > 2.0
    waits.clear()
    log_in(stranger)
    assert waits == [0.0]


def test_an_address_that_has_tried_too_many_is_refused_at_once(
    stranger: SomeoneAt, waits: list[float]
) -> None:
    answers = [log_in(stranger, WRONG).status_code for _ in range(12)]
    assert answers[0] == 403
    assert answers[-1] == 429
    assert log_in(stranger).status_code == 429, "a right one too"


def test_who_waits_for_a_wrong_token_holds_up_nobody(world: World, visit: Visit) -> None:
    known = visit(world.worker(), token=TOKEN)
    log_in(known)
    held: list[bool] = []

    async def look_meanwhile(_: float) -> None:
        answer = await asyncio.get_running_loop().run_in_executor(None, known.see, "/")
        held.append("Overview" in answer)

    gate_of(known).sleep = look_meanwhile
    other = SomeoneAt(
        TestClient(known.client.app, base_url="http://localhost", follow_redirects=False)
    )
    assert log_in(other, WRONG).status_code == 403
    assert held == [True]


def test_a_page_of_another_origin_cannot_try_tokens_in_the_viewers_name(
    stranger: SomeoneAt, waits: list[float]
) -> None:
    elsewhere = {"sec-fetch-site": "cross-site"}
    answer = stranger.get("/login", params={"token": TOKEN}, headers=elsewhere)
    assert (answer.status_code, "set-cookie" in answer.headers) == (200, False)
    posted = stranger.client.post("/login", data={"token": WRONG}, headers=elsewhere)
    assert posted.status_code == 403
    assert waits == []


def test_a_link_of_another_origin_leads_to_the_page_all_the_same(stranger: SomeoneAt) -> None:
    answer = stranger.get("/runs?status=failed", headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 200
    assert 'content="0; url=/login?next=%2Fruns%3Fstatus%3Dfailed"' in answer.text
    log_in(stranger)
    again = stranger.get("/login?next=%2Fruns%3Fstatus%3Dfailed")
    assert (again.status_code, again.headers["location"]) == (303, "/runs?status=failed")


def test_who_leaves_is_a_stranger_again(stranger: SomeoneAt) -> None:
    log_in(stranger)
    assert stranger.post("/logout").headers["location"] == "/login"
    assert stranger.get("/").status_code == 303


@pytest.mark.parametrize("forged", ["", "e30.Zm9v.YmFy", "not a cookie at all"])
def test_a_cookie_that_was_not_signed_here_opens_nothing(stranger: SomeoneAt, forged: str) -> None:
    stranger.client.cookies.set(gate_of(stranger).sessions.cookie, forged)
    assert stranger.get("/").status_code == 303


def another(somebody: SomeoneAt, **cookies: str) -> SomeoneAt:
    """A browser of its own at the same page, with these cookies."""
    client = TestClient(
        somebody.client.app, base_url="http://localhost", cookies=cookies, follow_redirects=False
    )
    return SomeoneAt(client)


def test_a_cookie_is_good_for_nothing_once_its_viewer_has_left(stranger: SomeoneAt) -> None:
    """Nor is the token of its forms; who has come with a cookie of their own stays."""
    log_in(stranger)
    copy, other = another(stranger, **dict(stranger.client.cookies)), another(stranger)
    token = {"csrf_token": copy.csrf_token}
    log_in(other)
    stranger.post("/logout")
    assert copy.get("/runs").status_code == 303
    assert copy.client.post("/pauses/pause", data=token).status_code == 403
    assert other.get("/runs").status_code == 200


def test_no_more_sessions_that_have_ended_are_remembered_than_may_be(
    stranger: SomeoneAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celery_durable.web.session.MOST_ENDED", 2)
    copies = []
    for _ in range(3):
        log_in(stranger)
        copies.append(another(stranger, **dict(stranger.client.cookies)))
        stranger.post("/logout")
    assert [copy.get("/runs").status_code for copy in copies] == [200, 303, 303]


def test_a_session_ends_when_nobody_has_used_it_for_a_day(
    stranger: SomeoneAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in(stranger)
    assert stranger.get("/").status_code == 200
    monkeypatch.setattr("celery_durable.web.session.LONGEST_SESSION", -1)
    assert stranger.get("/").status_code == 303


def test_a_session_that_is_used_is_renewed(
    stranger: SomeoneAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in(stranger)
    token = stranger.csrf_token
    assert "set-cookie" not in stranger.get("/").headers
    monkeypatch.setattr("celery_durable.web.session.RENEWED_AFTER", -1)
    assert "Max-Age=86400" in stranger.get("/").headers["set-cookie"]
    assert stranger.csrf_token == token, "forms that are open stay good"
    assert "Max-Age=0" in stranger.post("/logout").headers["set-cookie"]
    assert stranger.get("/").status_code == 303


def test_a_header_of_another_kind_does_not_get_in_the_way_of_a_cookie(
    stranger: SomeoneAt, waits: list[float]
) -> None:
    """A proxy may add one; and the right token in it takes nothing away."""
    log_in(stranger)
    waits.clear()
    for token in ("a.jwt.of-a-proxy", TOKEN):
        headers = {"authorization": f"Bearer {token}"}
        assert stranger.get("/pauses/pause", headers=headers).status_code == 200
    assert waits == []


@pytest.mark.parametrize("token", ["žluťoučký kůň, úpěl ďábelské", f"{TOKEN}\n", f" {TOKEN}"])
def test_a_token_that_no_header_holds_is_refused(world: World, token: str) -> None:
    with pytest.raises(ConfigurationError, match=r"durable_web_token has .*token_urlsafe"):
        create_app(world.worker(), token=token)
    with pytest.raises(ConfigurationError, match="durable_web_metrics_token has"):
        create_app(world.worker(web_metrics_token=token), token=TOKEN)


def test_pages_that_a_browser_opens_at_once_have_forms_that_are_good(
    world: World, visit: Visit
) -> None:
    """The cookie of the answer that comes last takes the place of the first one's."""
    page = visit(world.worker(), login=of(Viewer("ann")))
    first, last, stranger = another(page, sid="1"), another(page, sid="1"), another(page, sid="2")
    tokens = [{"csrf_token": one.csrf_token} for one in (first, stranger)]
    last.see("/")
    assert last.client.post("/pauses/pause", data=tokens[0]).status_code == 409
    assert last.client.post("/pauses/pause", data=tokens[1]).status_code == 403


def test_another_token_ends_what_was_opened_with_the_first(world: World, visit: Visit) -> None:
    durable = world.worker(web_secret="signs all of them")
    ann = visit(durable, token=TOKEN)
    log_in(ann)
    same, other = visit(durable, token=TOKEN), visit(durable, token=WRONG)
    for page in (same, other):
        page.client.cookies.set(
            gate_of(page).sessions.cookie, next(iter(ann.client.cookies.values()))
        )
    assert same.get("/").status_code == 200
    assert other.get("/").status_code == 303


def test_two_pages_on_one_host_have_cookies_of_their_own(world: World, visit: Visit) -> None:
    durable = world.worker()
    names = {gate_of(visit(durable, token=token)).sessions.cookie for token in (TOKEN, WRONG)}
    assert len(names) == 2


def test_a_program_shows_the_token_in_a_header_and_only_reads(
    stranger: SomeoneAt, waits: list[float]
) -> None:
    right, wrong = ({"authorization": f"Bearer {one}"} for one in (TOKEN, WRONG))
    assert stranger.get("/runs", headers=right).status_code == 200
    assert stranger.client.post("/logout", headers=right).status_code == 403
    assert stranger.client.post("/pauses/pause", headers=right).status_code == 403
    waits.clear()
    assert stranger.get("/runs", headers=wrong).status_code == 403
    assert waits[0] > 0.4


def of(viewer: Viewer | Response | None) -> Callable[[Request], Viewer | Response | None]:
    return lambda _: viewer


async def awaited(request: Request) -> Viewer | None:
    return Viewer(request.headers["x-user"]) if "x-user" in request.headers else None


class Called:
    """A login that is an object, which only answers when it is awaited."""

    def __call__(self, request: Request) -> Awaitable[Viewer | None]:
        return awaited(request)


@pytest.mark.parametrize("login", [awaited, Called()])
def test_the_host_application_says_who_it_is(world: World, visit: Visit, login: Any) -> None:
    page = visit(world.worker(), login=login)
    assert "ben" in page.get("/", headers={"x-user": "ben"}).text
    assert page.get("/").status_code == 403
    assert page.get("/login").headers["location"] == "/"
    assert "Log out" not in page.get("/", headers={"x-user": "ben"}).text


def test_the_host_applications_response_is_given_to_a_stranger(world: World, visit: Visit) -> None:
    page = visit(world.worker(), login=of(PlainTextResponse("over there", 401)))
    answer = page.get("/")
    assert (answer.status_code, answer.text) == (401, "over there")


@pytest.mark.parametrize(
    "options",
    [
        {"login": of(Viewer("ann", "reader"))},
        {"login": of(Viewer("ann")), "read_only": True},
        {"login": of(Viewer("ann")), "web_read_only": True},
        {"token": TOKEN, "read_only": True},
    ],
    ids=["reader", "read only", "setting", "token"],
)
def test_a_reader_sees_everything_and_does_nothing(
    world: World, visit: Visit, options: dict[str, Any]
) -> None:
    settings = {name: options.pop(name) for name in ("web_read_only",) if name in options}
    durable = world.worker(defining([], "a"), **settings)
    run = durable.start("w")
    page = visit(durable, **options)
    if "token" in options:
        log_in(page, name="ann")
    shown = page.see(f"/runs/{run.id}")
    assert "reads only" in shown
    assert "/actions/cancel" not in shown
    assert page.get(f"/runs/{run.id}/actions/cancel").status_code == 403
    for path in (f"/runs/{run.id}/actions/cancel", "/pauses/pause"):
        answer = page.post(path, {"workflow": "w"})
        assert answer.status_code == 403
        assert "takes an operator" in answer.text
    assert world.status(run) == "running"
    assert durable.pauses() == []
    if "token" in options:
        assert page.post("/logout").status_code == 303


def test_a_page_that_nobody_could_open_is_refused_with_what_to_do(world: World) -> None:
    durable = world.worker()
    with pytest.raises(ConfigurationError, match=r"durable_web_token, or pass login="):
        create_app(durable)
    with pytest.raises(ConfigurationError, match="pass one of them"):
        create_app(durable, login=of(None), token=TOKEN)
    with pytest.raises(ConfigurationError, match="16 characters or more"):
        create_app(durable, token="short")
    create_app(world.worker(web_token=TOKEN))
