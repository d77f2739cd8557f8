"""What remote control asks of a worker: `celery inspect durable`, and to pause a workflow.

A command runs in the event loop of the worker's main process, which must not wait for Postgres for
long: it asks in a thread. Celery's panel is one for all apps of a process.
https://docs.celeryq.dev/en/stable/userguide/workers.html#writing-your-own-remote-control-commands
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from typing import Any

from celery.worker.control import control_command, inspect_command

from celery_durable.core.finding import Unknown
from celery_durable.core.fleet import WorkerInfo
from celery_durable.settings import Settings
from celery_durable.store.read import fleet
from celery_durable.worker import process
from celery_durable.worker.bootsteps import RelayStep
from celery_durable.worker.examination import Asked
from celery_durable.worker.host import Host

PATIENCE = 2.0
"""Seconds that a worker's main process waits for Postgres at most."""

SECRETS = ("database_url", "direct_database_url")


def register() -> None:
    """Add the commands to Celery's panel; to do so again changes nothing."""
    inspect_command(name="durable", default_timeout=2 * PATIENCE)(inspect)
    taken: Mapping[str, Any] = {
        "args": [("workflow", str), ("version", int)],
        "signature": "<workflow> [version]",
        "default_timeout": 2 * PATIENCE,
    }
    control_command(name="durable_pause_workflow", **taken)(pause_workflow)
    control_command(name="durable_unpause_workflow", **taken)(unpause_workflow)


def inspect(state: Any, **_: Any) -> Mapping[str, Any]:
    """What durable runs this worker executes, its relay, and its settings."""
    return _answered(state, _seen)


def pause_workflow(
    state: Any, workflow: str, version: int | None = None, **_: Any
) -> Mapping[str, Any]:
    """Pause a workflow, or one version of it: no further unit of its runs begins."""

    def pause(durable: Any) -> Mapping[str, Any]:
        durable.pause(workflow=workflow, version=version, reason="remote control")
        return {"ok": f"{_named(workflow, version)} is paused"}

    return _answered(state, lambda durable, _: pause(durable))


def unpause_workflow(
    state: Any, workflow: str, version: int | None = None, **_: Any
) -> Mapping[str, Any]:
    """Unpause a workflow, or one version of it."""

    def unpause(durable: Any) -> Mapping[str, Any]:
        durable.unpause(workflow=workflow, version=version)
        return {"ok": f"{_named(workflow, version)} goes on"}

    return _answered(state, lambda durable, _: unpause(durable))


def _named(workflow: str, version: int | None) -> str:
    return workflow if version is None else f"{workflow} version {version}"


def _answered(state: Any, answer: Callable[[Host, Any], Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the answer, or why there is none."""
    durable = getattr(state.app, "durable", None)
    if not isinstance(durable, Host):
        return {"error": "This worker has no durable workflows"}
    found = Asked(partial(answer, durable, state), within=PATIENCE).answer()
    return {"error": found.why} if isinstance(found, Unknown) else found


def _seen(durable: Host, state: Any) -> Mapping[str, Any]:
    node_id = process.surroundings(durable.app).node_id
    with durable.database.read_only() as connection:
        present = fleet.workers(connection, node_id)
    return {
        "processes": [_process(worker) for worker in present],
        "relay": _relay(state),
        "settings": _settings(durable.settings),
    }


def _process(worker: WorkerInfo) -> Mapping[str, Any]:
    return {
        "pid": worker.pid,
        "state": worker.state.value,
        "slots": worker.slots,
        "busy": worker.busy,
        "queues": sorted(worker.queues),
        "knows": sorted(worker.knows),
        "renewed_at": worker.renewed_at.isoformat(),
        "executing": [
            {
                "run": str(one.run_id),
                "workflow": one.workflow,
                "unit": one.unit,
                "since": one.since.isoformat(),
            }
            for one in worker.executing
        ],
    }


def _relay(state: Any) -> Mapping[str, Any]:
    """What the boot step says of its relay."""
    steps = [s for s in state.consumer.controller.steps if isinstance(s, RelayStep)]
    told: Mapping[str, Any] = steps[0].info(steps[0]) if steps else {}
    relay: Mapping[str, Any] = told.get("durable_relay", {"running": False})
    return relay


def _settings(settings: Settings) -> Mapping[str, Any]:
    """The settings without those that may hold a password."""
    found = {field.name: getattr(settings, field.name) for field in fields(Settings)}
    shown = {name: value for name, value in found.items() if name not in SECRETS}
    return {name: _plain(value) for name, value in shown.items()}


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | None) else repr(value)
