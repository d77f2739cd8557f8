"""Runs that shall start, and child runs that shall be undone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Parent:
    """Who starts a child: its token, its run, and the run that the whole tree began with.

    `depth` counts the runs above the parent.
    """

    token_id: UUID
    run_id: UUID
    root_run_id: UUID
    depth: int


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run that shall start. `input` is JSON text."""

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
    parent: Parent | None = None


@dataclass(frozen=True, slots=True)
class ReopenedRun:
    """A completed child that shall be undone: its run gets a token again, which is rolled back."""

    id: UUID
    token_id: UUID
    fence: UUID
    queue: str


Child = NewRun | ReopenedRun
"""What a unit that is a child run waits for from its commit on."""
