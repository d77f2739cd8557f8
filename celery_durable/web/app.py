"""Joins the pages, and what guards them, into an ASGI application."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from celery_durable.durable import Durable
from celery_durable.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    DurableError,
    RunNotFound,
    SchemaOutOfDate,
)
from celery_durable.settings import SHORTEST_SECRET, Settings
from celery_durable.web import (
    actions,
    approvals,
    callbacks,
    live,
    login,
    metrics,
    overview,
    pictures,
    run,
    runs,
    units,
    workflows,
)
from celery_durable.web.access import Gate, Guarded, Login
from celery_durable.web.protection import SECURITY_HEADERS, CheckedForms, Protection, SoundAddresses
from celery_durable.web.render import STATIC, error_page
from celery_durable.web.topics import Topics

GUARDED: Sequence[BaseRoute] = [
    *login.routes,
    *overview.routes,
    *runs.routes,
    *run.routes,
    *units.routes,
    *live.routes,
    *actions.routes,
    *pictures.routes,
    *approvals.routes,
    *workflows.routes,
]
"""What only a viewer sees who has been let in."""

OPEN: Sequence[BaseRoute] = [
    *login.open_routes,
    *callbacks.open_routes,
    *pictures.open_routes,
    *metrics.open_routes,
]
"""What everybody may ask for; it says and does nothing without a secret of its own."""


class Files(StaticFiles):
    """The files of `static`, which a browser keeps: their links change with their content."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Answer with a file."""
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


def create_app(
    durable: Durable,
    *,
    login: Login | None = None,
    token: str | None = None,
    read_only: bool | None = None,
    hosts: Collection[str] | None = None,
) -> Starlette:
    """Make the web page of a `Durable`, to be served, or mounted in an ASGI application.

    `login` says who sends a request: a function of the request, plain or async, that returns a
    `Viewer`, or None for nobody, or a response of its own, such as a redirect to a login. Without
    it, whoever knows `token` is let in; by default the setting `durable_web_token`. With
    `read_only` nobody acts. `hosts` are the names by which the page is opened, besides
    `localhost`. The defaults are those of the settings. Raises `ConfigurationError`.
    """
    settings = durable.settings
    _check(login, token)
    token = None if login else token or settings.web_token
    if login is None and token is None:
        raise ConfigurationError(
            "Nobody could open the page. Set durable_web_token, or pass login=, a function of the"
            " request that returns a Viewer."
        )
    for name, one in (
        ("durable_web_token", token),
        ("durable_web_metrics_token", settings.web_metrics_token),
    ):
        _check_that_a_header_holds(name, one)
    gate = Gate(
        login=login,
        token=token,
        secret=settings.web_secret or token or secrets.token_urlsafe(32),
        read_only=settings.web_read_only if read_only is None else read_only,
    )
    guards = [
        Middleware(SoundAddresses),
        Middleware(Guarded),
        Middleware(CheckedForms, longest_payload=settings.max_payload_bytes),
    ]
    app = Starlette(
        routes=[
            Mount("/static", Files(directory=STATIC), name="static"),
            *OPEN,
            Mount("", routes=GUARDED, middleware=guards),
        ],
        middleware=[
            Middleware(Protection, hosts=_hosts(settings, hosts)),
        ],
        exception_handlers={
            HTTPException: _refusal,
            RunNotFound: _not_found,
            DurableError: _failure,
            Exception: _defect,
        },
    )
    app.state.durable, app.state.gate = durable, gate
    app.state.topics = Topics()
    app.state.doctor = overview.Doctor(durable)
    return app


def _hosts(settings: Settings, hosts: Collection[str] | None) -> Collection[str]:
    """The names by which the page is opened; links open it by that in `durable_web_url`."""
    linked = urlsplit(settings.web_url or "").hostname
    return [*(settings.web_hosts if hosts is None else hosts), *([linked] if linked else [])]


def _check(login: Login | None, token: str | None) -> None:
    if login is not None and token is not None:
        raise ConfigurationError("login= or token= lets viewers in: pass one of them.")
    if token is not None and len(token) < SHORTEST_SECRET:
        raise ConfigurationError(
            f"token= takes {SHORTEST_SECRET} characters or more; a shorter one can be guessed."
        )


def _check_that_a_header_holds(name: str, token: str | None) -> None:
    """Raise for a token that programs could not show: a header has ASCII, and no outer spaces."""
    if token is not None and not (
        token.isascii() and token.isprintable() and token == token.strip()
    ):
        raise ConfigurationError(
            f"{name} has characters outside of ASCII, or a space or a line end around it: no header"
            " holds that. Make another one:"
            ' python -c "import secrets; print(secrets.token_urlsafe())"'
        )


def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = "There is no such page." if error.status_code == 404 else str(error.detail)  # noqa: PLR2004
    return error_page(request, error.status_code, text)


def _not_found(request: Request, error: Exception) -> Response:
    return error_page(request, 404, str(error))


def _failure(request: Request, error: Exception) -> Response:
    is_away = isinstance(error, DatabaseUnavailable | SchemaOutOfDate)
    return error_page(request, 503 if is_away else 400, str(error))


def _defect(request: Request, error: Exception) -> Response:  # noqa: ARG001 - Starlette's
    """Answer for an error that nobody foresaw. Starlette raises it again, so that it is logged."""
    text = "Something unforeseen has happened; the log of the page has the traceback."
    response = error_page(request, 500, text)
    response.headers.update(SECURITY_HEADERS)
    return response
