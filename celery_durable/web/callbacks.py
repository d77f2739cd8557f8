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
from urllib.parse import parse_qsl, unquote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from celery_durable.durable import Durable
from celery_durable.errors import ConfigurationError, DatabaseUnavailable
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


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back for a request of a link, whatever the framework."""

    status: int
    html: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


def respond(
    durable: Durable, method: str, text: str, body: bytes = b"", address: str = "unknown"
) -> Answer:
    """Answer a request of the link `text`. `body` is that of a POST, a form; `address` is for logs.

    Raises `ConfigurationError` if `durable_web_secret` is not set.
    """
    if method not in METHODS:
        return _page(405, "link.html", over=Closed("A link is opened, and its form is sent."))
    try:
        return _respond(durable, method, text, body, address)
    except DatabaseUnavailable:
        logger.exception("A link could not be looked up")
        return _page(
            503, "link.html", over=Closed("This does not work now. Try again in a minute.")
        )


def _respond(durable: Durable, method: str, text: str, body: bytes, address: str) -> Answer:
    callback = _read(durable, text)
    if callback is None:
        logger.warning("A link with a wrong signature was opened from %s", address)
        wrong = "This link is not right. Copy it from the message again, all of it."
        return _page(404, "link.html", over=Closed(wrong))
    if method != "POST":
        return _shown(question(durable, callback))
    form = _form(body, longest_of(durable))
    if form is None:
        return _page(413, "link.html", over=Closed("This is too long."))
    if SENT not in form:  # a box that is not ticked is sent by saying nothing
        return _shown(question(durable, callback))
    return _shown(answer(durable, callback, form, ACTOR))


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
    address = request.client.host if request.client else "unknown"
    text = request.path_params["text"]
    made = await run_in_threadpool(respond, found, request.method, text, body, address)
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
        return _page(404, "link.html", over=Closed("There is no such page."))
    longest = longest_of(durable)
    size = str(environ.get("CONTENT_LENGTH") or "0")
    length = min(int(size), longest + 1) if size.isdecimal() else 0
    read_body: Callable[[int], bytes] = environ["wsgi.input"].read
    body = read_body(length) if length else b""
    address = str(environ.get("REMOTE_ADDR") or "unknown")
    return respond(durable, str(environ["REQUEST_METHOD"]), unquote(text), body, address)
