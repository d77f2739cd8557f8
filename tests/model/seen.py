"""The status of a run as users see it, said once more without SQL."""

from __future__ import annotations

from celery_durable.core.status import Status
from tests.model.stage import Record, Tables


def seen_status(tables: Tables, run: Record) -> Status:
    """The status that `status()` reports of the run."""
    stored = Status(run["status"])
    tokens = [token for token in tables.token if token["run_id"] == run["id"]]
    if stored is not Status.RUNNING or any(_moves(tables, run, token) for token in tokens):
        return stored
    waits = {token["wait"] for token in tokens}
    if "operator" in waits or any(_is_paused(tables, run, token) for token in tokens):
        return Status.PAUSED
    if waits & {"signal", "child"}:
        return Status.SUSPENDED
    return Status.SLEEPING if "timer" in waits else Status.RUNNING


def _moves(tables: Tables, run: Record, token: Record) -> bool:
    if token["claimed_by"] is not None:
        return True
    is_ready = token["wait"] is None or (token["wait"] == "branches" and not token["remaining"])
    return is_ready and not _is_paused(tables, run, token)


def _is_paused(tables: Tables, run: Record, token: Record) -> bool:
    if token["claimed_by"] is not None or token["flags"]:
        return False
    return any(
        pause["run_id"] in (None, run["id"])
        and pause["workflow"] in (None, run["workflow"])
        and pause["version"] in (None, run["version"])
        and pause["step"] in (None, token["node"], token["part"])
        for pause in tables.pause
    )
