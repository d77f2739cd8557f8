"""What the page of a run in the admin shows, and what its forms do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from celery_durable.arguments import checked_signal
from celery_durable.core.status import FINISHED
from celery_durable.durable import Durable
from celery_durable.errors import ConfigurationError
from celery_durable.view.document import as_json
from celery_durable.view.fitting import fitting
from celery_durable.view.formatting import shortened
from celery_durable.view.signalling import read_signalling
from celery_durable.view.typed import json_of

ACTIONS = {
    "cancel": "Cancel",
    "retry": "Retry",
    "pause": "Pause",
    "unpause": "Unpause",
    "resume": "Send a signal",
}
"""What can be done to a run, and what its button says."""

LONGEST_SHOWN = 10_000
"""Most characters of one value on a page."""

MOST_UNITS = 500
"""Most units of the journal on a page."""


def act(durable: Durable, run_id: UUID, name: str, form: Mapping[str, Any], who: str) -> str | None:
    """Do it to the run; return what to warn of. Raises `DurableError` if nothing was done."""
    match name:
        case "cancel":
            status = durable.status(run_id).status
            _check(status not in FINISHED, f"There is nothing to cancel: it has ended, {status}.")
            durable.cancel(run_id, compensate=bool(form.get("compensate")))
        case "retry":
            durable.retry(run_id, from_step=form.get("from_step") or None)
        case "pause":
            _check(durable.pause(run_id), "It is paused already.")
        case "unpause":
            _check(durable.unpause(run_id, step=form.get("step") or None), "That is not paused.")
        case "resume":
            return _resume(durable, run_id, form, who)
        case _:
            raise ConfigurationError(f"Nothing is called {name!r}; there is {', '.join(ACTIONS)}.")
    return None


def _resume(durable: Durable, run_id: UUID, form: Mapping[str, Any], who: str) -> str | None:
    signal = checked_signal(form.get("signal", ""))
    try:
        data = json_of(form.get("data") or "null")
    except ValueError as error:
        raise ConfigurationError(f"The data is not JSON: {error}.") from error
    refusal = read_signalling(durable, run_id, signal).why_not(who)
    _check(refusal is None, refusal or "")
    delivery = durable.resume(run_id, signal, data)
    _check(delivery.accepted, f"It does not take signals: {delivery.reason}.")
    return delivery.warning


def _check(is_done: bool, otherwise: str) -> None:  # noqa: FBT001 - what was returned
    if not is_done:
        raise ConfigurationError(otherwise)


def facts_of(durable: Durable, run_id: UUID) -> dict[str, Any]:
    """Return what the template shows of a run. Raises `RunNotFound`."""
    status = durable.status(run_id)
    why = durable.why(run_id)
    return {
        "run": status,
        "input": shown(status.input),
        "result": shown(status.result),
        "units": [
            {"entry": entry, "result": shown(entry.result)}
            for entry in durable.history(run_id, limit=MOST_UNITS)
        ],
        "why": str(why),
        "acts": durable.actions(run_id),
        "offered": fitting(status, durable.pauses()),
    }


def shown(value: object) -> str:
    """Return a value as JSON to read."""
    return shortened(as_json(value), LONGEST_SHOWN)
