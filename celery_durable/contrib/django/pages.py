"""What the page of a run in the admin shows, and what its forms do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from celery_durable.durable import Durable
from celery_durable.errors import ConfigurationError
from celery_durable.view.fitting import fitting

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


def act(durable: Durable, run_id: UUID, name: str, form: Mapping[str, Any]) -> None:
    """Do it to the run. Raises `DurableError`, or `ValueError` for data that is no JSON."""
    match name:
        case "cancel":
            durable.cancel(run_id, compensate=bool(form.get("compensate")))
        case "retry":
            durable.retry(run_id, from_step=form.get("from_step") or None)
        case "pause":
            durable.pause(run_id)
        case "unpause":
            durable.unpause(run_id, step=form.get("step") or None)
        case "resume":
            data = form.get("data") or "null"
            durable.resume(run_id, form.get("signal", ""), json.loads(data))
        case _:
            raise ConfigurationError(f"Nothing is called {name!r}; there is {', '.join(ACTIONS)}.")


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
    """Return a value as JSON to read; what JSON has no form for is written as Python would."""
    text = json.dumps(value, indent=2, default=str, ensure_ascii=False)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]} ..."
