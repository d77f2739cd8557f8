"""Inputs, results and the data of signals as files: whole, however long."""

from __future__ import annotations

from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from celery_durable.errors import ConfigurationError, RunNotFound
from celery_durable.store.read import received, results, views
from celery_durable.view.document import as_json
from celery_durable.view.typed import MOST_DIGITS_OF_ID, whole_of
from celery_durable.web.render import durable, error_page

WHOLE = 2**31 - 1
"""More bytes than Postgres keeps of one value."""


def input(request: Request) -> Response:  # noqa: A001 - what it answers with
    """The input of a run."""
    run_id: UUID = request.path_params["run_id"]
    with durable(request).database.autocommit() as connection:
        found, _ = views.input_of(connection, run_id, WHOLE)
    if found is None:
        raise RunNotFound(run_id)
    return _file(f"input-{run_id}.json", as_json(found[0]))


def result(request: Request) -> Response:
    """The result of a completed run. Raises `RunFailed`, `RunCancelled` or `RunNotFound`."""
    run_id: UUID = request.path_params["run_id"]
    found = durable(request).outcome(run_id)
    if not isinstance(found, tuple):
        raise ConfigurationError(f"Run {run_id} has no result yet: it is {found.value}.")
    return _file(f"result-{run_id}.json", as_json(found[0]))


def unit_result(request: Request) -> Response:
    """The result of a completed unit, or node."""
    run_id: UUID = request.path_params["run_id"]
    unit = request.query_params.get("unit", "")
    with durable(request).database.read_only() as connection:
        found = results.of_unit(connection, run_id, unit)
    if found is None:
        return error_page(request, 404, f"No unit {unit!r} of run {run_id} has completed.")
    return _file(f"unit-{run_id}.json", as_json(found[0]))


def signal(request: Request) -> Response:
    """The data of a signal."""
    run_id: UUID = request.path_params["run_id"]
    number, found = whole_of(request.path_params["number"], MOST_DIGITS_OF_ID), None
    if number is not None:
        with durable(request).database.autocommit() as connection:
            found = received.data(connection, run_id, number)
    if found is None:
        return error_page(request, 404, f"No such signal has come to run {run_id}.")
    return _file(f"signal-{number}.json", found)


def _file(name: str, text: str) -> Response:
    """A file that a browser saves, and never shows: what is in it was written by others."""
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text, media_type="application/json", headers=headers)
