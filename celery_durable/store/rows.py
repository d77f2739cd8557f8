"""Rows -> values of the core, and values of the core -> JSON text."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from typing import Any, assert_never
from uuid import UUID

from celery_durable.core.claim import Claim, RunFacts
from celery_durable.core.failure import FailedAttempt
from celery_durable.core.status import Status
from celery_durable.core.token import (
    Flags,
    ForBranches,
    ForChild,
    ForOperator,
    ForSignal,
    ForTimer,
    Token,
    Wait,
)
from celery_durable.errors import ErrorRecord
from celery_durable.store.connection import Row


def error_text(error: ErrorRecord | None) -> str | None:
    """The error as JSON text."""
    return None if error is None else json.dumps(asdict(error))


def error_of(text: str | None) -> ErrorRecord | None:
    """The error that `error_text` wrote."""
    return None if text is None else ErrorRecord(**json.loads(text))


def failures_text(failures: tuple[FailedAttempt, ...]) -> str | None:
    """Failed attempts as JSON text; None for none, so that the hot row stays small."""
    return (
        json.dumps([asdict(f) for f in failures], default=datetime.isoformat) if failures else None
    )


def failures_of(text: str | None) -> tuple[FailedAttempt, ...]:
    """The failed attempts that `failures_text` wrote."""
    return tuple(map(_failure, json.loads(text))) if text else ()


def failure_of(text: str | None) -> FailedAttempt | None:
    """A failed attempt, from its JSON text."""
    return _failure(json.loads(text)) if text else None


def _failure(stored: dict[str, Any]) -> FailedAttempt:
    return FailedAttempt(
        attempt=stored["attempt"],
        error=ErrorRecord(**stored["error"]),
        started_at=datetime.fromisoformat(stored["started_at"]),
        failed_at=datetime.fromisoformat(stored["failed_at"]),
    )


def assignees_text(assignees: tuple[str, ...] | None) -> str | None:
    """Who may answer, as JSON text; None where the token waits for no person."""
    return None if assignees is None else json.dumps([*assignees])


def wait_of(row: Row) -> Wait | None:
    """What the token of this row waits for."""
    match row["wait"]:
        case "signal":
            return ForSignal(row["awaits"])
        case "timer":
            return ForTimer()
        case "child":
            return ForChild(row["child_run_id"])
        case "branches":
            return ForBranches(row["remaining"], row["failed"], row["total"])
        case "operator":
            return ForOperator()
        case _:
            return None


def kind_of(wait: Wait | None) -> str | None:
    """The word for the wait in the token's row."""
    match wait:
        case None:
            return None
        case ForSignal():
            return "signal"
        case ForTimer():
            return "timer"
        case ForChild():
            return "child"
        case ForBranches():
            return "branches"
        case ForOperator():
            return "operator"
        case _:
            assert_never(wait)


def token_of(row: Row, **texts: str | None) -> Token:
    """The token of the row; `texts` are its JSON texts, which not every statement reads."""
    return Token(
        id=row["id"],
        run_id=row["run_id"],
        node=row["node"],
        unit=row["unit"],
        attempt=row["attempt"],
        crashes=row["crashes"],
        flags=Flags(row["flags"]),
        rollback=Status(row["rollback"]) if row["rollback"] else None,
        failures=failures_of(row["failures"]),
        parent=row["parent_id"],
        part=row["part"],
        position=row["position"],
        wait=wait_of(row) if row["wait"] else None,
        **texts,
    )


def claim_of(row: Row, fence: UUID, worker: UUID) -> Claim:
    """The claim that the row describes, which the claim's statement has returned."""
    return Claim(
        token=token_of(row, input=row["item"], snapshot=row["snapshot"], answer=row["answer"]),
        run=RunFacts(
            id=row["run_id"],
            workflow=row["workflow"],
            version=row["version"],
            status=Status(row["status"]),
            key=row["key"],
            priority=row["priority"],
            tags=row["tags"],
            input=row["input"],
            error=error_of(row["error"]),
            parent_token=row["parent_token"],
            root_run_id=row["root_run_id"],
            depth=row["depth"],
            trace=row["trace"],
        ),
        fence=fence,
        worker=worker,
        queue=row["queue"],
        priority=row["token_priority"],
        seen_at=row["now"],
        time_limit=row["time_limit"],
        due_in=max(float(row["due_in"] or 0.0), 0.0),
        is_due=row["due_in"] is not None and row["due_in"] <= 0,
        waited=float(row["waited"]),
        waiting_since=row["waiting_since"],
        draining=row["draining"],
        has_commands=row["has_commands"],
        is_first=row["first_claim"],
    )
