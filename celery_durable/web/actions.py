"""What an operator does here: a page that asks once, and does it; and what was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from celery_durable.durable import Durable
from celery_durable.errors import ConfigurationError, PayloadError, RunError, SchemaOutOfDate
from celery_durable.view.fitting import fitting
from celery_durable.view.run import RunView, read_run
from celery_durable.web.deeds import DEEDS, Deed, Fields, NothingWaits
from celery_durable.web.render import durable, form, render, url, viewer

LATEST = 200
"""Actions on the page of all."""


@dataclass(frozen=True, slots=True)
class Offer:
    """An action that fits how a run stands; `choices` are the values of fields that have few."""

    name: str
    deed: Deed
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What its button says."""
        return self.deed.title


def offered(durable: Durable, view: RunView) -> Sequence[Offer]:
    """The actions that fit how the run stands, in the order in which they are offered."""
    found = fitting(view.snapshot, durable.pauses())
    return [Offer(name, deed, found[name]) for name, deed in DEEDS.items() if name in found]


def act_on_run(request: Request) -> Response:
    """Ask whether it is to be done to the run; a POST does it, and leads back to the run."""
    name, run_id = request.path_params["name"], request.path_params["run_id"]
    if name not in DEEDS:
        raise HTTPException(404)
    if request.method != "POST":
        _check_that_operator(request)
        return _ask(request, run_id, name, Fields(request.query_params))
    said = Fields(form(request), viewer(request).name)
    try:
        with durable(request).acting(viewer(request).name, said.text("reason")):
            other = DEEDS[name].do(durable(request), run_id, said)
    except SchemaOutOfDate:
        raise
    except (RunError, ConfigurationError, PayloadError) as error:
        return _ask(request, run_id, name, said, error)
    return RedirectResponse(url(request, "run", run_id=other or run_id), status_code=303)


def _check_that_operator(request: Request) -> None:
    """Raise for a reader, who is shown no form. That they post none, `access` sees to."""
    if not viewer(request).is_operator:
        raise HTTPException(403, "That takes an operator; you may look.")


def _ask(
    request: Request, run_id: UUID, name: str, said: Fields, error: Exception | None = None
) -> Response:
    it = durable(request)
    view = read_run(it, it.run(run_id), with_results=False)
    found = next((one for one in offered(it, view) if one.name == name), None)
    return render(
        request,
        "action.html",
        status_code=200 if error is None else 409,
        offer=found or Offer(name, DEEDS[name]),
        fits=found is not None,
        snapshot=view.snapshot,
        said=said,
        error=error,
        may_insist=isinstance(error, NothingWaits),
    )


def act_on_workflow(request: Request) -> Response:
    """Ask whether a workflow or a step is to be paused or unpaused; a POST does it."""
    name = request.path_params["name"]
    if name not in {"pause", "unpause"}:
        raise HTTPException(404)
    is_asked = request.method != "POST"
    if is_asked:
        _check_that_operator(request)
    said = Fields(request.query_params if is_asked else form(request))
    error: Exception | None = None
    if not is_asked:
        try:
            _pause_or_unpause(durable(request), name, viewer(request).name, said)
            return RedirectResponse(url(request, "pauses"), status_code=303)
        except SchemaOutOfDate:
            raise
        except ConfigurationError as refused:
            error = refused
    status = 200 if error is None else 409
    return render(
        request, "pause.html", status_code=status, name=name, deed=DEEDS[name], said=said,
        error=error, workflows=durable(request).registry.names(),
    )  # fmt: skip


def _pause_or_unpause(durable: Durable, name: str, who: str, said: Fields) -> None:
    what: dict[str, Any] = {
        "workflow": said.text("workflow"),
        "version": said.whole("version"),
        "step": said.text("step"),
    }
    with durable.acting(who, said.text("reason")):
        if name == "pause":
            durable.pause(**what, reason=said.text("reason"))
        else:
            durable.unpause(**what)


def pauses(request: Request) -> Response:
    """Show what is paused."""
    return render(request, "pauses.html", pauses=durable(request).pauses())


def actions(request: Request) -> Response:
    """Show what was done last, to whatever."""
    return render(request, "actions_of_all.html", acts=durable(request).actions(limit=LATEST))


routes: Sequence[BaseRoute] = [
    Route(
        "/runs/{run_id:uuid}/actions/{name}",
        act_on_run,
        methods=["GET", "POST"],
        name="run_action",
    ),
    Route("/actions", actions, name="actions"),
    Route("/pauses", pauses, name="pauses"),
    Route("/pauses/{name}", act_on_workflow, methods=["GET", "POST"], name="pause_action"),
]
