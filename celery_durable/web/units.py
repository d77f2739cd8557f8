"""The units of a run that have ended, page by page; and one unit with its attempts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from celery_durable.arguments import LONGEST_UNIT, checked_text
from celery_durable.core.decision import Outcome
from celery_durable.errors import ConfigurationError, RunNotFound
from celery_durable.store.read import ended_units, folded, results, views
from celery_durable.store.read.ended_units import UnitFilter
from celery_durable.view.run import LARGEST_RESULT
from celery_durable.web.filters import FLAGS
from celery_durable.web.render import durable, error_page, render

PAGE = 100
"""Units of a page."""

PART = 25
"""Units that a part of the run's page shows."""


def units(request: Request) -> Response:
    """Show the units of a run, or of one node: a page, or its part of the run's page."""
    run_id: UUID = request.path_params["run_id"]
    found = _filter(request)
    is_part = "part" in request.query_params
    limit = PART if is_part else PAGE
    with durable(request).database.read_only() as connection:
        if not views.exists(connection, run_id):
            raise RunNotFound(run_id)
        entries = ended_units.page(connection, run_id, found, limit + 1)
    values: dict[str, Any] = {
        "run_id": run_id,
        "found": found,
        "entries": entries[:limit],
        "next": entries[limit - 1].unit if len(entries) > limit else None,
        "outcomes": list(Outcome),
    }
    return render(request, "units_part.html" if is_part else "units.html", **values)


def _filter(request: Request) -> UnitFilter:
    said = {name: value for name, value in request.query_params.items() if value}
    if said.get("outcome") not in (None, *Outcome):
        known = ", ".join(Outcome)
        raise ConfigurationError(f"No unit ends {said['outcome']!r}; they end {known}.")
    if said.get("undo") not in (None, *FLAGS):
        raise ConfigurationError(f"undo is yes or no, not {said['undo']!r}.")
    texts = {
        name: checked_text(name, said[name], LONGEST_UNIT) if name in said else None
        for name in ("node", "after")
    }
    return UnitFilter(
        **texts,
        is_undo=FLAGS[said["undo"]] if "undo" in said else None,
        outcome=Outcome(said["outcome"]) if "outcome" in said else None,
    )


def unit(request: Request) -> Response:
    """Show one unit: its attempts and what they failed with, and its result."""
    run_id: UUID = request.path_params["run_id"]
    name = checked_text("unit", request.query_params.get("unit", ""), LONGEST_UNIT)
    values: dict[str, Any] = {"run_id": run_id, "name": name, "result": None}
    with durable(request).database.read_only() as connection:
        entry = ended_units.unit(connection, run_id, name)
        trying = folded.trying(connection, run_id, 1, unit=name)
        if entry is not None and entry.size is not None and entry.size <= LARGEST_RESULT:
            values["result"] = results.of_unit(connection, run_id, name)
        if entry is None and not trying and not views.exists(connection, run_id):
            raise RunNotFound(run_id)
    if entry is None and not trying:
        text = f"No unit {name!r} of run {run_id} has ended, or failed, yet."
        return error_page(request, 404, text)
    values |= {"entry": entry, "trying": trying[0] if trying else None}
    is_part = "part" in request.query_params
    return render(request, "unit_part.html" if is_part else "unit.html", **values)


routes: Sequence[BaseRoute] = [
    Route("/runs/{run_id:uuid}/units", units, name="units"),
    Route("/runs/{run_id:uuid}/unit", unit, name="unit"),
]
