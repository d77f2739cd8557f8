"""Renders templates, and holds what every page may ask of a request."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import HTMLResponse

from celery_durable.core.failure import attempt_text
from celery_durable.durable import Durable
from celery_durable.view import formatting, wording
from celery_durable.view.document import as_json
from celery_durable.view.nodes import outcome_of, took_of

if TYPE_CHECKING:
    from celery_durable.web.access import Viewer

STATIC = Path(__file__).parent / "static"

SYMBOLS: Mapping[str, str] = {
    "pending": "○",
    "running": "▶",
    "current": "▶",
    "executing": "▶",
    "queued": "○",
    "suspended": "◔",
    "waiting": "◔",
    "sleeping": "☾",
    "paused": "‖",
    "compensating": "↺",
    "compensated": "↺",
    "compensation failed": "✗",
    "completed": "✓",
    "skipped": "»",
    "failed": "✗",
    "cancelled": "⊘",
    "not reached": "○",
}
"""Of statuses and of states of nodes; colour alone says nothing."""


def durable(request: Request) -> Durable:
    """The `Durable` that the page shows."""
    found: Durable = request.app.state.durable
    return found


def viewer(request: Request) -> Viewer:
    """The viewer, who has been let in."""
    found: Viewer = request.state.viewer
    return found


def csrf_token(request: Request) -> str:
    """The token that every form of this viewer carries, in the field `csrf_token`."""
    token: str = request.state.csrf_token
    return token


def form(request: Request) -> FormData:
    """The fields of a POST, which has been checked."""
    found: FormData = request.state.form
    return found


def url(
    request: Request, name: str, /, *, query: Mapping[str, Any] | None = None, **path: Any
) -> str:
    """The path of a route by its name, below what the page is mounted at.

    `query` leaves out what is None or empty.
    """
    root = quote(request.scope.get("durable_root", ""), safe="/~!$&'()*+,;=:@%")
    chosen = {key: value for key, value in (query or {}).items() if value not in (None, "", ())}
    after = f"?{urlencode(chosen, doseq=True)}" if chosen else ""
    return f"{root}{request.app.url_path_for(name, **path)}{after}"


def static(request: Request, name: str) -> str:
    """The path of a file in `static`, which changes with its content."""
    return url(request, "static", path=f"/{name}", query={"v": _version(name)})


@cache
def _version(name: str) -> str:
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]


def render(
    request: Request, template: str, /, *, status_code: int = 200, **values: Any
) -> HTMLResponse:
    """Answer with a template; `values` are its variables."""
    return HTMLResponse(render_text(request, template, **values), status_code)


def render_text(request: Request, template: str, /, **values: Any) -> str:
    """The text of a template, or of a part of a page, as an event carries it."""
    return environment.get_template(template).render(
        request=request,
        url=lambda name, /, **path: url(request, name, **path),
        static=lambda name: static(request, name),
        viewer=getattr(request.state, "viewer", None),
        csrf_token=getattr(request.state, "csrf_token", ""),
        has_logout=getattr(request.state, "has_logout", False),
        here=request.scope["path"],
        now=datetime.now(UTC),
        **values,
    )


def error_page(request: Request, status_code: int, text: str) -> HTMLResponse:
    """Answer with what is wrong, and what to do."""
    return render(request, "error.html", status_code=status_code, code=status_code, text=text)


def time(at: datetime | None) -> Markup:
    """A time: in UTC as it stands, in the viewer's zone by page.js."""
    if at is None:
        return Markup("-")
    shown = f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return Markup('<time datetime="{}">{}</time>').format(formatting.utc(at), shown)


def ago(at: datetime | None, now: datetime) -> Markup:
    """How long ago a time is, or how far off; page.js keeps it so."""
    if at is None:
        return Markup("-")
    shown = formatting.coarse(abs(now - at))
    return Markup('<time datetime="{}" data-ago>{}</time>').format(formatting.utc(at), shown)


def count(number: int) -> str:
    """`12,345`."""
    return f"{number:,}"


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("celery_durable.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = ("span", "coarse", "elapsed", "size", "plural", "one_line", "shortened", "error_line")
    made.filters.update({name: getattr(formatting, name) for name in names})
    made.filters.update(time=time, ago=ago, count=count, json=as_json)
    made.filters.update(tone=wording.tone, remedy=wording.remedy_of, attempt=attempt_text)
    made.filters.update(took=took_of, outcome=outcome_of)
    made.globals.update(symbols=SYMBOLS, stands_at=wording.STANDS_AT, in_short=wording.IN_SHORT)
    return made


environment = _environment()
