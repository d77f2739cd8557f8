"""The page of one run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from celery_durable.view.run_page import PageReader, RunPage
from celery_durable.web import downloads
from celery_durable.web.actions import offered
from celery_durable.web.render import durable, render, url
from celery_durable.web.topics import Look, Subject, digest


def run(request: Request) -> Response:
    """Show the run."""
    run_id: UUID = request.path_params["run_id"]
    look = request.app.state.topics.latest(_key(run_id)) or subject(request).look()
    live = None
    if not look.is_last:
        live = url(request, "live_run", run_id=run_id, query={"seen": digest(look.mark)})
    return render(request, "run.html", live=live, **_values(request, look.value))


def subject(request: Request) -> Subject:
    """The run as it is followed."""
    run_id: UUID = request.path_params["run_id"]
    reader = PageReader(durable(request), run_id)

    def look() -> Look:
        page = reader.read()
        return Look(reader.mark, page, is_last=reader.has_ended)

    return Subject(_key(run_id), look, "run_parts.html", lambda page: _values(request, page))


def _key(run_id: UUID) -> tuple[str, UUID]:
    return "run", run_id


def _values(request: Request, page: RunPage) -> dict[str, Any]:
    it, snapshot = durable(request), page.view.snapshot
    return {
        "page": page,
        "view": page.view,
        "snapshot": snapshot,
        "offers": offered(it, page.view),
        "acts": it.actions(snapshot.run_id),
        "app_name": it.app.main or "<app>",
    }


routes: Sequence[BaseRoute] = [
    Route("/runs/{run_id:uuid}", run, name="run"),
    Route("/runs/{run_id:uuid}/input.json", downloads.input, name="run_input"),
    Route("/runs/{run_id:uuid}/result.json", downloads.result, name="run_result"),
    Route("/runs/{run_id:uuid}/unit.json", downloads.unit_result, name="unit_result"),
    Route("/runs/{run_id:uuid}/signals/{number:int}.json", downloads.signal, name="signal_data"),
]
