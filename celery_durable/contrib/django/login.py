"""Who looks at the web page, in a Django project: the user who is logged in there."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth.views import redirect_to_login
from django.db import close_old_connections
from django.http import HttpRequest
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from celery_durable.web import Viewer
from celery_durable.web.render import error_page

MAY_LOOK, MAY_ACT = "durable.view_workflowrun", "durable.change_workflowrun"
"""The permissions of the admin's runs."""


def login(request: Request) -> Viewer | Response:
    """Return who sends the request: `login=` of `create_app`.

    A user with the permission to view runs is a reader, one with that to change them an operator.
    Who is not logged in is led to `LOGIN_URL`.
    """
    close_old_connections()  # Django does so around a request of its own
    try:
        user = _user_of(request)
    finally:
        close_old_connections()
    if user is None:
        target = redirect_to_login(f"{request.url.path}?{request.url.query}".rstrip("?"))
        return RedirectResponse(target.url, status_code=303)
    name, may_look, may_act = user
    if not (may_look or may_act):
        text = f"{name} lacks the permission for this page, 'Can view run' or 'Can change run'."
        return error_page(request, 403, text)
    return Viewer(name, "operator" if may_act else "reader")


def _user_of(request: Request) -> tuple[str, bool, bool] | None:
    """The name of the user whose session it is, and what they may do; None if nobody's."""
    django: Any = HttpRequest()
    sessions = import_module(settings.SESSION_ENGINE)
    django.session = sessions.SessionStore(request.cookies.get(settings.SESSION_COOKIE_NAME))
    user = get_user(django)
    if not (user.is_authenticated and user.is_active):
        return None
    return user.get_username(), user.has_perm(MAY_LOOK), user.has_perm(MAY_ACT)
