"""The page `Runs`: a list with its filters in the address, and the search for one run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from celery_durable.arguments import checked_run_id
from celery_durable.core.status import Status
from celery_durable.errors import ConfigurationError
from celery_durable.store import definitions
from celery_durable.store.read import views
from celery_durable.store.read.listing import RunSummary
from celery_durable.view.run_list import RunList, read_runs
from celery_durable.web.filters import PRESETS, TITLES, Filters, in_words
from celery_durable.web.render import durable, render, url
from celery_durable.web.topics import Look, Subject, digest

PAGE = 50
"""Runs of a page."""


def runs(request: Request) -> Response:
    """Show the runs of which every filter is true, the newest first."""
    filters, error, look = Filters.of(request.query_params), None, None
    try:
        look = request.app.state.topics.seen(subject(request))
    except ConfigurationError as wrong:
        error = in_words(wrong)
    with durable(request).database.autocommit() as connection:
        names = sorted(set(definitions.names(connection)))
    values = _values(request, look.value if look else RunList(datetime.now(UTC), ()))
    return render(
        request,
        "runs.html",
        status_code=400 if error else 200,
        error=error,
        presets=PRESETS,
        statuses=list(Status),
        titles=TITLES,
        workflows=names,
        live=f"{url(request, 'live_runs')}?{_query(request, filters, look)}" if look else None,
        **values,
    )


def _query(request: Request, filters: Filters, look: Look) -> str:
    return filters.query(before=request.query_params.get("before"), seen=digest(look.mark))


def subject(request: Request) -> Subject:
    """The list as it is followed. `look` raises `ConfigurationError` for a wrong filter."""
    it = durable(request)
    filters, before = Filters.of(request.query_params), request.query_params.get("before")

    def look() -> Look:
        last = checked_run_id(before) if before else None
        found = read_runs(it, filters.found(datetime.now(UTC)), limit=PAGE, before=last)
        return Look((found.runs, found.reasons, found.older), found)

    key = ("runs", filters.query(before=before), filters.unknown)
    return Subject(key, look, "runs_parts.html", lambda found: _values(request, found))


def _values(request: Request, found: RunList) -> dict[str, Any]:
    filters, before = Filters.of(request.query_params), request.query_params.get("before")
    return {"found": found, "filters": filters, "before": before}


def search(request: Request) -> Response:
    """Find runs by an id, a key or a tag: go to the one that is found, or to the list of all."""
    typed = request.query_params.get("q", "")
    said = typed.strip()
    if not said:
        return RedirectResponse(url(request, "runs"), status_code=303)
    if (run_id := _run_id(request, said)) is not None:
        return RedirectResponse(url(request, "run", run_id=run_id), status_code=303)
    found = _with_key(request, typed)
    if len(found) == 1:
        there = url(request, "run", run_id=found[0].run_id)
        return RedirectResponse(there, status_code=303)
    query = {"tag": said} if "=" in said and not found else {"key": found[0].key if found else said}
    return RedirectResponse(url(request, "runs", query=query), status_code=303)


def _with_key(request: Request, typed: str) -> Sequence[RunSummary]:
    """Two runs with the key that is typed, or fewer; a key may have outer spaces."""
    for key in dict.fromkeys((typed, typed.strip())):
        with suppress(ConfigurationError):
            if found := durable(request).list(key=key, limit=2):
                return found
    return ()


def _run_id(request: Request, said: str) -> UUID | None:
    """The id that is said, if there is such a run."""
    try:
        run_id = UUID(said)
    except ValueError:
        return None
    with durable(request).database.autocommit() as connection:
        return run_id if views.exists(connection, run_id) else None


routes: Sequence[BaseRoute] = [
    Route("/runs", runs, name="runs"),
    Route("/search", search, name="search"),
]
