"""The page of one run."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from celery_durable.core.reason import Reason
from celery_durable.view.run_page import PageReader, RunPage
from celery_durable.web import downloads
from celery_durable.web.actions import offered
from celery_durable.web.render import durable, render, url
from celery_durable.web.topics import Look, Subject, digest


def run(request: Request) -> Response:
    """Show the run."""
    run_id: UUID = request.path_params["run_id"]
    look: Look = request.app.state.topics.seen(subject(request))
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

    return Subject(("run", run_id), look, "run_parts.html", lambda page: _values(request, page))


def _values(request: Request, page: RunPage) -> dict[str, Any]:
    it, snapshot = durable(request), page.view.snapshot
    offers = offered(it, page.view)
    return {
        "page": page,
        "view": page.view,
        "snapshot": snapshot,
        "offers": offers,
        "way_of": partial(_way, request, page, {offer.name for offer in offers}),
        "acts": it.actions(snapshot.run_id),
        "app_name": it.app.main or "<app>",
    }


def _way(
    request: Request, page: RunPage, offers: Collection[str], reason: Reason, action: str
) -> str:
    """Where the form is that does this about a reason; empty if it does not fit."""
    run_id, units = page.view.snapshot.run_id, page.view.snapshot.units
    if action and reason.run_id != run_id:
        return url(request, "run", run_id=reason.run_id)
    if (token_id := page.asking.get(reason.unit or "")) is not None:
        return url(request, "approval", token_id=token_id)
    if action in offers:
        signal = next((one.signal for one in units if one.unit == reason.unit), None)
        said = {"retry_now": {"unit": reason.unit}, "resume": {"signal": signal}}.get(action)
        return url(request, "run_action", run_id=run_id, name=action, query=said)
    return url(request, "pauses") if action == "unpause" else ""


routes: Sequence[BaseRoute] = [
    Route("/runs/{run_id:uuid}", run, name="run"),
    Route("/runs/{run_id:uuid}/input.json", downloads.input, name="run_input"),
    Route("/runs/{run_id:uuid}/result.json", downloads.result, name="run_result"),
    Route("/runs/{run_id:uuid}/unit.json", downloads.unit_result, name="unit_result"),
    Route("/runs/{run_id:uuid}/signals/{number}.json", downloads.signal, name="signal_data"),
]
