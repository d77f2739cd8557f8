"""A signed link asks for an answer, and gives it once: by POST, while the wait is open."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal
from urllib.parse import urlencode, urljoin

import pytest
from pydantic import BaseModel, Field, field_validator
from starlette.testclient import TestClient

from celery_durable import ConfigurationError, Durable
from celery_durable.run import Run
from celery_durable.web import callbacks_app, callbacks_wsgi, create_app
from celery_durable.web.callbacks import FORM, LinkRequest, respond
from celery_durable.workflow.callbacks import Callback, read, signed
from tests.integration.driving import World, all_at_once, make_durable
from tests.services import PostgresServer
from tests.web.reading import read as read_page

SECRET = "a secret of the tests"
URL = "http://localhost"
LINKS: dict[str, Any] = {"web_secret": SECRET, "web_url": URL}


class Approval(BaseModel):
    """Says whether the order may go out."""

    ok: bool
    amount: int = Field(ge=1, description="In euros")
    note: str = ""


class Nothing(BaseModel):
    ok: bool


class Shop:
    """A workflow that makes a link in `ask` and waits in `signoff`, and a run of it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.link: dict[str, Any] = {}
        self.waits: dict[str, Any] = {"schema": Approval}
        self.signals = ["signoff"]
        self.settings: dict[str, Any] = dict(LINKS)

    def define(self, durable: Durable) -> None:
        workflow = durable.workflow("order")
        workflow.step(lambda ctx: ctx.callback_url("signoff", **self.link), name="ask")
        for name in self.signals:
            workflow.wait_for_signal(name, "signoff", **self.waits)
        workflow.step(lambda _: "sent", name="send")

    def start(self, *, drain: bool = True) -> tuple[Durable, Run, str]:
        """A worker, a run that waits, and the path of its link."""
        worker = self.world.worker(self.define, **self.settings)
        run = worker.start("order", key="order-42")
        if drain:
            self.world.drain(worker)
        return worker, run, self.path(run) if drain else ""

    def path(self, run: Run) -> str:
        """The path of the link that the run has made."""
        return str(run.status().results["ask"]).removeprefix(URL)


@pytest.fixture
def shop(world: World) -> Shop:
    return Shop(world)


class Opened:
    """What was sent back, whatever the server."""

    def __init__(self, status: int, text: str, headers: dict[str, str]) -> None:
        self.status = status
        self.text = text
        self.headers = {name.lower(): value for name, value in headers.items()}


Open = Callable[..., Opened]
"""Opens a path, or sends a form, and goes where it is led."""

Form = dict[str, str] | None


def by_asgi(stack: ExitStack, app: Any) -> Open:
    client = stack.enter_context(TestClient(app, base_url=URL, follow_redirects=False))

    def opened(path: str, form: Form = None, method: str | None = None, **more: Any) -> Opened:
        method = method or ("GET" if form is None else "POST")
        found = client.request(method, path, data=form, **more)
        if found.status_code == 303 and method == "POST":
            found = client.get(urljoin(path, found.headers["location"]))
        return Opened(found.status_code, found.text, dict(found.headers))

    return opened


def by_wsgi(_: ExitStack, app: Any) -> Open:
    def opened(path: str, form: Form = None, method: str | None = None, **more: Any) -> Opened:
        body = more.get("content", urlencode(form or {}).encode())
        where, _, query = path.partition("?")
        environ = {
            "REQUEST_METHOD": method or ("GET" if form is None else "POST"),
            "PATH_INFO": where,
            "QUERY_STRING": query,
            "CONTENT_LENGTH": str(len(body)),
            "CONTENT_TYPE": more.get("headers", {"content-type": FORM})["content-type"],
            "wsgi.input": io.BytesIO(body),
            "REMOTE_ADDR": "10.0.0.1",
            **more.get("environ", {}),
        }
        started: list[Any] = []
        text = b"".join(app(environ, lambda *given: started.append(given))).decode()
        ((status, headers),) = started
        if status.startswith("303"):
            return opened(urljoin(path, dict(headers)["Location"]))
        return Opened(int(status.split()[0]), text, dict(headers))

    return opened


SERVERS = {
    "the page": lambda stack, durable: by_asgi(stack, create_app(durable, token="x" * 20)),
    "ASGI": lambda stack, durable: by_asgi(stack, callbacks_app(durable)),
    "WSGI": lambda stack, durable: by_wsgi(stack, callbacks_wsgi(durable)),
}


@pytest.fixture(params=SERVERS)
def serve(request: pytest.FixtureRequest) -> Iterator[Callable[[Durable], Open]]:
    with ExitStack() as stack:
        yield lambda durable: SERVERS[request.param](stack, durable)


@pytest.fixture
def serve_one() -> Iterator[Callable[[Durable], Open]]:
    with ExitStack() as stack:
        yield lambda durable: SERVERS["ASGI"](stack, durable)


def text_of(path: str) -> str:
    """The text of a link."""
    return path.rpartition("/")[2]


SENT = {"sent": "1"}
RIGHT = {**SENT, "data.ok": "yes", "data.amount": "7"}


def test_a_link_opens_a_form_and_the_form_answers(
    shop: Shop, world: World, serve: Callable[[Durable], Open]
) -> None:
    worker, run, path = shop.start()
    visit = serve(worker)
    opened = visit(path)
    assert opened.status == 200
    for text in ("Approval", "Says whether the order may go out.", "order-42", "In euros"):
        assert text in opened.text
    sent = visit(path, RIGHT)
    assert sent.status == 200
    assert "Thank you: this is answered." in sent.text
    world.drain(worker)
    assert run.result(0)["signoff"] == Approval(ok=True, amount=7)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_opening_a_link_answers_nothing(
    shop: Shop, world: World, serve: Callable[[Durable], Open], method: str
) -> None:
    """A scanner of mails opens every link."""
    shop.link = {"data": {"ok": True, "amount": 1}}
    worker, _, path = shop.start()
    assert serve(worker)(path, method=method).status == 200
    assert respond(worker, LinkRequest(method, text_of(path), b"sent=1")).status == 200
    assert world.counts()["inbox"] == 0


@pytest.mark.parametrize("body", [b"", b"data.ok=yes", b'{"data.ok": "yes"}'])
def test_only_the_form_of_the_page_answers(shop: Shop, world: World, body: bytes) -> None:
    """A box that is not ticked is sent by saying nothing: so says any POST."""
    shop.waits = {"schema": Nothing}
    worker, _, path = shop.start()
    answer = respond(worker, LinkRequest("POST", text_of(path), body))
    assert answer.status == 400
    assert "Nothing was answered: open the link, and send the form" in answer.html
    assert world.counts()["inbox"] == 0


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS"])
def test_no_other_method_answers(
    shop: Shop, world: World, serve: Callable[[Durable], Open], method: str
) -> None:
    worker, _, path = shop.start()
    # The page has other routes, behind its login.
    assert serve(worker)(path, RIGHT, method=method).status in (303, 403, 405)
    assert world.counts()["inbox"] == 0


def test_a_link_with_its_answer_asks_whether_to_give_it(
    shop: Shop, world: World, serve: Callable[[Durable], Open]
) -> None:
    shop.link = {"data": {"ok": False, "amount": 3}}
    worker, run, path = shop.start()
    visit = serve(worker)
    text = visit(path).text
    assert "Confirm" in text
    assert "Amount" in text
    assert "data.ok" not in text
    # What the form says does not matter: the link has said it.
    assert visit(path, RIGHT).status == 200
    world.drain(worker)
    assert run.result(0)["signoff"] == Approval(ok=False, amount=3)


def test_what_does_not_fit_is_shown_beside_its_field_and_nothing_is_sent(
    shop: Shop, world: World, serve: Callable[[Durable], Open]
) -> None:
    worker, _, path = shop.start()
    sent = serve(worker)(path, {**RIGHT, "data.amount": "0", "data.note": "<b>hm</b>"})
    assert sent.status == 400
    assert 'id="data.amount-error">Input should be greater than or equal to 1</p>' in sent.text
    assert 'value="0"' in sent.text
    assert 'value="&lt;b&gt;hm&lt;/b&gt;"' in sent.text
    assert '<option value="yes" selected>' in sent.text
    assert world.counts()["inbox"] == 0


def test_a_second_use_says_that_it_was_answered_and_when(
    shop: Shop, world: World, serve: Callable[[Durable], Open]
) -> None:
    worker, run, path = shop.start()
    visit = serve(worker)
    visit(path, RIGHT)
    at = world.one("SELECT created_at FROM durable_inbox")
    for again in (visit(path), visit(path, {**RIGHT, "data.amount": "8"})):
        assert again.status == 200
        assert "This was answered already." in again.text
        assert f'<time datetime="{at:%Y-%m-%dT%H:%M}' in again.text
    world.drain(worker)
    assert run.result(0)["signoff"] == Approval(ok=True, amount=7)
    assert "answered" in visit(path).text.lower() or "The run has ended" in visit(path).text


def test_of_two_links_for_one_wait_one_answers(
    shop: Shop, world: World, serve_one: Callable[[Durable], Open]
) -> None:
    """The links to approve and to reject are two."""
    worker, run, path = shop.start()
    visit = serve_one(worker)
    link = read_of(path)
    yes = link_to(replace(link, data='{"ok":true,"amount":1}'))
    no = link_to(replace(link, data='{"ok":false,"amount":1}'))
    assert "Thank you" in visit(yes, SENT).text
    assert "answered already" in visit(no, SENT).text
    world.drain(worker)
    assert run.result(0)["signoff"].ok is True


def link_to(callback: Callback) -> str:
    """The path of a link that the library could have made."""
    return f"/callback/{signed(callback, SECRET)}"


def read_of(path: str) -> Callback:
    found = read(path.rpartition("/")[2], SECRET)
    assert found is not None
    return found


def test_of_many_answers_at_once_one_counts(shop: Shop, world: World) -> None:
    worker, run, path = shop.start()

    def post(amount: int) -> Callable[[], Any]:
        body = urlencode({**RIGHT, "data.amount": str(amount)}).encode()
        return lambda: respond(worker, LinkRequest("POST", text_of(path), body))

    answers = all_at_once([post(amount) for amount in range(1, 9)])
    assert sum(one.status == 303 for one in answers) == 1
    assert sum("answered already" in one.html for one in answers) == 7
    assert world.counts()["inbox"] == 1
    world.drain(worker)
    assert run.result(0)["send"] == "sent"


def test_an_answer_given_elsewhere_closes_the_link(
    shop: Shop, world: World, serve_one: Callable[[Durable], Open]
) -> None:
    shop.signals = ["first", "second"]
    worker, run, path = shop.start()
    visit = serve_one(worker)
    run.resume("signoff", {"ok": True, "amount": 1})
    assert "answered already" in visit(path, RIGHT).text  # it waits in the inbox still
    world.drain(worker)
    assert run.status().current == ("second",) or "second" in run.status().current
    assert "answered already" in visit(path, RIGHT).text
    assert world.one("SELECT count(*) FROM durable_inbox WHERE consumed_by IS NULL") == 0


def test_a_link_works_before_the_run_has_come_to_the_wait(
    shop: Shop, world: World, serve_one: Callable[[Durable], Open]
) -> None:
    """The answer is kept, as any signal is that comes early."""

    def define(durable: Durable) -> None:
        workflow = durable.workflow("order")
        workflow.step(lambda ctx: ctx.callback_url("signoff"), name="ask").sleep("rest", 60)
        workflow.wait_for_signal("signoff", schema=Approval)

    worker = world.worker(define, **LINKS)
    run = worker.start("order")
    world.drain(worker)
    assert "Thank you" in serve_one(worker)(shop.path(run), RIGHT).text
    world.let_time_pass(61)
    world.drain(worker)
    assert run.result(0)["signoff"] == Approval(ok=True, amount=7)


def test_a_link_is_good_as_long_as_it_says(
    shop: Shop, world: World, serve: Callable[[Durable], Open]
) -> None:
    shop.link = {"expires": timedelta(hours=1)}
    worker, _, path = shop.start()
    visit = serve(worker)
    assert visit(path).status == 200
    link = read_of(path)
    assert link.expires_at is not None
    late = replace(link, expires_at=link.expires_at - timedelta(hours=1, seconds=1))
    expired = link_to(late)
    for opened in (visit(expired), visit(expired, RIGHT)):
        assert opened.status == 410
        assert "The link has expired." in opened.text
    assert world.counts()["inbox"] == 0


def cancelled(world: World, worker: Durable, run: Run) -> None:
    run.cancel()


def timed_out(world: World, worker: Durable, run: Run) -> None:
    world.let_time_pass(61)
    world.drain(worker)


def pruned(world: World, worker: Durable, run: Run) -> None:
    run.cancel()
    world.rows("UPDATE durable_run SET finished_at = finished_at - interval '1 day'")
    worker.prune(older_than=60)


@pytest.mark.parametrize(
    ("end", "says"),
    [
        (cancelled, "The run has ended, cancelled."),
        (timed_out, "The run has gone on: it does not wait for this any more."),
        (pruned, "The run is not there any more."),
    ],
)
def test_a_link_is_over_with_its_wait_and_with_its_run(
    shop: Shop,
    world: World,
    serve_one: Callable[[Durable], Open],
    end: Callable[[World, Durable, Run], None],
    says: str,
) -> None:
    shop.signals = ["first", "second"]
    shop.waits = {"timeout": 60, "on_timeout": "continue"}
    worker, run, path = shop.start()
    end(world, worker, run)
    visit = serve_one(worker)
    for opened in (visit(path), visit(path, {**SENT, "data": "1"})):
        assert opened.status == 410
        assert says in opened.text
    assert world.counts()["inbox"] == 0


def test_a_link_of_a_run_that_is_rolled_back_answers_nothing(
    world: World, serve_one: Callable[[Durable], Open]
) -> None:
    def define(durable: Durable) -> None:
        ask = durable.step(lambda ctx: ctx.callback_url("go"), name="ask", compensate=never)
        durable.workflow("order").step(ask).wait_for_signal("go", timeout=60)

    def never(_: Any) -> None:
        raise ValueError("not yet")

    worker = world.worker(define, **LINKS)
    run = worker.start("order")
    world.drain(worker)
    path = Shop(world).path(run)
    world.let_time_pass(61)
    world.drain(worker)
    assert run.status().status == "compensating"
    assert serve_one(worker)(path, {**SENT, "data": "1"}).status == 410


def test_a_link_with_a_key_is_for_whichever_wait_comes(
    shop: Shop, world: World, serve_one: Callable[[Durable], Open]
) -> None:
    """Two people answer one wait each, by links that were made at once."""
    shop.signals, shop.link = ["first", "second"], {"key": "ann"}
    worker, run, path = shop.start()
    visit = serve_one(worker)
    bobs = link_to(replace(read_of(path), key="bob", unit=None))
    for one in (bobs, path):
        assert "Thank you" in visit(one, RIGHT).text
        assert "answered already" in visit(one, RIGHT).text
    world.drain(worker)
    assert run.status().status == "completed"


@pytest.mark.parametrize("text", ["x", "a.b", "%00", "a%2fb", "é", "A" * 5_000])
def test_a_wrong_link_is_refused_and_logged(
    shop: Shop,
    serve: Callable[[Durable], Open],
    text: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker, _, _ = shop.start()
    visit = serve(worker)
    with caplog.at_level(logging.WARNING, logger="celery_durable.web.callbacks"):
        opened = visit(f"/callback/{text}", RIGHT)
    if "%2f" in text:
        assert opened.status in (303, 403, 404)
    else:
        assert opened.status == 404
        assert "This link is not right." in opened.text
        assert any("A link with a wrong signature was opened from" in m for m in caplog.messages)


def test_a_link_of_another_run_with_this_ones_signature_is_refused(
    shop: Shop, world: World, serve_one: Callable[[Durable], Open]
) -> None:
    worker, _, path = shop.start()
    other = worker.start("order", key="order-43")
    world.drain(worker)
    body = shop.path(other).rpartition("/")[2].split(".")[0]
    signature = path.rpartition(".")[2]
    visit = serve_one(worker)
    assert visit(f"/callback/{body}.{signature}", RIGHT).status == 404
    assert world.counts()["inbox"] == 0


def test_a_replayed_answer_of_one_run_does_nothing_to_another(
    shop: Shop, world: World, serve_one: Callable[[Durable], Open]
) -> None:
    worker, _, path = shop.start()
    other = worker.start("order", key="order-43")
    world.drain(worker)
    visit = serve_one(worker)
    for _ in range(3):
        visit(path, RIGHT)
    world.drain(worker)
    assert other.status().awaiting_signal == "signoff"


def test_the_page_of_a_link_keeps_to_itself(shop: Shop, serve: Callable[[Durable], Open]) -> None:
    worker, _, path = shop.start()
    headers = serve(worker)(path).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe-inline" not in policy
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert headers["x-frame-options"] == "DENY"
    assert "set-cookie" not in headers


def test_a_form_that_is_too_long_is_refused(
    shop: Shop, world: World, serve: Callable[[Durable], Open]
) -> None:
    shop.settings["max_payload_bytes"] = 400
    worker, _, path = shop.start()
    sent = serve(worker)(path, {**RIGHT, "data.note": "x" * 70_000})
    assert sent.status == 413
    assert world.counts()["inbox"] == 0


def test_without_the_secret_nothing_is_served_and_it_is_said_what_to_set(world: World) -> None:
    durable = world.worker()
    for make in (callbacks_app, callbacks_wsgi):
        with pytest.raises(ConfigurationError, match="without the setting durable_web_secret"):
            make(durable)


def test_a_wait_without_a_schema_takes_json(
    shop: Shop, world: World, serve_one: Callable[[Durable], Open]
) -> None:
    shop.waits = {}
    worker, run, path = shop.start()
    visit = serve_one(worker)
    assert "This is no JSON" in visit(path, {**SENT, "data": "{"}).text
    visit(path, {**SENT, "data": '{"__type__": "uuid", "__value__": 1}'})
    world.drain(worker)
    assert run.result(0)["signoff"] == {"__type__": "uuid", "__value__": 1}


def test_a_page_that_does_not_import_the_app_asks_by_the_stored_schema(
    shop: Shop, world: World, serve_one: Callable[[Durable], Open]
) -> None:
    worker, run, path = shop.start()
    stranger = world.worker(**LINKS)
    visit = serve_one(stranger)
    names = re.findall(r'name="(data\.\w+)"', visit(path).text)
    assert names == ["data.ok", "data.amount", "data.note"]
    assert "Thank you" in visit(path, RIGHT).text
    world.drain(worker)
    assert run.result(0)["signoff"] == Approval(ok=True, amount=7)


def test_a_page_that_does_not_import_the_app_holds_an_answer_against_the_bounds_of_the_schema(
    shop: Shop, world: World, serve_one: Callable[[Durable], Open]
) -> None:
    _, _, path = shop.start()
    sent = serve_one(world.worker(**LINKS))(path, {**RIGHT, "data.amount": "0"})
    assert sent.status == 400
    assert 'id="data.amount-error">This has to be 1 or more.</p>' in sent.text
    assert world.counts()["inbox"] == 0


class Polite(BaseModel):
    note: str

    @field_validator("note")
    @classmethod
    def is_polite(cls, note: str) -> str:
        assert note != "no", "say why"
        return note


def test_what_slips_past_such_a_page_is_refused_by_the_run_and_asked_again(
    shop: Shop, world: World, serve_one: Callable[[Durable], Open]
) -> None:
    shop.waits = {"schema": Polite}
    worker, run, path = shop.start()
    visit = serve_one(world.worker(**LINKS))
    assert "Thank you" in visit(path, {**SENT, "data.note": "no"}).text
    world.drain(worker)
    assert run.status().awaiting_signal == "signoff"
    assert "Thank you" in visit(path, {**SENT, "data.note": "yes"}).text
    world.drain(worker)
    assert run.status().status == "completed"


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data", "text/plain"])
def test_what_is_no_form_is_said_to_answer_nothing(
    shop: Shop, world: World, serve: Callable[[Durable], Open], content_type: str
) -> None:
    worker, _, path = shop.start()
    headers = {"content-type": content_type}
    sent = serve(worker)(path, method="POST", content=b'{"sent": "1", "ok": true}', headers=headers)
    assert sent.status == 415
    assert "Nothing was answered: open the link, and send the form" in sent.text
    assert world.counts()["inbox"] == 0


@pytest.mark.parametrize(
    ("environ", "status"),
    [
        ({"CONTENT_LENGTH": ""}, 411),
        ({"CONTENT_LENGTH": "", "wsgi.input_terminated": True}, 200),
        ({"CONTENT_LENGTH": "1" * 5_000}, 413),
    ],
)
def test_a_body_without_a_length_is_read_where_its_end_is_known(
    shop: Shop, world: World, environ: dict[str, Any], status: int
) -> None:
    shop.settings["max_payload_bytes"] = 400
    worker, _, path = shop.start()
    with ExitStack() as stack:
        filler = {"x": "x" * 70_000} if status == 413 else {}
        sent = SERVERS["WSGI"](stack, worker)(path, {**RIGHT, **filler}, environ=environ)
    assert sent.status == status
    assert world.counts()["inbox"] == int(status == 200)


def test_without_tables_it_is_said_that_it_does_not_work_now(
    shop: Shop, postgres: PostgresServer
) -> None:
    _, _, path = shop.start()
    with postgres.database("durable_test_empty") as name:
        stranger = make_durable(postgres.url(name), **LINKS)
        found = respond(stranger, LinkRequest("GET", text_of(path)))
        stranger.database.close()
    assert found.status == 503
    assert "This does not work now." in found.html


def test_who_answers_late_is_told_when_the_deadline_has_passed(
    shop: Shop, world: World, serve_one: Callable[[Durable], Open]
) -> None:
    shop.waits = {"schema": Approval, "timeout": 60}
    worker, run, path = shop.start()
    world.let_time_pass(61)
    world.drain(worker)
    assert run.status().status == "failed"
    at = world.one("SELECT finished_at FROM durable_journal WHERE unit = 'signoff'")
    late = serve_one(worker)(path, RIGHT)
    assert late.status == 410
    assert "The deadline has passed: nobody answered in time." in late.text
    assert f'<time datetime="{at:%Y-%m-%dT%H:%M}' in late.text


class Choice(BaseModel):
    ok: bool = Field(title="May it go out?")
    way: Literal["by post", "by bike"] = "by post"
    to: Nothing | None = None


def test_a_link_with_its_answer_says_it_with_the_labels_of_the_form(
    shop: Shop, serve_one: Callable[[Durable], Open]
) -> None:
    shop.waits = {"schema": Choice}
    shop.link = {"data": Choice(ok=False, way="by bike", to=Nothing(ok=True))}
    worker, _, path = shop.start()
    page = read_page(serve_one(worker)(path).text)
    said = [one.text for one in (*page.all("dt"), *page.all("dd"))]
    for text in ("May it go out?", "no", "Way", "by bike", "To: Ok", "yes"):
        assert text in said
