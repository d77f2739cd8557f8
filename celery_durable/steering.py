"""`Steering` moves runs on: it pauses, tries again, records by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from celery_durable.arguments import (
    LONGEST_REASON,
    LONGEST_UNIT,
    checked_run_id,
    checked_text,
    checked_whole,
    checked_workflow,
)
from celery_durable.connected import Connected, twin
from celery_durable.core.names import HIGHEST_VERSION, MAX_LENGTH
from celery_durable.core.pause import Pause, Paused
from celery_durable.core.plan import executes_step, step_names
from celery_durable.core.status import FINISHED, Status
from celery_durable.errors import (
    ConfigurationError,
    RunError,
    RunNotFound,
    RunRefused,
    UnknownWorkflow,
    nearest,
)
from celery_durable.store import codec, definitions, inheriting, pauses, reopening, steering
from celery_durable.store.connection import Connection
from celery_durable.store.inheriting import StoredRun
from celery_durable.store.read import history
from celery_durable.store.steering import Place


class Steering(Connected):
    """What an operator does to runs that do not move as they should."""

    def pause(
        self,
        run_id: UUID | str | None = None,
        *,
        workflow: str | None = None,
        version: int | None = None,
        step: str | None = None,
        reason: str | None = None,
    ) -> bool:
        """Pause a run, a workflow or one version of it, or a step: no further unit begins there.

        What is executed ends, and is recorded. Signals are kept, and times pass. `step` is the name
        of a node or of a branch, in the run or workflow if one is named. A run that is paused does
        not pause its children. Return False if exactly that was paused already.

        Raises `RunNotFound`, `RunRefused` for a run that has ended, `UnknownWorkflow`, and
        `ConfigurationError` for a step that no workflow has.
        """
        what = _pause_of(run_id, workflow, version, step)
        if reason is not None:
            checked_text("reason", reason, LONGEST_REASON)
        with self._writing(None) as connection:
            self._check_that_it_exists(connection, what)
            is_new = pauses.put(connection, what, reason)
            if is_new:
                self._note_pause(connection, "pause", what, reason)
        return is_new

    apause = twin(pause)

    def unpause(
        self,
        run_id: UUID | str | None = None,
        *,
        workflow: str | None = None,
        version: int | None = None,
        step: str | None = None,
    ) -> bool:
        """Take back the `pause` with the same arguments; return False if there was none.

        What has become due meanwhile begins, unless another pause holds it.
        """
        what = _pause_of(run_id, workflow, version, step)
        with self._writing(None) as connection:
            is_lifted = pauses.lift(connection, what)
            if is_lifted:
                self._note_pause(connection, "unpause", what, None)
        if is_lifted:
            self.wake(what, None if what.run_id is None else [what.run_id])
        return is_lifted

    aunpause = twin(unpause)

    def _note_pause(
        self, connection: Connection, name: str, what: Pause, reason: str | None
    ) -> None:
        self.note(
            connection,
            name,
            what.run_id,
            reason=reason,
            workflow=what.workflow,
            version=what.version,
            what=what.step,
        )

    def pauses(self) -> Sequence[Paused]:
        """Return what is paused, the oldest first."""
        with self.database.autocommit() as connection:
            return pauses.listed(connection)

    apauses = twin(pauses)

    def wake(self, lifted: Pause, runs: Sequence[UUID] | None) -> None:
        """Put hints for what the pause held, of these runs or of all.

        If this process dies, recovery does the rest.
        """
        reached: UUID | None = UUID(int=0)
        while reached is not None:
            with self.database.autocommit() as connection:
                reached = steering.wake(connection, lifted, runs, reached)
            self.notify()

    def retry_now(self, run_id: UUID | str, unit: str | None = None) -> Sequence[str]:
        """Have the units of a run tried now that wait for their next try, or are paused after it.

        Only `unit`, if it is named. A unit that had used up its tries gets one more. Return which
        units are tried. Raises `RunNotFound`, and `RunRefused` if there is none: it says how the
        run stands.
        """
        run_id = checked_run_id(run_id)
        if unit is not None:
            checked_text("unit", unit, LONGEST_UNIT)
        with self._writing(None) as connection:
            tried = steering.try_now(connection, run_id, unit)
            if not tried:
                raise self._refused(connection, run_id, unit, "waits for its next try")
            only = unit or (tried[0] if len(tried) == 1 else None)
            self.note(connection, "retry_now", run_id, what=only)
        return tried

    aretry_now = twin(retry_now)

    def skip(self, run_id: UUID | str, unit: str, result: object = None) -> None:
        """Record a unit as completed with `result`, and execute nothing.

        For a unit of a step, or its compensation, that is between tries, or paused. The run goes on
        as if the step had returned `result`; so the unit's own compensation may be called later.
        Raises `RunNotFound`, `PayloadError`, and `RunRefused` if the unit cannot be skipped: it
        says why.
        """
        run_id = checked_run_id(run_id)
        checked_text("unit", unit, LONGEST_UNIT)
        limit = self.settings.max_payload_bytes
        text = codec.dumps(result, what=f"the result of {unit}", limit=limit)
        with self._writing(None) as connection:
            for place in steering.places(connection, run_id, unit):
                self._check_that_it_is_a_step(connection, run_id, place)
            if not steering.skip(connection, run_id, unit, text):
                raise self._refused(connection, run_id, unit, "is between tries, or paused")
            self.note(connection, "skip", run_id, what=unit)

    askip = twin(skip)

    def retry_compensation(self, run_id: UUID | str) -> None:
        """Try the compensations of a failed run again that have failed.

        The run is compensating until they have ended, and `failed` then. Raises `RunNotFound`, and
        `RunRefused` if none has failed, or if the run was tried again by `retry`.
        """
        run_id = checked_run_id(run_id)
        with self._writing(None) as connection:
            run = inheriting.lock(connection, run_id)
            if run is None:
                raise RunNotFound(run_id)
            if run.status not in FINISHED:
                raise RunRefused(run_id, f"Run {run_id} has not ended: it is {run.status.value}.")
            if run.retried_as is not None:
                raise RunRefused(
                    run_id,
                    f"Run {run_id} was tried again as run {run.retried_as}, which answers for what"
                    " it has left.",
                )
            if not reopening.set_aside_failed_compensations(connection, [run_id]):
                raise RunRefused(run_id, f"No compensation of run {run_id} has failed.")
            reopening.reopen_failed(connection, [run_id], self.settings.queue)
            self.note(connection, "retry_compensation", run_id)

    aretry_compensation = twin(retry_compensation)

    def _read(self, connection: Connection, run_id: UUID) -> StoredRun:
        """Read the run, and lock nothing: a cancel locks tokens before it writes the run's row."""
        run = inheriting.read(connection, run_id)
        if run is None:
            raise RunNotFound(run_id)
        return run

    def _check_that_it_exists(self, connection: Connection, what: Pause) -> None:
        """Raise if a run, workflow, version or step of this name is not known."""
        workflow, version = what.workflow, what.version
        if what.run_id is not None:
            run = self._read(connection, what.run_id)
            if run.status in FINISHED:
                text = f"Run {run.id} has ended, {run.status.value}; there is nothing to pause."
                raise RunRefused(run.id, text)
            workflow, version = run.workflow, run.version
        plans = {
            key: plan
            for key, plan in {**definitions.plans(connection), **self._own_plans()}.items()
            if workflow in (None, key[0]) and version in (None, key[1])
        }
        if workflow is not None and not plans:
            names = {*self.registry.names(), *definitions.names(connection)}
            raise UnknownWorkflow(workflow, version, names)
        steps = {name for plan in plans.values() for name in step_names(plan)}
        if what.step is not None and what.step not in steps:
            where = f"workflow {workflow!r}" if workflow else "a workflow"
            raise ConfigurationError(
                f"No step of {where} is called {what.step!r}.{nearest(what.step, steps)}"
            )

    def _own_plans(self) -> dict[tuple[str, int], Mapping[str, Any]]:
        """The plans of this process, of which none may have been stored yet."""
        return {
            (name, version): found.plan.as_data()
            for name in self.registry.names()
            for version in self.registry.versions(name)
            if (found := self.registry.find(name, version)) is not None
        }

    def _check_that_it_is_a_step(self, connection: Connection, run_id: UUID, place: Place) -> None:
        run = self._read(connection, run_id)
        plan = definitions.plan(connection, run.workflow, run.version)
        is_step = plan is not None and executes_step(
            plan, place.node, place.part, is_branch=place.is_branch
        )
        if not is_step:
            raise RunRefused(
                run_id,
                f"{place.unit} of run {run_id} executes no step, so there is nothing to skip;"
                " cancel the run, or let it go on.",
            )

    def _refused(
        self, connection: Connection, run_id: UUID, unit: str | None, wanted: str
    ) -> RunError:
        """Say why nothing could be done to the unit, or to any unit, of the run."""
        run = inheriting.read(connection, run_id)
        if run is None:
            return RunNotFound(run_id)
        if run.status in FINISHED:
            more = "" if run.status is Status.COMPLETED else "; a retry starts another in its place"
            return RunRefused(run_id, f"Run {run_id} has ended, {run.status.value}{more}.")
        here = steering.places(connection, run_id, unit)
        if not here and unit is not None:
            if history.has_ended(connection, run_id, unit):
                return RunRefused(run_id, f"{unit} of run {run_id} has ended already.")
            at = ", ".join(place.unit for place in steering.places(connection, run_id, None))
            return RunRefused(run_id, f"Run {run_id} does not stand at {unit}, but at {at}.")
        stands = "; ".join(f"{place.unit} {_how_it_stands(place)}" for place in here)
        return RunRefused(run_id, f"Nothing of run {run_id} {wanted}: {stands}.")


def _pause_of(
    run_id: UUID | str | None, workflow: str | None, version: int | None, step: str | None
) -> Pause:
    """Check the arguments of `pause` and `unpause`."""
    if run_id is not None and (workflow is not None or version is not None):
        raise ConfigurationError("Name a run, or a workflow; a run has its workflow.")
    if run_id is None and workflow is None and step is None:
        raise ConfigurationError("Name a run, a workflow or a step.")
    if version is not None and workflow is None:
        raise ConfigurationError("version= is that of a workflow: name it too.")
    return Pause(
        run_id=None if run_id is None else checked_run_id(run_id),
        workflow=None if workflow is None else checked_workflow(workflow),
        version=None if version is None else checked_whole("version", version, 1, HIGHEST_VERSION),
        step=None if step is None else checked_text("step", step, MAX_LENGTH),
    )


def _how_it_stands(place: Place) -> str:
    if place.is_executing:
        return "is being executed"
    if place.flags:
        return "is about to end, for it was skipped or cancelled"
    if place.is_paused:
        return "is paused, and begins when it is unpaused"
    waits: dict[str | None, Any] = {
        "signal": "waits for a signal",
        "timer": "waits for its time",
        "child": "waits for a child run",
        "branches": "waits for its branches",
    }
    return str(waits.get(place.wait, "is about to begin"))
