"""Says which actions fit how a run stands, and what each of them may be about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from celery_durable.core.pause import Paused
from celery_durable.core.status import FINISHED, Status
from celery_durable.store.read.units import UnitInHand
from celery_durable.store.read.views import RunSnapshot

Choices: TypeAlias = Mapping[str, Sequence[str]]
"""The values of those arguments of an action that have few."""


def fitting(run: RunSnapshot, pauses: Sequence[Paused]) -> Mapping[str, Choices]:
    """The methods of `Run` that fit now, each with its choices; `pauses` are all there are."""
    if run.status in FINISHED:
        return dict(_of_ended(run))
    paused = [one.pause.step or "" for one in pauses if one.pause.run_id == run.run_id]
    return dict(_of_unfinished(run, paused))


def _of_unfinished(run: RunSnapshot, paused: Sequence[str]) -> Iterator[tuple[str, Choices]]:
    if between := [unit.unit for unit in run.units if _is_between_tries(unit)]:
        yield "retry_now", {"unit": between}
        yield "skip", {"unit": between}
    if paused:
        yield "unpause", {"step": paused}
    if "" not in paused:
        yield "pause", {"step": run.steps}
    if run.status is Status.COMPENSATING:
        return
    yield "resume", {"signal": run.awaiting}
    yield "cancel", {}


def _of_ended(run: RunSnapshot) -> Iterator[tuple[str, Choices]]:
    if run.retried_as is not None:
        return
    if run.parent_run_id is None:
        yield "retry", {"from_step": run.steps}
    if run.compensation_errors and run.status is Status.FAILED:
        yield "retry_compensation", {}


def _is_between_tries(unit: UnitInHand) -> bool:
    waits_for_try = unit.failure is not None and unit.waits_for is None and not unit.is_executing
    return waits_for_try or unit.waits_for == "operator"
