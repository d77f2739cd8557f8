"""What holds for every answer and every request: headers, the Host, and the body of a POST."""

from __future__ import annotations

import hmac
from collections.abc import Collection, Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import FormData, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from celery_durable.arguments import bytes_of
from celery_durable.web.render import csrf_token, error_page

SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
        " connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every answer. One that names its own Cache-Control keeps it."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

SPARE_BYTES = 64 * 1024
"""Of a form, beside the payload that it carries."""


class Protection:
    """Middleware: the headers, and a Host that is ours.

    A page of another origin may point a name of its own at our address, and would then be of the
    same origin as we (DNS rebinding): so only known names are answered. An address is no name.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["durable_root"] = scope.get("root_path", "").rstrip("/")
        scope["state"] = {**scope.get("state", {})}

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        request = Request(scope)
        name = host_of(request.headers.get("host", ""))
        if self._knows(name):
            await self._app(scope, receive, with_headers)
            return
        text = (
            f"This page does not answer to the name {name!r}, but to localhost, to addresses, and"
            " to the names in the setting durable_web_hosts: add it there."
        )
        await error_page(request, 400, text)(scope, receive, with_headers)

    def _knows(self, name: str) -> bool:
        return "*" in self._hosts or name in self._hosts or name == "localhost" or _is_address(name)


def host_of(netloc: str) -> str:
    """The name or address in a Host, without its port."""
    try:
        return (urlsplit(f"//{netloc}").hostname or "").lower()
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


class SoundAddresses:
    """Middleware: no address with NUL is answered. Postgres stores no text with it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and ("\0" in scope["path"] or _has_nul(scope["query_string"])):
            text = "There is nothing at an address with NUL."
            await error_page(Request(scope), 400, text)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _has_nul(query: bytes) -> bool:
    return b"%00" in query or b"\0" in query


class CheckedForms:
    """Middleware: only a form of our own page, shown to the same viewer, is handed on.

    It is in `request.state.form`: endpoints are plain functions, which cannot wait for a body.
    """

    def __init__(self, app: ASGIApp, *, longest_payload: int) -> None:
        self._app = app
        # A byte of the payload may be written as %XX.
        self._longest = 3 * longest_payload + SPARE_BYTES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["method"] in SAFE_METHODS:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            check_origin(request)
            request.state.form = form = await small_form(request, self._longest)
            check_csrf_token(request, form)
        except HTTPException as error:
            await error_page(request, error.status_code, error.detail)(scope, receive, send)
            return
        await self._app(scope, receive, send)


async def small_form(request: Request, longest: int = SPARE_BYTES) -> FormData:
    """The form in a request, without files. Raises for one that is longer, or no text."""
    bounded = Request(request.scope, _bounded(request.receive, longest))
    try:
        form = await bounded.form(max_files=0)
    except (LookupError, UnicodeError):  # of a charset that is none, or another one
        raise HTTPException(400, "The form is not written in UTF-8.") from None
    if not all(is_storable(str(text)) for pair in form.multi_items() for text in pair):
        raise HTTPException(400, "The form has characters that are no text: NUL, or half of one.")
    return form


def is_storable(text: str) -> bool:
    """True if Postgres can store the text: without NUL and lone surrogates."""
    return bytes_of(text) is not None


def _bounded(receive: Receive, longest: int) -> Receive:
    read = 0

    async def receive_some() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > longest:
            raise HTTPException(413, f"The form is longer than {longest} bytes.")
        return message

    return receive_some


def check_origin(request: Request) -> None:
    """Raise for a request that a page of another origin has sent.

    Browsers say so by Sec-Fetch-Site; older ones by Origin. A request with neither is no
    browser's: https://words.filippo.io/csrf/.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site in {"same-origin", "none"}:
        return
    if site is None and (origin is None or _is_of_host(origin, request.headers.get("host"))):
        return
    raise HTTPException(
        403,
        f"This was sent by a page of another origin, {origin or 'unknown'}. Behind a proxy, have it"
        " pass on the Host that the browser has sent.",
    )


def _is_of_host(origin: str, host: str | None) -> bool:
    try:
        return urlsplit(origin).netloc == host
    except ValueError:
        return False


def check_csrf_token(request: Request, form: FormData) -> None:
    """Raise for a form that does not carry the token of this session."""
    said = form.get("csrf_token")
    right = csrf_token(request)
    if not isinstance(said, str) or not hmac.compare_digest(said.encode(), right.encode()):
        raise HTTPException(403, "This form is no longer good. Go back, reload, and send it again.")
