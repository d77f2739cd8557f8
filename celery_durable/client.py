"""`Client` starts, reads and steers runs, with or without the workflows' code."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import EllipsisType
from uuid import UUID

from celery_durable.arguments import (
    LONGEST_REASON,
    checked_deadline,
    checked_flag,
    checked_key,
    checked_key_policy,
    checked_priority,
    checked_run_id,
    checked_seconds,
    checked_signal,
    checked_tags,
    checked_text,
    checked_whole,
    checked_workflow,
)
from celery_durable.background import pruning, recovery
from celery_durable.connected import twin
from celery_durable.core.child import NewRun
from celery_durable.core.generics import In, Out
from celery_durable.core.keys import KeyPolicy, OnConflict, ReuseKey
from celery_durable.core.names import HIGHEST_VERSION, MAX_LENGTH
from celery_durable.core.plan import Outline
from celery_durable.core.status import FINISHED, Status, StatusName
from celery_durable.database.ends import Ends
from celery_durable.engine.again import start_again
from celery_durable.engine.announce import announce_started
from celery_durable.engine.children import StartOptions, in_batches
from celery_durable.engine.keys import Started, start_with_key
from celery_durable.errors import ConfigurationError, RunError, RunNotFound
from celery_durable.process.once import once
from celery_durable.reading import Reading
from celery_durable.run import Run
from celery_durable.steering import Steering
from celery_durable.store import codec, inbox, runs, signals
from celery_durable.store.connection import Connection
from celery_durable.store.read import views
from celery_durable.store.signals import Delivery
from celery_durable.workflow.builder import Workflow
from celery_durable.workflow.inputs import checked_signal_data
from celery_durable.workflow.observing import Call, calling, trace_here

logger = logging.getLogger(__name__)

SCHEDULE_TAG = "schedule"
"""The tag that the runs of one schedule share; its value is the schedule's name."""


class Client(Reading, Steering):
    """Starts runs, reads them, and sends them signals and cancels. Nothing here needs Celery.

    Settings are read and connections are made when they are first needed.
    """

    @property
    def ends(self) -> Ends:
        """The ends of runs that this process waits for."""
        return self._ends  # type checkers take no `once` for the attribute of a protocol

    @once
    def _ends(self) -> Ends:
        return Ends(self.database)

    def start(
        self,
        workflow: Workflow[In, Out] | str,
        input: In | Mapping[str, object] | None = None,
        *,
        key: str | None = None,
        version: int | None = None,
        session: object = None,
        delay: float | timedelta | None = None,
        priority: int | None = None,
        tags: Mapping[str, str] | None = None,
        on_conflict: OnConflict = "existing",
        reuse_key: ReuseKey = "never",
        timeout: float | timedelta | None = None,
        expires: float | timedelta | None = None,
    ) -> Run[Out]:
        """Start a run and return a handle on it.

        With `session` the run starts if and when that transaction commits. `key` is unique per
        workflow: a second start with it returns the first run, with `.created` False; with
        `on_conflict="raise"` it raises `RunExists`, and with `"cancel"` it cancels the first run
        if that has not ended, and starts another, in one transaction. A run that has ended keeps
        its key, unless `reuse_key` is `"after_failure"` (it failed or was cancelled) or `"always"`:
        then the key moves to a new run.

        `delay`, `timeout` and `expires` are seconds or timedeltas. A run that has not ended
        `timeout` after its beginning (now, or `delay` later) fails with `RunTimeout` and is rolled
        back. One that no worker has begun `expires` after this start is cancelled. By default they
        are the workflow's. Raises `UnknownWorkflow`, `PayloadError` or `ConfigurationError`, having
        written nothing.
        """
        session = self._joined(session)
        policy = checked_key_policy(key, on_conflict, reuse_key)
        options = StartOptions(
            checked_key(key),
            checked_priority(priority),
            checked_tags(tags),
            checked_deadline("timeout", timeout),
            checked_deadline("expires", expires),
        )
        wait = checked_seconds("delay", delay) or 0.0
        outline = self._outline(workflow, version)
        with calling(Call("start", outline.workflow, outline.version)) as call:
            new = self.run_factory.new_run(outline, input, options)
            _refuse_to_expire_before_it_begins(new, wait)
            started = self._start(session, new, wait, policy)
            call.run_id = started.id
        if started.has_other_input:
            logger.warning(
                "Run %s of %s has the key %r already, and another input: it is returned as it is,"
                " and the input of this start is not used",
                started.id,
                outline.workflow,
                key,
            )
        if session is None and started.cancelled is not None:
            recovery.apply_unless_locked(self.database, started.cancelled)
            self.notify()
        return Run(self, started.id, created=started.created)

    astart = twin(start)

    def _start(self, session: object, new: NewRun, wait: float, policy: KeyPolicy) -> Started:
        """Write the run, and announce it once that is committed."""

        def announce() -> None:
            if started.created:
                announce_started([new])

        # With a key it may wait for another start, for which only a transaction has a bound.
        together = new.key is not None
        with self._writing(session, together=together, announce=announce) as connection:
            if new.key is None:
                runs.start(connection, [new], wait)
                started = Started(new.id)
            else:
                started = start_with_key(connection, new, wait, policy)
        return started

    def start_many(
        self,
        workflow: Workflow[In, Out] | str,
        inputs: Sequence[In | Mapping[str, object] | None],
        *,
        version: int | None = None,
        session: object = None,
        delay: float | timedelta | None = None,
        priority: int | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> list[Run[Out]]:
        """Start a run for each input in one transaction: all, or none."""
        if isinstance(inputs, str | bytes) or not isinstance(inputs, Sequence):
            raise ConfigurationError(f"inputs takes a sequence of inputs, not {inputs!r:.60}.")
        session = self._joined(session)
        options = StartOptions(None, checked_priority(priority), checked_tags(tags))
        wait = checked_seconds("delay", delay) or 0.0
        outline = self._outline(workflow, version)
        with calling(Call("start", outline.workflow, outline.version, runs=len(inputs))):
            new = [self.run_factory.new_run(outline, one, options) for one in inputs]
            for one in new[:1]:
                _refuse_to_expire_before_it_begins(one, wait)
            with self._writing(session, announce=lambda: announce_started(new)) as connection:
                for batch in in_batches(new):
                    runs.start(connection, batch, wait)
        return [Run(self, run.id, created=True) for run in new]

    astart_many = twin(start_many)

    def start_alone(
        self,
        workflow: str,
        input: object,
        *,
        key: str,
        schedule: str,
        version: int | None = None,
    ) -> UUID | None:
        """Start a run of the schedule and return its id; None while one of its runs is unfinished.

        Concurrent calls wait for each other here, so the later one sees the run that the first has
        started. A second start with the same key returns the first run, whatever its status.
        """
        checked_key(key)
        outline = self._outline(workflow, version)
        tags = checked_tags({SCHEDULE_TAG: schedule})
        with calling(Call("start", outline.workflow, outline.version)) as call:
            new = self.run_factory.new_run(outline, input, StartOptions(key, None, tags))
            call.run_id = self._start_alone(new, key, schedule)
        if call.run_id == new.id:
            announce_started([new])
        return call.run_id

    def _start_alone(self, new: NewRun, key: str, schedule: str) -> UUID | None:
        with self._writing(None) as connection:
            runs.wait_for_schedule(connection, new.workflow, schedule)
            existing = runs.with_key(connection, new.workflow, key)
            if existing is not None:
                return existing
            if runs.is_scheduled(connection, new.workflow, schedule):
                return None
            if not runs.start(connection, [new], 0.0):
                return runs.with_key(connection, new.workflow, key)
        return new.id

    def _outline(self, workflow: Workflow | str, version: int | None) -> Outline:
        """Return the outline of the workflow, which says where its runs begin."""
        if version is not None:
            checked_whole("version", version, 1, HIGHEST_VERSION)
        if isinstance(workflow, Workflow):
            return self.run_factory.outline(workflow.name, version or workflow.version)
        return self.run_factory.outline(checked_workflow(workflow), version)

    def retry(
        self,
        run_id: UUID | str,
        *,
        from_step: str | None = None,
        input: object | EllipsisType = ...,
    ) -> Run:
        """Start a run in place of one that has failed, or was cancelled; return the new one.

        The new run begins at `from_step`, a node, and inherits the results of the nodes before it;
        by default it begins at the first node that has not completed, or has been compensated
        since. A node is executed as a whole: a loop from its first iteration, a map with all items.
        The key moves to the new run; workflow, version, tags, priority and, unless another is
        passed, `input` are those of the old one, which stays as it is. Idempotency keys are new.

        Raises `RunNotFound`, and `RunRefused` for a run that has not ended, that was tried again
        before, that is the child of another, or that has nothing to inherit for what is before
        `from_step`.
        """
        run_id = checked_run_id(run_id)
        if from_step is not None:
            checked_text("from_step", from_step, MAX_LENGTH)
        with self._writing(None, announce=lambda: announce_started([new])) as connection:
            again = start_again(connection, self.run_factory, [run_id], from_step, input)
            for refused in again.refused.values():
                raise refused
            new = again.started[run_id]
            self.note(connection, "retry", run_id, what=from_step)
        return Run(self, new.id, created=True)

    aretry = twin(retry)

    def run(
        self,
        run_id: UUID | str | None = None,
        *,
        workflow: str | None = None,
        key: str | None = None,
    ) -> Run:
        """Return a handle on a run, by its id, or by its workflow and key.

        An id is looked up only when the handle is used (`RunNotFound`). A key is looked up at once:
        raises `RunError` if no run of the workflow has it.
        """
        if run_id is not None:
            return Run(self, checked_run_id(run_id))
        if workflow is None or key is None:
            raise ConfigurationError("run() takes a run id, or a workflow and a key.")
        checked_workflow(workflow)
        checked_key(key)
        with self._reading(together=False) as connection:
            found = runs.with_key(connection, workflow, key)
        if found is None:
            raise RunError(None, f"Workflow {workflow!r} has no run with key {key!r}.")
        return Run(self, found)

    arun = twin(run)

    def cancel(
        self,
        run_id: UUID | str,
        *,
        compensate: bool = False,
        reason: str | None = None,
        session: object = None,
    ) -> None:
        """Ask the run to end; a run that has ended stays as it is. Raises `RunNotFound`.

        No further unit begins. What waits ends at once. A unit that is being executed runs to its
        end, and its result is dropped. With `compensate` its result counts, and everything that has
        completed is compensated.
        """
        run_id = checked_run_id(run_id)
        if reason is not None:
            checked_text("reason", reason, LONGEST_REASON)
        command = inbox.Cancel(compensate=checked_flag("compensate", compensate), reason=reason)
        session = self._joined(session)
        with self._writing(session) as connection:
            found = views.status_of(connection, run_id)
            if found is None:
                raise RunNotFound(run_id)
            if found[0] in FINISHED:
                return
            inbox.send(connection, run_id, command)
            inbox.put_hint(connection, run_id)
            self.note(connection, "cancel", run_id, reason=reason)
        if session is None:
            recovery.apply_unless_locked(self.database, run_id)
            self.notify()

    acancel = twin(cancel)

    def resume(
        self,
        run_id: UUID | str,
        signal: str,
        data: object = None,
        *,
        key: str | None = None,
        session: object = None,
    ) -> Delivery:
        """Send the run a signal, for a wait or a suspended step. Raises `RunNotFound`.

        The signal may come before the run waits for it: it is kept until it is consumed or the run
        ends. Signals of one name are consumed in the order in which they came. Those with the same
        name and `key` count once. With `session` the signal is sent if and when that transaction
        commits.

        Raises `PayloadError` where the wait has a `schema` that `data` does not fit. A process that
        does not import the workflow cannot know: there the signal is stored, and the run refuses it
        when it comes to it, waits on, and `why` says so.
        """
        run_id = checked_run_id(run_id)
        checked_signal(signal)
        checked_key(key)
        with (
            calling(Call("signal", signal, run_id=run_id)),
            self._writing(self._joined(session)) as connection,
        ):
            payload = self._signal_text(connection, run_id, signal, data)
            delivery = signals.send(connection, run_id, signal, payload, key, trace=trace_here())
            if delivery is None:
                raise RunNotFound(run_id)
            if self.is_acting and delivery.outcome == "stored":
                self.note(connection, "resume", run_id, what=signal)
        if delivery.warning is not None:
            logger.warning("Signal for run %s: %s", run_id, delivery.warning)
        return delivery

    aresume = twin(resume)

    def _signal_text(self, connection: Connection, run_id: UUID, signal: str, data: object) -> str:
        """The data of a signal as JSON text, as an instance of the model that it must fit."""
        if self.registry.has_model_of(signal):
            found = views.workflow_of(connection, run_id)
            workflow = self.registry.find(*found) if found else None
            data = data if workflow is None else checked_signal_data(workflow, signal, data)
        limit = self.settings.max_payload_bytes
        return codec.dumps(data, what=f"the data of {signal}", limit=limit)

    def recover(self) -> int:
        """Reap the claims of dead workers, send lost hints again, and return how many tokens moved.

        It is safe at any time and anywhere, also many times at once. Relays do it too.
        """
        moved = recovery.recover(self.database)
        if moved:
            self.notify()
        return moved

    arecover = twin(recover)

    def prune(
        self,
        *,
        older_than: float | timedelta | None = None,
        status: Status | StatusName | None = None,
        dry_run: bool = False,
    ) -> int:
        """Delete runs that ended long ago, with all runs below them, and return how many.

        `older_than`, in seconds, counts from the end of the run at the top of a tree; without it
        `durable_retention` says how long runs are kept. `status` is one in which runs end. A tree
        stays while a run in it is unfinished or a run outside of it was forked from one in it. With
        `dry_run` nothing is deleted. It works in small transactions and is safe at any time, also
        many times at once. Relays do it too, by `durable_retention`. Raises `ConfigurationError`.
        """
        ages = pruning.ages_of(self.settings.retention, older_than, status)
        if checked_flag("dry_run", dry_run):
            return pruning.count(self.database, ages).total()
        self.note_prune(ages)
        return sum(pruning.Pruner(self.database, ages).prune())

    aprune = twin(prune)

    def note_prune(self, ages: pruning.Ages) -> None:
        """Note before the first run is deleted who deletes runs, if somebody has said so."""
        if not self.is_acting:
            return
        what = ", ".join(f"{status.value} longer ago than {age}" for status, age in ages.items())
        with self._writing(None) as connection:
            self.note(connection, "prune", None, what=what)


def _refuse_to_expire_before_it_begins(new: NewRun, delay: float) -> None:
    if new.expires is not None and new.expires <= delay:
        raise ConfigurationError(
            f"A run of {new.workflow!r} with delay={delay:g} would begin after it has expired:"
            f" expires={new.expires:g}, which counts from the start too, must be longer."
        )
