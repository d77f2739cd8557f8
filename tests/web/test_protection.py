"""What keeps other origins out: headers, the Host, the Origin, the token of forms."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import celery_durable.web
from celery_durable.web import Viewer, create_app
from tests.integration.driving import World, defining
from tests.web.conftest import Visit
from tests.web.viewing import SomeoneAt

TOKEN = "a token that is long enough"
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none';"
    " base-uri 'none'",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def headers_of(answer: Any) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name in HEADERS}


PATHS = ["/", "/runs", "/nothing", "/metrics", "/runs/00000000-0000-0000-0000-000000000001"]


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_has_the_headers_that_guard_it(world: World, visit: Visit, path: str) -> None:
    assert headers_of(visit(world.worker()).get(path)) == HEADERS


def test_answers_to_strangers_have_them_too(world: World, visit: Visit) -> None:
    page = visit(world.worker(), token=TOKEN)
    for answer in (
        page.get("/"),
        page.get("/login"),
        page.client.post("/login", data={"token": "x"}),
        page.client.post("/logout"),
        page.get("/", headers={"host": "evil.example"}),
    ):
        assert headers_of(answer) == HEADERS


def test_an_error_that_nobody_foresaw_has_them_and_tells_nothing(world: World) -> None:
    def broken(_: Any) -> Viewer:
        raise ValueError("the password is hunter2")

    app = create_app(world.worker(), login=broken)
    client = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
    answer = client.get("/")
    assert answer.status_code == 500
    assert "hunter2" not in answer.text
    assert headers_of(answer) == HEADERS


def test_static_files_are_kept_and_guarded(world: World, visit: Visit) -> None:
    page = visit(world.worker(), token=TOKEN)
    link = re.search(r'href="(/static/style\.css\?v=\w+)"', page.see("/login"))
    assert link
    answer = page.get(link[1])
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert page.get("/static/%2e%2e/app.py").status_code == 404


HOSTS = ["localhost", "localhost:5556", "127.0.0.1:5556", "[::1]:5556", "192.168.1.7"]
OTHERS = ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "", "[::1", "a b"]


@pytest.mark.parametrize("host", [*HOSTS, "DURABLE.example.com", "durable.example.com:443"])
def test_a_host_that_is_ours_is_answered(world: World, visit: Visit, host: str) -> None:
    page = visit(world.worker(web_hosts=["durable.example.com"]))
    assert page.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", OTHERS)
def test_a_name_that_is_not_ours_is_refused(world: World, visit: Visit, host: str) -> None:
    page = visit(world.worker(web_hosts=["durable.example.com"]))
    answer = page.get("/", headers={"host": host})
    assert answer.status_code == 400
    assert "durable_web_hosts" in answer.text


def test_the_hosts_of_the_call_go_before_the_setting_and_a_star_is_all(
    world: World, visit: Visit
) -> None:
    durable = world.worker(web_hosts=["durable.example.com"])
    for hosts, status in ((["shop.example.com"], 200), (["*"], 200), ([], 400)):
        page = visit(durable, hosts=hosts)
        assert page.get("/", headers={"host": "shop.example.com"}).status_code == status


def started(world: World, visit: Visit) -> tuple[SomeoneAt, str, Any]:
    """An operator, where a run is cancelled, and the run."""
    durable = world.worker(defining([], "a"))
    run = durable.start("w")
    return visit(durable), f"/runs/{run.id}/actions/cancel", run


@pytest.mark.parametrize("token", [None, "", "0" * 64])
def test_a_form_without_the_sessions_token_does_nothing(
    world: World, visit: Visit, token: str | None
) -> None:
    page, path, run = started(world, visit)
    page.see("/")
    data = {} if token is None else {"csrf_token": token}
    answer = page.client.post(path, data=data)
    assert answer.status_code == 403
    assert "no longer good" in answer.text
    assert world.status(run) == "running"


def test_a_forms_token_is_of_one_session_and_of_one_viewer(world: World, visit: Visit) -> None:
    page, path, run = started(world, visit)
    other = SomeoneAt(
        TestClient(page.client.app, base_url="http://localhost", follow_redirects=False)
    )
    stolen = {"csrf_token": other.csrf_token}
    page.see("/")
    assert page.client.post(path, data=stolen).status_code == 403
    name, value = next(iter(other.client.cookies.items()))
    page.client.cookies.clear()
    page.client.cookies.set(name, value)
    page.name = "ben"
    assert page.client.post(path, data={"csrf_token": page.csrf_token}).status_code == 403
    page.client.cookies.clear()
    assert page.client.post(path, data=stolen).status_code == 403, "without a cookie"
    assert world.status(run) == "running"


FROM_ELSEWHERE = [
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"origin": "https://evil.example"},
    {"origin": "http://localhost:8000"},
    {"origin": "null"},
    {"origin": "http://["},
    {"origin": "http://localhost", "sec-fetch-site": "cross-site"},
]
FROM_HERE = [
    {},
    {"origin": "http://localhost"},
    {"origin": "https://localhost"},
    {"sec-fetch-site": "same-origin", "origin": "http://elsewhere"},
]


@pytest.mark.parametrize("headers", FROM_ELSEWHERE)
def test_a_form_of_another_origin_does_nothing(
    world: World, visit: Visit, headers: dict[str, str]
) -> None:
    page, path, run = started(world, visit)
    answer = page.post(path, headers=headers)
    assert answer.status_code == 403
    assert "another origin" in answer.text
    assert world.status(run) == "running"


@pytest.mark.parametrize("headers", FROM_HERE)
def test_a_form_of_ours_is_taken(world: World, visit: Visit, headers: dict[str, str]) -> None:
    page, path, run = started(world, visit)
    assert page.post(path, headers=headers).status_code == 303
    assert world.status(run) == "cancelled"


def test_a_get_does_nothing(world: World, visit: Visit) -> None:
    page, path, run = started(world, visit)
    before = world.counts()
    assert page.get(f"{path}?compensate=yes&csrf_token={page.csrf_token}").status_code == 200
    page.get("/pauses/pause?workflow=w")
    assert page.get("/logout").status_code == 405
    assert world.counts() == before
    assert world.status(run) == "running"


def test_a_form_that_is_too_long_is_not_read_to_its_end(world: World, visit: Visit) -> None:
    durable = world.worker(defining([], "a"), max_payload_bytes=1000)
    page = visit(durable)
    path = f"/runs/{durable.start('w').id}/actions/resume"
    answer = page.post(path, {"signal": "s", "data": "x" * 100_000})
    assert answer.status_code == 413
    page = visit(durable, token=TOKEN)
    assert page.client.post("/login", data={"token": "x" * 100_000}).status_code == 413


CHARSETS = {
    "utf-7": b"a+2AA-b",  # half of a character
    "undefined": b"a",
    "utf-8": b"a\0b",
}


@pytest.mark.parametrize("charset", CHARSETS)
def test_a_form_that_is_no_text_is_refused(world: World, visit: Visit, charset: str) -> None:
    page, path, run = started(world, visit)
    parts = {"csrf_token": page.csrf_token.encode(), "reason": CHARSETS[charset]}
    lines = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), text)
        for name, text in parts.items()
    )
    headers = {"content-type": f"multipart/form-data; boundary=x; charset={charset}"}
    for there in (path, "/logout"):
        answer = page.client.post(there, content=lines + b"--x--\r\n", headers=headers)
        assert answer.status_code == 400
    assert world.status(run) == "running"


NUL = ["/%00", "/runs?key=%00", "/runs?workflow=a%00b", "/search?q=%00"]


@pytest.mark.parametrize("path", NUL)
def test_an_address_with_nul_is_refused(world: World, visit: Visit, path: str) -> None:
    answer = visit(world.worker()).get(path)
    assert (answer.status_code, headers_of(answer)) == (400, HEADERS)


@pytest.mark.parametrize("rest", ["unit.json?unit=%00", f"signals/{'9' * 5_000}.json"])
def test_what_cannot_be_there_is_not_there(world: World, visit: Visit, rest: str) -> None:
    page, _, run = started(world, visit)
    assert page.get(f"/runs/{run.id}/{rest}").status_code in {400, 404}
    assert page.get(f"/runs/{run.id}/signals/{'9' * 19}.json").status_code == 404
    assert page.get(f"/runs/{run.id}/signals/{'9' * 18}.json").status_code == 404


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_a_viewer_whose_name_is_no_text_is_not_let_in(
    world: World, visit: Visit, name: str
) -> None:
    page = visit(world.worker(), login=lambda _: Viewer(name))
    answer = page.get("/approvals?mine=1")
    assert answer.status_code == 403
    page = visit(world.worker(), token=TOKEN)
    answer = page.client.post("/login", content=b"token=x&name=a%00b", headers=FORM)
    assert answer.status_code == 400


FORM = {"content-type": "application/x-www-form-urlencoded"}


def test_a_file_is_not_taken(world: World, visit: Visit) -> None:
    page, path, run = started(world, visit)
    data = {"csrf_token": page.csrf_token}
    answer = page.client.post(path, data=data, files={"reason": ("a.txt", b"x")})
    assert answer.status_code == 400
    assert world.status(run) == "running"


STANDS_ALONE = "link.html"
"""What a signed link shows wherever it is mounted; its policy has the digest of its style."""

TEMPLATES = sorted(
    path
    for path in (Path(celery_durable.web.__file__).parent / "templates").glob("*.html")
    if path.name != STANDS_ALONE
)


class Inline(HTMLParser):
    """What a page has in itself that the policy would refuse, or that leads to another origin."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "style" or (tag == "script" and "src" not in values):
            self.found.append(tag)
        for name, value in attrs:
            if re.fullmatch("on[a-z]+", name) or name == "style":
                self.found.append(name)
            if name in {"src", "href", "action"} and "//" in (value or ""):
                self.found.append(str(value))


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_no_template_has_a_script_or_a_style_in_it_or_names_another_origin(template: Path) -> None:
    parser = Inline()
    text = template.read_text(encoding="utf-8")
    parser.feed(text)
    assert parser.found == []
    assert "| safe" not in text
    assert "|safe" not in text
