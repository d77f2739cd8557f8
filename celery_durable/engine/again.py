"""Makes the runs that go on with the work of others that have failed, or were cancelled.

Several are made together, in as many statements as one: each is read, judged and started beside the
others, and what one is refused for says nothing of them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Any
from uuid import UUID

from celery_durable.core.child import NewRun
from celery_durable.core.names import RETURNS
from celery_durable.core.plan import Outline
from celery_durable.core.status import FINISHED
from celery_durable.engine.children import RunFactory, StartOptions, in_batches
from celery_durable.errors import (
    ConfigurationError,
    DurableError,
    RunNotFound,
    RunRefused,
    nearest,
)
from celery_durable.store import definitions, inheriting, runs
from celery_durable.store.connection import Connection
from celery_durable.store.inheriting import Heir, StoredRun

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Again:
    """What became of runs that were to be tried again: `started` are the new ones.

    Of what is neither in `started` nor in `refused`, another transaction has locked the row.
    """

    started: Mapping[UUID, NewRun]
    refused: Mapping[UUID, DurableError]


@dataclass(frozen=True, slots=True)
class _Ended:
    """A run that is to be tried again, with all that decides where the new one begins."""

    run: StoredRun
    plan: Mapping[str, Any] | None
    kept: Sequence[str]
    not_undone: str | None


def start_again(
    connection: Connection,
    run_factory: RunFactory,
    run_ids: Sequence[UUID],
    from_step: str | None,
    input: object | EllipsisType = ...,
    *,
    waits: bool = True,
) -> Again:
    """Start runs in place of those that have ended; each inherits what it need not do again.

    That is what completed before `from_step`. All in the transaction of `connection`: the keys move
    with it. Of two at once, the second waits for the first and is refused; unless it `waits`, it
    leaves out what the first has locked. A run is tried again once: the new one answers for what it
    has inherited, and may have undone it.
    """
    locked = inheriting.lock_all(connection, run_ids, waits=waits)
    refused: dict[UUID, DurableError] = {}
    if waits:
        refused |= {one: RunNotFound(one) for one in run_ids if one not in locked}
    started: dict[UUID, NewRun] = {}
    heirs: list[Heir] = []
    for one in _read(connection, locked):
        try:
            outline, inherited = _begin_with(one, from_step)
        except DurableError as error:
            refused[one.run.id] = error
            continue
        new = _new_run(run_factory, one.run, outline, input)
        started[one.run.id] = new
        heirs.append(Heir(new.id, one.run.id, inherited, _signals_of(one.plan, inherited)))
    if started:
        inheriting.mark_retried(connection, heirs)
        inheriting.inherit(connection, heirs)
        for batch in in_batches([*started.values()]):
            runs.start(connection, batch, 0.0)
    return Again(started, refused)


def _read(connection: Connection, locked: Mapping[UUID, StoredRun]) -> Sequence[_Ended]:
    """Read what decides on these runs; nobody changes it while they are locked."""
    kept = inheriting.kept_nodes(connection, locked)
    not_undone = inheriting.not_undone(connection, locked)
    plans = {
        version: definitions.plan(connection, *version)
        for version in {(run.workflow, run.version) for run in locked.values()}
    }
    return [
        _Ended(
            run,
            plans[run.workflow, run.version],
            kept.get(run.id, ()),
            not_undone.get(run.id),
        )
        for run in locked.values()
    ]


def _begin_with(ended: _Ended, from_step: str | None) -> tuple[Outline, Sequence[str]]:
    """Return where a new run begins, and the nodes before that. Raises if there can be none."""
    run = ended.run
    if run.status not in FINISHED:
        raise RunRefused(run.id, f"Run {run.id} has not ended: it is {run.status.value}.")
    if run.retried_as is not None:
        raise RunRefused(
            run.id, f"Run {run.id} was tried again as run {run.retried_as}; retry that one."
        )
    if run.parent_run_id is not None:
        raise RunRefused(
            run.id,
            f"Run {run.id} is a child of run {run.parent_run_id}, which undoes it; retry that one.",
        )
    if ended.plan is None:
        raise RunRefused(run.id, f"The plan of {run.workflow} {run.version} is not stored.")
    names = [node["name"] for node in ended.plan["nodes"]]
    first = from_step
    if first is not None:
        _index(names, first)
    else:
        _refuse_to_repeat(ended.not_undone, run.id)
        first = _first_not_kept(run, names, ended.kept, has_returns=bool(ended.plan["returns"]))
    inherited = names if first == RETURNS else names[: _index(names, first)]
    missing = [name for name in inherited if name not in ended.kept]
    if missing:
        raise RunRefused(
            run.id,
            f"Run {run.id} cannot go on from {first}: {missing[0]} has not completed, or has been"
            f" compensated. Retry from {missing[0]}, or an earlier step.",
        )
    again = [name for name in ended.kept if name not in inherited]
    if again and from_step is None:
        logger.warning(
            "Run %s is tried again from %s; what had completed, and was not undone, is executed"
            " again too: %s",
            run.id,
            first,
            ", ".join(again),
        )
    return Outline.of(ended.plan, first), inherited


def _signals_of(plan: Mapping[str, Any] | None, inherited: Sequence[str]) -> dict[str, str]:
    """The signals that inherited nodes have waited for, by the node."""
    nodes = () if plan is None else plan["nodes"]
    return {
        node["name"]: node["signal"]
        for node in nodes
        if "signal" in node and node["name"] in inherited
    }


def _new_run(
    run_factory: RunFactory, ended: StoredRun, outline: Outline, input: object | EllipsisType
) -> NewRun:
    options = StartOptions(
        key=ended.key,
        priority=ended.priority,
        tags=ended.tags,
        timeout=ended.timeout,
        forked_from=ended.id,
    )
    if isinstance(input, EllipsisType):
        return run_factory.new_run_of(outline, ended.input, options)
    return run_factory.new_run(outline, input, options)


def _refuse_to_repeat(not_undone: str | None, run_id: UUID) -> None:
    if not_undone is not None:
        raise RunRefused(
            run_id,
            f"The compensation of {not_undone} of run {run_id} has failed, so what it did stands,"
            " and would be done again. Retry its compensation first, or name the step to begin"
            " with.",
        )


def _first_not_kept(
    ended: StoredRun, names: Sequence[str], kept: Sequence[str], *, has_returns: bool
) -> str:
    """Return the first node whose work is not there to be inherited."""
    first = next((name for name in names if name not in kept), None)
    if first is not None:
        return first
    if has_returns and ended.status.value != "completed":
        return RETURNS
    raise RunRefused(
        ended.id, f"All steps of run {ended.id} have completed; name the one to begin with."
    )


def _index(names: Sequence[str], step: str) -> int:
    if step not in names:
        raise ConfigurationError(f"No step of the run is called {step!r}.{nearest(step, names)}")
    return names.index(step)
