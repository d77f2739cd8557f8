"""Where viewers come in by the token, and leave."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from celery_durable.web.access import NOT_IT, address_of, gate_of, too_many
from celery_durable.web.protection import check_origin, small_form
from celery_durable.web.render import error_page, render, url, viewer
from celery_durable.web.session import Session

logger = logging.getLogger(__name__)

LONGEST_NAME = 200


async def login(request: Request) -> Response:
    """Show the form; or let in who follows the link with the token, printed at the start."""
    gate, token = gate_of(request), _token_of_link(request)
    after = _own_path(request, request.query_params.get("next"))
    if token is not None:
        return await _enter(request, token, "", after)
    session = gate.sessions.read(request)
    if not gate.takes_token or (session is not None and session.name is not None):
        return RedirectResponse(after, status_code=303)
    return render(request, "login.html", next=after, error=None)


def _token_of_link(request: Request) -> str | None:
    """The token of a link; not of another origin's, which would try wrong ones for our viewer."""
    is_ours = request.headers.get("sec-fetch-site") in {None, "none", "same-origin"}
    return request.query_params.get("token") if is_ours else None


async def enter(request: Request) -> Response:
    """Let in who has typed the token."""
    try:
        check_origin(request)
        said = await small_form(request)
    except HTTPException as error:
        return error_page(request, error.status_code, error.detail)
    token, name = str(said.get("token", "")), str(said.get("name", ""))
    return await _enter(request, token, name, _own_path(request, said.get("next")))


async def _enter(request: Request, token: str, name: str, after: str) -> Response:
    gate, address = gate_of(request), address_of(request)
    if not gate.takes_token:
        return RedirectResponse(after, status_code=303)
    is_right = await gate.admits(address, token)
    if is_right is None:
        return too_many(request)
    if not is_right:
        return render(request, "login.html", status_code=403, next=after, error=NOT_IT)
    session = Session(" ".join(name.split())[:LONGEST_NAME] or f"token@{address}")
    response = RedirectResponse(after, status_code=303)
    gate.sessions.write(request, response, session)
    logger.info("%s has come to the web page", session.name)
    return response


def _own_path(request: Request, said: object) -> str:
    """`said`, if it is a path of this page; else the overview."""
    overview = url(request, "overview")
    if not isinstance(said, str) or not said.startswith(overview):
        return overview
    # Browsers take \ for /, and leave out tabs and line ends.
    is_elsewhere = said.startswith(("//", "/\\")) or not said.isprintable()
    return overview if is_elsewhere else said


def logout(request: Request) -> Response:
    """End the session."""
    response = RedirectResponse(url(request, "login"), status_code=303)
    gate_of(request).sessions.end(request, response)
    logger.info("%s has left the web page", viewer(request).name)
    return response


open_routes: Sequence[BaseRoute] = [
    Route("/login", login, name="login"),
    Route("/login", enter, methods=["POST"], name="enter"),
]
routes: Sequence[BaseRoute] = [Route("/logout", logout, methods=["POST"], name="logout")]
