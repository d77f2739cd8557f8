"""The workflows: a list of them; of each its plan, its runs, and a form to start one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from celery_durable.arguments import checked_key, checked_priority, checked_tags
from celery_durable.core.plan import HIGHEST_PRIORITY
from celery_durable.errors import ConfigurationError, PayloadError, RunExists
from celery_durable.run import Run
from celery_durable.store.read import overview
from celery_durable.view.picture.chart import Shown
from celery_durable.view.picture.graph import Links, graph
from celery_durable.view.typed import whole_of
from celery_durable.view.workflows import VersionView, WorkflowView, read_workflows
from celery_durable.web.fields import Field, fields_of
from celery_durable.web.forms import beside, texts_of, value_of
from celery_durable.web.pictures import OPEN, Folds
from celery_durable.web.render import durable, form, render, url, viewer
from celery_durable.workflow.schemas import json_schema

OPTIONS = ("key", "priority", "tags")
"""The fields of the form besides those of the input, whose names begin with `data`."""


def workflows(request: Request) -> Response:
    """Show all workflows."""
    found = read_workflows(durable(request))
    return render(request, "workflows.html", found=found)


@dataclass(frozen=True, slots=True)
class StartForm:
    """The form: `texts` is what it shows, `errors` what is wrong, both by the names of fields.

    `description` is what the model says of itself. `existing` is the run that has the key already.
    """

    fields: tuple[Field, ...]
    texts: Mapping[str, str]
    description: str = ""
    errors: Mapping[str, str] = field(default_factory=dict)
    existing: UUID | None = None


def workflow(request: Request) -> Response:
    """Show one version of a workflow; a POST starts a run of it."""
    found, version = _named(request)
    empty = _form(request, found.name, version.version)
    if request.method != "POST":
        return _shown(request, found, version, empty)
    started = _start(request, found.name, version.version, empty)
    if isinstance(started, Run):
        return RedirectResponse(url(request, "run", run_id=started.id), status_code=303)
    return _shown(request, found, version, started)


def _named(request: Request) -> tuple[WorkflowView, VersionView]:
    """The workflow and version that the address names; by default the highest version."""
    name, number = request.query_params.get("name", ""), request.query_params.get("version", "")
    found = read_workflows(durable(request)).find(name)
    if found is None:
        raise HTTPException(404, f"There is no workflow {name!r}.")
    wanted = whole_of(number)
    version = found.version(wanted)
    if version is None or (number and wanted is None):
        raise HTTPException(404, f"Workflow {name!r} has no version {number}.")
    return found, version


def _form(request: Request, name: str, version: int) -> StartForm:
    """The form of an input; one field for JSON where this process does not know its model."""
    known = durable(request).registry.find(name, version)
    schema = json_schema(known.input) if known is not None else None
    fields = fields_of(schema)
    return StartForm(fields, texts_of(fields), str((schema or {}).get("description") or ""))


def _start(request: Request, name: str, version: int, empty: StartForm) -> Run | StartForm:
    """Start a run, or show again what was typed, with what is wrong beside it."""
    said = form(request)
    filled = value_of(empty.fields, said)
    texts = {**filled.texts, **{option: str(said.get(option) or "") for option in OPTIONS}}
    again = replace(empty, texts=texts)
    options, errors = _options(texts)
    errors |= filled.errors
    if errors:
        return replace(again, errors=errors)
    try:
        with durable(request).acting(viewer(request).name):
            return durable(request).start(
                name, filled.value, version=version, on_conflict=_on_conflict(options), **options
            )
    except PayloadError as error:
        faults = error.fields or {"": str(error)}
        return replace(again, errors=beside(empty.fields, faults))
    except RunExists as error:
        text = f"A run has this key already; it is {error.status}."
        return replace(again, errors={"key": text}, existing=error.run_id)


def _on_conflict(options: Mapping[str, Any]) -> Any:
    return "existing" if options["key"] is None else "raise"


def _options(texts: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """What was typed beside the input, and what is wrong with it."""
    readers = {"key": _key, "priority": _priority, "tags": _tags}
    found: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for name, read in readers.items():
        try:
            found[name] = read(texts[name].strip())
        except ConfigurationError as error:
            errors[name] = str(error)
    return found, errors


def _key(text: str) -> str | None:
    return checked_key(text or None)


def _priority(text: str) -> int | None:
    if not text:
        return None
    number = whole_of(text)
    if number is None:
        raise ConfigurationError(f"This is no whole number from 0 to {HIGHEST_PRIORITY}.")
    return checked_priority(number)


def _tags(text: str) -> Mapping[str, str] | None:
    tags: dict[str, str] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, separator, value = line.partition("=")
        if not (name.strip() and separator):
            raise ConfigurationError(f"A tag is written name=value, not {line!r}.")
        tags[name.strip()] = value.strip()
    return checked_tags(tags or None)


def _shown(
    request: Request, found: WorkflowView, version: VersionView, start_form: StartForm
) -> Response:
    return render(
        request,
        "workflow.html",
        status_code=400 if start_form.errors else 200,
        found=found,
        version=version,
        picture=_picture(request, found.name, version.version),
        form=start_form,
        highest_priority=HIGHEST_PRIORITY,
    )


def _picture(request: Request, name: str, version: int) -> Markup | None:
    """The graph of the plan: as this process imports it, or else as it is stored."""
    known = durable(request).registry.find(name, version)
    if known is not None:
        plan: Mapping[str, Any] | None = known.plan.as_data()
    else:
        with durable(request).database.read_only() as connection:
            plan = overview.plan(connection, name, version)
    if plan is None:
        return None
    opened = Folds.of(request).opened

    def fold(key: str) -> str:
        query = {"name": name, "version": version, OPEN: sorted(opened ^ {key})}
        return url(request, "workflow", query=query) + "#plan"

    links = Links(run=lambda run_id: url(request, "run", run_id=run_id), fold=fold)
    shown = Shown(plan, datetime.now(UTC), opened=opened)
    return Markup(graph(shown, links=links))  # noqa: S704 - made by an XML library


routes: Sequence[BaseRoute] = [
    Route("/workflows", workflows, name="workflows"),
    Route("/workflow", workflow, methods=["GET", "POST"], name="workflow"),
]
