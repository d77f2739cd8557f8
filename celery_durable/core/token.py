"""Where a run stands."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from uuid import UUID

from celery_durable.core.failure import FailedAttempt
from celery_durable.core.status import Status


class Flags(IntFlag):
    """What others ask of a token; raised without its claim, lowered only by a commit."""

    NONE = 0
    CANCEL = 1
    COMPENSATE = 2
    """With CANCEL: let the unit in hand end, then undo everything completed."""


@dataclass(frozen=True, slots=True)
class Token:
    """The one place of a linear run: a unit, the try it is at, and what has been asked of it.

    `attempt` counts from 1. `crashes` counts workers that died while they executed this unit.
    `rollback` is None on the way forward; on the way back it is the status the run ends with, and
    `unit` is the compensation in hand.
    """

    id: UUID
    run_id: UUID
    node: str
    unit: str
    attempt: int = 1
    crashes: int = 0
    flags: Flags = Flags.NONE
    rollback: Status | None = None
    failures: tuple[FailedAttempt, ...] = ()
