"""Says who looks at the page: by a token and a cookie, or by the host application's own login."""

from __future__ import annotations

import asyncio
import hmac
import inspect
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Literal

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from celery_durable.web.patience import Patience
from celery_durable.web.protection import SAFE_METHODS, is_storable
from celery_durable.web.render import error_page, render, url
from celery_durable.web.session import Session, Sessions

logger = logging.getLogger(__name__)

Role = Literal["reader", "operator"]

NOT_IT = "This is not the token. It is printed where the page was started."


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks at the page. An operator acts, too, and `name` is noted with each action."""

    name: str
    role: Role = "operator"

    @property
    def is_operator(self) -> bool:
        """True if the viewer may act."""
        return self.role == "operator"


Login = Callable[[Request], Viewer | Response | Awaitable[Viewer | Response | None] | None]
"""The host application's own login: who sends this request; None, or a response, for nobody."""


class Gate:
    """Knows who sends a request: by `login`, or by a cookie that the token was exchanged for."""

    def __init__(
        self, *, login: Login | None, token: str | None, secret: str, read_only: bool
    ) -> None:
        self._login = login
        self._token = token
        self._read_only = read_only
        # Whoever changes the token ends the sessions that were opened with it.
        self.sessions = Sessions(f"{secret}\0{token or ''}")
        self.patience = Patience()
        self.sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    @property
    def takes_token(self) -> bool:
        """True if a token lets viewers in, and they can leave."""
        return self._login is None

    async def viewer(self, request: Request, session: Session) -> Viewer | Response | None:
        """Who sends the request; a response, or None, for one who is not let in."""
        if self._login is None:
            found: Viewer | Response | None = None if session.name is None else Viewer(session.name)
        elif inspect.iscoroutinefunction(self._login):
            found = await self._login(request)
        else:
            answer = await run_in_threadpool(self._login, request)
            found = await answer if inspect.isawaitable(answer) else answer
        if self._read_only and isinstance(found, Viewer):
            return replace(found, role="reader")
        return found

    async def admits(self, address: str, said: str) -> bool | None:
        """True if `said` is the token; None if the address has tried too many others.

        A wrong one costs its address time. Until that has passed, a right one waits, too: the time
        of the answer must not say more than the answer.
        """
        before = self.patience.delay(address, time.monotonic())
        if before is None:
            return None
        is_right = self._is_token(said)
        if not is_right:
            wrong = self.patience.wrong(address, time.monotonic())
            logger.warning("A wrong token for the web page from %s, its number %d", address, wrong)
        after = self.patience.delay(address, time.monotonic())
        await self.sleep(before if is_right or after is None else after)
        if is_right:
            self.patience.right(address)
        return is_right

    def _is_token(self, said: str) -> bool:
        """True if `said` is the token. The time that it takes says nothing of it."""
        return self._token is not None and hmac.compare_digest(said.encode(), self._token.encode())

    async def scraper(self, request: Request) -> Viewer | Response | None:
        """A program that shows the token in a header; it only reads. None if there is no token."""
        said = bearer_of(request)
        if not self.takes_token or said is None:
            return None
        is_right = await self.admits(address_of(request), said)
        if is_right:
            return Viewer(f"token@{address_of(request)}", "reader")
        return too_many(request) if is_right is None else error_page(request, 403, NOT_IT)


def too_many(request: Request) -> Response:
    """Answer an address that has tried too many tokens."""
    text = "Too many wrong tokens have come from your address. Wait a minute, and try again."
    return error_page(request, 429, text)


def bearer_of(request: Request) -> str | None:
    """The token that a program shows in a header; None if it shows none."""
    kind, _, said = request.headers.get("authorization", "").partition(" ")
    return said.strip() if kind.lower() == "bearer" else None


def address_of(request: Request) -> str:
    """The address that a request comes from."""
    return request.client.host if request.client else "unknown"


def gate_of(request: Request) -> Gate:
    """The gate of this application."""
    found: Gate = request.app.state.gate
    return found


async def still_lets_in(request: Request) -> bool:
    """True if the viewer of an answer under way would be let in now; their role is that of now."""
    gate = gate_of(request)
    found = await gate.viewer(request, gate.sessions.read(request) or Session())
    if not isinstance(found, Viewer):
        return False
    request.state.viewer = found
    return True


class Guarded:
    """Middleware: lets known viewers in, and operators alone act."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        gate = gate_of(request)
        kept = gate.sessions.read(request)
        session = kept or gate.sessions.first(request)
        # A header beside a good cookie may be a proxy's own.
        found = await gate.viewer(request, session) or await gate.scraper(request)
        if not isinstance(found, Viewer):
            response = found or _refused(request, gate)
            await response(scope, receive, send)
            return
        if not is_storable(found.name):
            text = "Your name has characters that are no text, and could not be noted."
            await error_page(request, 403, text)(scope, receive, send)
            return
        request.state.viewer = found
        request.state.csrf_token = gate.sessions.csrf_token(session, found.name)
        request.state.has_logout = gate.takes_token
        if not found.is_operator and scope["method"] not in SAFE_METHODS and not _leaves(request):
            text = f"{found.name} may look, and not act: that takes an operator."
            await error_page(request, 403, text)(scope, receive, send)
            return
        if gate.sessions.is_to_be_renewed(request) and not _leaves(request):
            send = _with_cookie(request, gate.sessions, session, send)
        await self._app(scope, receive, send)


def _leaves(request: Request) -> bool:
    return str(request.scope["path"]) == url(request, "logout")


def _with_cookie(request: Request, sessions: Sessions, session: Session, send: Send) -> Send:
    """Renew a session; or give a viewer of the host application's one, for their forms."""
    cookie = Response()
    sessions.write(request, cookie, session)

    async def send_with_cookie(message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            own = [header for header in cookie.raw_headers if header[0] == b"set-cookie"]
            message = {**message, "headers": [*message["headers"], *own]}  # type: ignore[misc]
        await send(message)

    return send_with_cookie  # type: ignore[return-value]


def _refused(request: Request, gate: Gate) -> Response:
    if not gate.takes_token:
        return error_page(
            request,
            403,
            "You are not let in. Log in to the application first, or ask for a permission.",
        )
    if request.method not in SAFE_METHODS:
        return error_page(request, 403, "Your session has ended. Log in, and do it again.")
    to_login = url(request, "login", query={"next": _path_and_query(request)})
    if request.headers.get("sec-fetch-site") == "cross-site":
        # Whoever follows a link of another origin sends no cookie that is SameSite=Strict. From a
        # page of ours they do.
        return render(request, "arrive.html", to_login=to_login)
    return RedirectResponse(to_login, status_code=303)


def _path_and_query(request: Request) -> str:
    path, query = request.url.path, request.url.query
    return f"{path}?{query}" if query else path
