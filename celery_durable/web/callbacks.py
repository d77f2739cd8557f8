"""Signed links: the page that one opens, as ASGI, WSGI, and for other frameworks.

Whoever has a link may answer: its signature is the authority, and no login or cookie is asked for,
so that no other site can make use of one. Opening a link shows what is asked, and answers nothing:
programs open the links in mails, too. Only a POST answers.
"""

from __future__ import annotations

import hashlib
import logging
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from celery_durable.durable import Durable
from celery_durable.errors import ConfigurationError, DatabaseUnavailable, SchemaOutOfDate
from celery_durable.web.answering import Closed, Question, answer, question
from celery_durable.web.render import STATIC, durable, environment
from celery_durable.workflow.callbacks import PATH, Callback, read

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger(__name__)

METHODS = ("GET", "HEAD", "POST")

SPARE_BYTES, MOST_FIELDS = 64 * 1024, 1_000
"""Of a form, beside the payload that it carries."""

SENT = "sent"
"""The field by which the page's own form is told from any other POST."""

ACTOR = "a link"
"""Who answers by one, as far as is known."""

FORM = "application/x-www-form-urlencoded"

ANSWERED = "answered"
"""The query of a link that its own form has just answered."""

NOT_SENT = "Nothing was answered: open the link, and send the form that it shows."


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back for a request of a link, whatever the framework."""

    status: int
    html: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class LinkRequest:
    """A request of the link `text`. `body` is that of a POST, a form; `address` is for logs.

    `content_type` and `query` are as the request has them.
    """

    method: str
    text: str
    body: bytes = b""
    address: str = "unknown"
    content_type: str = FORM
    query: str = ""


def respond(durable: Durable, request: LinkRequest) -> Answer:
    """Answer a request of a link.

    Raises `ConfigurationError` if `durable_web_secret` is not set.
    """
    if request.method not in METHODS:
        return _closed(405, "A link is opened, and its form is sent.")
    try:
        return _respond(durable, request)
    except (DatabaseUnavailable, SchemaOutOfDate):
        logger.exception("A link could not be looked up")
        return _closed(503, "This does not work now. Try again in a minute.")


def _respond(durable: Durable, request: LinkRequest) -> Answer:
    callback = _read(durable, request.text)
    if callback is None:
        logger.warning("A link with a wrong signature was opened from %s", request.address)
        return _closed(404, "This link is not right. Copy it from the message again, all of it.")
    if request.method != "POST":
        found = question(durable, callback)
        if request.query == ANSWERED and isinstance(found, Closed):
            found = found.thanks
        return _shown(found)
    if request.content_type.partition(";")[0].strip().lower() != FORM:
        return _closed(415, NOT_SENT)
    return _respond_to_form(durable, callback, request)


def _respond_to_form(durable: Durable, callback: Callback, request: LinkRequest) -> Answer:
    form = _form(request.body, longest_of(durable))
    if form is None:
        return _closed(413, "This is too long.")
    if SENT not in form:  # a box that is not ticked is sent by saying nothing
        return _closed(400, NOT_SENT)
    answered = answer(durable, callback, form, ACTOR)
    if isinstance(answered, Closed) and answered.is_new:
        # What is shown for a GET is shown again when somebody comes back to it.
        return Answer(303, "", {**_headers(), "Location": f"{quote(request.text)}?{ANSWERED}"})
    return _shown(answered)


def _read(durable: Durable, text: str) -> Callback | None:
    secret = durable.settings.web_secret
    if secret is None:
        raise ConfigurationError(
            "Links cannot be checked without the setting durable_web_secret: set it as it is in the"
            " workers, whose ctx.callback_url makes the links."
        )
    return read(text, secret)


def longest_of(durable: Durable) -> int:
    """The most bytes of a form: a character of the payload may be written as %XX."""
    return 3 * durable.settings.max_payload_bytes + SPARE_BYTES


def _form(body: bytes, longest: int) -> Mapping[str, str] | None:
    if len(body) > longest:
        return None
    try:
        return dict(
            parse_qsl(
                body.decode(errors="replace"), keep_blank_values=True, max_num_fields=MOST_FIELDS
            )
        )
    except ValueError:
        return None


def _shown(found: Question | Closed) -> Answer:
    if isinstance(found, Question):
        return _page(400 if found.errors else 200, "link.html", asked=found)
    return _page(200 if found.is_answered else 410, "link.html", over=found)


def _closed(status: int, text: str) -> Answer:
    return _page(status, "link.html", over=Closed(text))


def _page(status: int, template: str, **values: Any) -> Answer:
    shown: dict[str, Any] = {"asked": None, "over": None, "style": _style(), **values}
    return Answer(status, environment.get_template(template).render(shown), _headers())


@cache
def _style() -> str:
    """The look of the pages, in the page itself: it is all that a link needs."""
    return (STATIC / "style.css").read_text()


@cache
def _headers() -> Mapping[str, str]:
    """The headers of a page that has its style in it, known by its hash, and no script.

    The address is a secret: it is neither kept nor told to others.
    """
    digest = b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    return {
        "Content-Security-Policy": (
            f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self';"
            " frame-ancestors 'none'; base-uri 'none'"
        ),
        "Content-Type": "text/html; charset=utf-8",
        "X-Frame-Options": "DENY",
        "X-Content-Type-Options": "nosniff",
        "X-Robots-Tag": "noindex, nofollow",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }


async def callback(request: Request) -> Response:
    """Answer a request of a link in Starlette."""
    found = durable(request)
    body = await _body(request, longest_of(found))
    said = LinkRequest(
        request.method,
        request.path_params["text"],
        body,
        request.client.host if request.client else "unknown",
        request.headers.get("content-type", ""),
        request.url.query,
    )
    made = await run_in_threadpool(respond, found, said)
    return Response(made.html, made.status, headers=dict(made.headers))


async def _body(request: Request, longest: int) -> bytes:
    """The body, or so much of it that it is seen to be too long."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > longest:
            break
    return bytes(body)


open_routes: Sequence[BaseRoute] = [
    Route(f"/{PATH}/{{text}}", callback, methods=[*METHODS], name="callback")
]


def callbacks_app(durable: Durable) -> Starlette:
    """Make an ASGI application that serves links alone, to be mounted at `durable_web_url`.

    It has no login, and shows nothing but what a link asks. Raises `ConfigurationError` if
    `durable_web_secret` is not set.
    """
    _read(durable, "")
    app = Starlette(routes=open_routes)
    app.state.durable = durable
    return app


def callbacks_wsgi(durable: Durable) -> WSGIApplication:
    """Make the same application for WSGI servers, and for frameworks that mount WSGI."""
    _read(durable, "")

    def application(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        made = _respond_wsgi(durable, environ)
        start(f"{made.status} {HTTPStatus(made.status).phrase}", [*made.headers.items()])
        is_head = environ.get("REQUEST_METHOD") == "HEAD"
        return [b"" if is_head else made.html.encode()]

    return application


def _respond_wsgi(durable: Durable, environ: Mapping[str, Any]) -> Answer:
    path = str(environ.get("PATH_INFO", "")).strip("/")
    folder, _, text = path.rpartition("/")
    if folder != PATH:
        return _closed(404, "There is no such page.")
    method = str(environ["REQUEST_METHOD"])
    body = _wsgi_body(environ, longest_of(durable)) if method == "POST" else b""
    if body is None:
        return _closed(411, f"{NOT_SENT} It has to say how long it is.")
    said = LinkRequest(
        method,
        unquote(text),
        body,
        str(environ.get("REMOTE_ADDR") or "unknown"),
        str(environ.get("CONTENT_TYPE") or ""),
        str(environ.get("QUERY_STRING") or ""),
    )
    return respond(durable, said)


def _wsgi_body(environ: Mapping[str, Any], longest: int) -> bytes | None:
    """The body, or so much of it that it is seen to be too long; None if its end is not known."""
    read_body: Callable[[int], bytes] = environ["wsgi.input"].read
    size = str(environ.get("CONTENT_LENGTH") or "")
    if size.isdecimal() and size.isascii():
        return read_body(
            longest + 1 if len(size) > len(str(longest)) else min(int(size), longest + 1)
        )
    return read_body(longest + 1) if environ.get("wsgi.input_terminated") else None
