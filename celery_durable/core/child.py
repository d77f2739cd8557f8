"""Runs that start, and child runs that are undone."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from celery_durable.core.status import Status
from celery_durable.core.token import ForChild
from celery_durable.core.values import value
from celery_durable.errors import ErrorRecord


@value(frozen=True, slots=True)
class Parent:
    """The parent of a child: its token, its run, and the run that the whole tree began with.

    `depth` counts the runs above the parent.
    """

    token_id: UUID
    run_id: UUID
    root_run_id: UUID
    depth: int


@value(frozen=True, slots=True)
class NewRun:
    """A run that starts. `input` and `trace` are JSON text; `timeout` and `expires` are seconds."""

    id: UUID
    token_id: UUID
    fence: UUID
    workflow: str
    version: int
    first_node: str
    first_unit: str
    queue: str
    input: str
    first_position: int | None = None
    time_limit: float | None = None
    key: str | None = None
    priority: int | None = None
    token_priority: int | None = None
    tags: Mapping[str, str] | None = None
    timeout: float | None = None
    expires: float | None = None
    parent: Parent | None = None
    forked_from: UUID | None = None
    trace: str | None = None


@value(frozen=True, slots=True)
class ReopenedRun:
    """A completed child that is undone: its run gets a token again, which is rolled back."""

    id: UUID
    token_id: UUID
    fence: UUID
    queue: str


Child = NewRun | ReopenedRun
"""What a unit that is a child run waits for from its commit on."""


def child_failed(
    unit: str, wait: ForChild, status: Status, error: ErrorRecord | None
) -> ErrorRecord:
    """Make the failure of the parent's unit: the child's error is in it."""
    ended = "was cancelled" if status is Status.CANCELLED else f"has {status}"
    why = f": {error.type}: {error.message}" if error and (error.type or error.message) else ""
    at = f" at {error.unit}" if error and error.unit else ""
    return ErrorRecord(
        "ChildFailed",
        f"the child run {wait.run_id} {ended}{at}{why}",
        error.traceback if error else "",
        unit,
    )
