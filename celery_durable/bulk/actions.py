"""What each action does to a page of runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from celery_durable.arguments import (
    LONGEST_REASON,
    checked_flag,
    checked_key,
    checked_signal,
    checked_text,
)
from celery_durable.background import recovery
from celery_durable.background.cancelling import apply_commands_of
from celery_durable.background.pruning import Pruner, ages_of
from celery_durable.bulk.action import PAGE, UNFINISHED, Action
from celery_durable.bulk.result import Acted
from celery_durable.client import Client
from celery_durable.core.names import MAX_LENGTH
from celery_durable.core.pause import Pause as PauseOf
from celery_durable.core.status import FINISHED, Status
from celery_durable.engine.again import start_again
from celery_durable.engine.announce import announce_started
from celery_durable.errors import PayloadError, RunRefused
from celery_durable.store import codec, inbox, inheriting, pauses, reopening, signals, steering
from celery_durable.store.connection import Connection
from celery_durable.store.read.filters import RunFilter
from celery_durable.store.read.matching import Match
from celery_durable.store.sqlstates import Hindered
from celery_durable.workflow.inputs import checked_signal_data
from celery_durable.workflow.observing import Call, calling, trace_here
from celery_durable.workflow.registry import Registry

logger = logging.getLogger(__name__)

PAGE_OF_RETRIES = 200
"""Their inputs are read, and written for the new runs."""

PAGE_BYTES = 16 * 1024 * 1024
"""Most bytes of signals that one statement writes."""

FEWEST, QUICK, SLOW = 50, 0.5, 1.0
"""Trees that are cancelled together at first, and the seconds below and above which the next are
more, or fewer: each may be of any size.
"""

PATIENCE = 1.0
"""Seconds for which the cancel of many waits for locked tokens, before each is cancelled alone."""


STAYS = (
    "Run {} stays: a run below it is unfinished, or locked, or a run elsewhere was forked from one."
)


def reason_of(options: Mapping[str, Any]) -> str | None:
    """The option `reason`, checked."""
    reason = options.get("reason")
    return None if reason is None else checked_text("reason", reason, LONGEST_REASON)


def _refuse_misfit(registry: Registry, workflow: str, signal: str, data: object) -> None:
    """Raise `PayloadError` if no version of the workflow that is known here takes the data.

    Each run checks it once more when it takes the signal.
    """
    refused: PayloadError | None = None
    for version in registry.versions(workflow):
        found = registry.find(workflow, version)
        try:
            if found is not None:
                checked_signal_data(found, signal, data)
                return
        except PayloadError as error:
            refused = error
    if refused is not None:
        raise refused


def ids_of(runs: Sequence[Match]) -> Sequence[UUID]:
    """The ids of these runs."""
    return [run.id for run in runs]


class Cancel(Action):
    """Cancels runs, with all below them."""

    # A cancel changes nothing of a run that is rolled back already.
    statuses = UNFINISHED - {Status.COMPENSATING}
    options = frozenset({"compensate", "reason"})
    standing = frozenset({"to be cancelled"})

    def __init__(self, client: Client, found: RunFilter, options: Mapping[str, Any]) -> None:
        super().__init__(client, found, options)
        compensate = checked_flag("compensate", options.get("compensate", False))
        self._command = inbox.Cancel(compensate=compensate, reason=reason_of(options))
        self.parameters = {"flags": int(self._command.flags)}
        self.limit = FEWEST

    def together(self, runs: Sequence[Match]) -> Acted:
        """Put the commands into the inboxes, and apply them."""
        database, began = self.client.database, time.monotonic()
        with database.transaction() as connection:
            asked = inbox.send_to_many(connection, ids_of(runs), self._command)
            self.client.note_of_runs(connection, "cancel", asked, reason=self._command.reason)
        try:
            apply_commands_of(database, asked, PATIENCE)
        except Hindered:
            for run_id in asked:
                recovery.apply_unless_locked(database, run_id, lock_timeout=0.0)
        self.client.notify()
        self._keep_pace(time.monotonic() - began)
        return Acted(set(asked))

    def _keep_pace(self, seconds: float) -> None:
        if seconds > SLOW:
            self.limit = max(self.limit // 2, 1)
        elif seconds < QUICK:
            self.limit = min(2 * self.limit, PAGE)

    def alone(self, run_id: UUID) -> bool:  # noqa: ARG002 - as all have it
        """Return False: the run has ended, or was cancelled meanwhile."""
        return False


class Retry(Action):
    """Starts runs in place of those that have failed."""

    statuses = FINISHED
    # What was cancelled was not to go on, and what has completed needs a step to begin with.
    default_status = Status.FAILED
    options = frozenset({"from_step"})
    limit = PAGE_OF_RETRIES

    def __init__(self, client: Client, found: RunFilter, options: Mapping[str, Any]) -> None:
        super().__init__(client, found, options)
        self.standing = frozenset({"not tried again"})
        if found.parent is None:
            self.standing |= {"nobody's child"}
        step = options.get("from_step")
        self._from_step = None if step is None else checked_text("from_step", step, MAX_LENGTH)

    def together(self, runs: Sequence[Match]) -> Acted:
        """Start the new runs in one transaction."""
        with self.client.database.transaction() as connection:
            again = start_again(
                connection, self.client.run_factory, ids_of(runs), self._from_step, waits=False
            )
            self.client.note_of_runs(connection, "retry", again.started, what=self._from_step)
        self.client.notify()
        announce_started(again.started.values())
        return Acted(set(again.started), again.refused)

    def alone(self, run_id: UUID) -> bool:
        """Wait for whoever has locked the run."""
        self.client.retry(run_id, from_step=self._from_step)
        return True


class RetryNow(Action):
    """Has units tried now."""

    standing = frozenset({"between tries"})

    def together(self, runs: Sequence[Match]) -> Acted:
        """Change the tokens that nobody has locked."""
        with self.client.database.transaction() as connection:
            tried = steering.try_many_now(connection, ids_of(runs))
            self.client.note_of_runs(connection, "retry_now", tried)
        self.client.notify()
        return Acted(tried)

    def alone(self, run_id: UUID) -> bool:
        """Wait for whoever has locked the tokens."""
        return bool(self.client.retry_now(run_id))


class Resume(Action):
    """Sends runs a signal."""

    options = frozenset({"signal", "data", "key"})

    def __init__(self, client: Client, found: RunFilter, options: Mapping[str, Any]) -> None:
        super().__init__(client, found, options)
        self._signal = checked_signal(options.get("signal"))
        self._key = checked_key(options.get("key"))
        self._data = options.get("data")
        self.standing = frozenset({"unfinished"})
        if self._key is not None:
            self.standing |= {"signal is new"}
        self.parameters = {"signal": self._signal, "signal_key": self._key}
        if found.workflow is not None:
            _refuse_misfit(client.registry, found.workflow, self._signal, self._data)
        what, limit = f"the data of {self._signal}", client.settings.max_payload_bytes
        self._payload = codec.dumps(self._data, what=what, limit=limit)
        self.limit = max(min(PAGE, PAGE_BYTES // len(self._payload)), 1)
        self._seen: set[tuple[str, int]] = set()

    def together(self, runs: Sequence[Match]) -> Acted:
        """Put the signals into the inboxes."""
        with (
            calling(Call("signal", self._signal, runs=len(runs))),
            self.client.database.transaction() as connection,
        ):
            sent = signals.send_to_many(
                connection,
                ids_of(runs),
                self._signal,
                self._payload,
                self._key,
                trace=trace_here(),
            )
            if self.client.is_acting:
                self.client.note_of_runs(connection, "resume", sent, what=self._signal)
            self._warn(connection, [run for run in runs if run.id in sent])
        self.client.notify()
        return Acted(sent)

    def _warn(self, connection: Connection, runs: Sequence[Match]) -> None:
        """Log once for each workflow that no node of it waits for the signal."""
        for run in runs:
            if (run.workflow, run.version) in self._seen:
                continue
            self._seen.add((run.workflow, run.version))
            warning = signals.warning(connection, run.id, self._signal)
            if warning is not None:
                logger.warning("Signal for run %s, and others: %s", run.id, warning)

    def alone(self, run_id: UUID) -> bool:
        """Send it to a run that has ended meanwhile, or has it already."""
        delivery = self.client.resume(run_id, self._signal, self._data, key=self._key)
        if not delivery.accepted:
            raise RunRefused(run_id, f"Run {run_id} does not take signals: {delivery.reason}.")
        return delivery.outcome == "stored"


class Pause(Action):
    """Pauses runs."""

    options = frozenset({"reason"})
    standing = frozenset({"not paused"})

    def __init__(self, client: Client, found: RunFilter, options: Mapping[str, Any]) -> None:
        super().__init__(client, found, options)
        self._reason = reason_of(options)

    def together(self, runs: Sequence[Match]) -> Acted:
        """Pause the runs."""
        with self.client.database.transaction() as connection:
            paused = pauses.put_on_runs(connection, ids_of(runs), self._reason)
            self.client.note_of_runs(connection, "pause", paused, reason=self._reason)
        return Acted(paused)

    def alone(self, run_id: UUID) -> bool:
        """Say how a run stands that has ended meanwhile."""
        return self.client.pause(run_id, reason=self._reason)


class Unpause(Action):
    """Takes pauses of runs back."""

    # The pause of a run that has ended meanwhile is still there.
    statuses = frozenset(Status)
    standing = frozenset({"paused"})

    def together(self, runs: Sequence[Match]) -> Acted:
        """Lift the pauses, and wake what was paused."""
        with self.client.database.transaction() as connection:
            lifted = pauses.lift_from_runs(connection, ids_of(runs))
            self.client.note_of_runs(connection, "unpause", lifted)
        self.client.wake(PauseOf(), [*lifted])
        return Acted(lifted)

    def alone(self, run_id: UUID) -> bool:  # noqa: ARG002 - as all have it
        """Return False: another has unpaused the run."""
        return False


class RetryCompensation(Action):
    """Tries failed compensations again."""

    statuses = frozenset({Status.FAILED})
    default_status = Status.FAILED
    standing = frozenset({"compensation failed", "not tried again"})

    def together(self, runs: Sequence[Match]) -> Acted:
        """Let those runs compensate again that nobody has locked."""
        with self.client.database.transaction() as connection:
            locked = inheriting.lock_all(connection, ids_of(runs), waits=False)
            failed = [
                run.id
                for run in locked.values()
                if run.status is Status.FAILED and run.retried_as is None
            ]
            again = reopening.set_aside_failed_compensations(connection, failed)
            reopened = reopening.reopen_failed(connection, again, self.client.settings.queue)
            self.client.note_of_runs(connection, "retry_compensation", reopened)
        self.client.notify()
        return Acted(reopened)

    def alone(self, run_id: UUID) -> bool:
        """Wait for whoever has locked the run."""
        self.client.retry_compensation(run_id)
        return True


class Prune(Action):
    """Deletes runs, with all below them."""

    statuses = FINISHED
    options = frozenset({"older_than"})
    standing = frozenset({"old"})
    # A fork is younger than the run that it needs, which can go after it.
    oldest_first = False

    def __init__(self, client: Client, found: RunFilter, options: Mapping[str, Any]) -> None:
        super().__init__(client, found, options)
        ages = ages_of(client.settings.retention, options.get("older_than"), found.status)
        self.parameters = {status.value: ages.get(status) for status in FINISHED}
        self._ages = ages
        self._pruner = Pruner(client.database, ages)
        self._is_noted = False

    def together(self, runs: Sequence[Match]) -> Acted:
        """Delete those that nobody needs."""
        if not self._is_noted:
            self._is_noted = True
            self.client.note_prune(self._ages)
        stays = self._pruner.prune_these([run.candidate for run in runs])
        refused = {run_id: RunRefused(run_id, STAYS.format(run_id)) for run_id in stays}
        return Acted({run.id for run in runs} - stays, refused)

    def alone(self, run_id: UUID) -> bool:
        """Refuse: Postgres could not delete the page now."""
        raise RunRefused(run_id, STAYS.format(run_id))


ACTIONS: Mapping[str, type[Action]] = {
    "cancel": Cancel,
    "retry": Retry,
    "retry_now": RetryNow,
    "resume": Resume,
    "pause": Pause,
    "unpause": Unpause,
    "retry_compensation": RetryCompensation,
    "prune": Prune,
}
"""The actions by the names of the methods that do them to one run."""
