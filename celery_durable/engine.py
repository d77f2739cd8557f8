"""The engine: claim a token, execute its unit, decide, commit.

One message walks through here. `advance` claims the token that a hint names; then, for as long as
the commit leaves the claim with us, it executes the unit in hand and settles what becomes of the
token. A message may be lost, doubled or late: a claim that is not to be had ends it.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import EllipsisType
from typing import Any
from uuid import UUID, uuid4

from celery_durable.core.claim import Claim
from celery_durable.core.event import Crashed, Flagged
from celery_durable.core.failure import ErrorRecord
from celery_durable.core.names import compensated_by
from celery_durable.core.plan import ChildNode
from celery_durable.core.status import Status
from celery_durable.core.token import Flags
from celery_durable.errors import DatabaseUnavailable
from celery_durable.knowledge import Knowledge
from celery_durable.launching import Given, Launcher, parent_of
from celery_durable.liveness import Liveness
from celery_durable.recovery import apply_commands
from celery_durable.settings import Settings
from celery_durable.settle import Budget, Settler, Turn
from celery_durable.store import codec, journal, runs, tokens
from celery_durable.store.connection import Connection
from celery_durable.store.database import Database
from celery_durable.store.past import Past
from celery_durable.store.tokens import Refusal
from celery_durable.waiting import Lookout
from celery_durable.workflow.context import Context
from celery_durable.workflow.execute import Execution, Shell, execute
from celery_durable.workflow.failures import failure_of, timed_out
from celery_durable.workflow.registry import Registry

logger = logging.getLogger(__name__)

HAND_OVER_AFTER = 0.1
"""Seconds until the run of a worker that stops is offered to others: it may still be listening."""

BILLIARD_EXIT = 256

PUT_BACK_FIRST, PUT_BACK_MAXIMUM = 1.0, 30.0
"""Seconds until a run that this worker cannot go on with is offered to another; then twice that."""

Timeouts = tuple[type[BaseException], ...]


class Engine:
    """Executes units. One per process; its threads share it.

    `timeouts` is what the process's pool raises in a task whose soft time limit has passed.
    """

    def __init__(
        self,
        database: Database,
        registry: Registry,
        settings: Settings,
        liveness: Liveness,
        notify: Callable[[], None],
        *,
        timeouts: Timeouts = (),
    ) -> None:
        self._database = database
        self._settings = settings
        self._liveness = liveness
        self._settler = Settler(database, settings, notify)
        self._knowledge = Knowledge(database, registry)
        self._launcher = Launcher(database, registry, settings)
        self._shell = Shell(self._encode, self._spawn, timeouts)
        self._lookout = Lookout(database, self._shell)

    def advance(self, token_id: UUID, limit: float | EllipsisType | None = ...) -> None:
        """Follow a hint as far as it goes. A race that was lost is not an error.

        `limit` is the message's soft time limit. A hint that was put while the token stood
        elsewhere has another than the unit in hand: that goes into a message of its own.
        """
        try:
            with self._liveness.working_on(token_id):
                claim = self._claim(token_id)
                if claim is None:
                    return
                if limit is ... or limit == claim.time_limit:
                    self._go_on(claim)
                else:
                    self._settler.put_back(claim)
        except DatabaseUnavailable as error:
            logger.warning("Token %s is left to recovery: %s", token_id, error)

    def _go_on(self, claim: Claim) -> None:
        """Unit after unit, for as long as the claim is ours and the budget lasts."""
        budget = Budget(
            self._settings.inline_steps, time.monotonic() + self._settings.inline_seconds
        )
        in_hand: Claim | None = claim
        began = time.monotonic()
        try:
            while in_hand is not None:
                claim = in_hand
                budget = budget.after_one()
                in_hand = self._take_turn(claim, budget)
        except DatabaseUnavailable:
            raise
        except self._shell.timeouts as error:
            # Not in the handler: the time was up while we were at work around it.
            logger.warning("The time of %s was up: %s", claim.token.unit, error)
            self._settler.let_go(claim, timed_out=True)
        except BaseException as error:
            # Not the handler's failure (that is an event): ours, or the process has to exit. The
            # hard time limit says so too, before it kills.
            is_told = is_told_to_exit(error)
            limit = claim.time_limit
            is_late = is_told and limit is not None and time.monotonic() - began >= limit
            self._settler.let_go(claim, counts=not is_told, timed_out=is_late)
            raise

    def _claim(self, token_id: UUID) -> Claim | None:
        worker = self._liveness.worker_id()
        with self._database.autocommit() as connection:
            claim = tokens.claim(connection, token_id, worker, uuid4())
            if claim is not None:
                return claim
            refusal = tokens.refusal(connection, token_id, worker)
        return self._claim_again(token_id, worker, refusal)

    def _claim_again(self, token_id: UUID, worker: UUID, refusal: Refusal) -> Claim | None:
        """A hint may be for a command, and a worker may have been declared dead meanwhile."""
        run_id = refusal.run_with_commands
        is_worth_it = run_id is not None and apply_commands(self._database, run_id)
        if refusal.worker_ended:
            self._liveness.renounce(worker)
            is_worth_it = True
        if not is_worth_it:
            return None
        worker = self._liveness.worker_id()
        with self._database.autocommit() as connection:
            return tokens.claim(connection, token_id, worker, uuid4())

    def _with_commands_applied(self, claim: Claim) -> Claim | None:
        """A cancel that had committed by the claim is applied before the unit begins."""
        if not claim.has_commands:
            return claim
        apply_commands(self._database, claim.run.id)
        with self._database.autocommit() as connection:
            standing = tokens.read(connection, claim.token.id)
        if standing is None or standing.fence != claim.fence:
            return None
        token = replace(claim.token, flags=standing.flags)
        return replace(claim, token=token, has_commands=False)

    def _take_turn(self, claimed: Claim, budget: Budget) -> Claim | None:
        """Execute what is in hand, or give it back; the claim again if we go straight on."""
        claim = self._with_commands_applied(claimed)
        if claim is None:
            return None
        workflow = self._knowledge.workflow_for(claim)
        if workflow is None:
            delay = min(max(2 * claim.waited, PUT_BACK_FIRST), PUT_BACK_MAXIMUM)
            self._settler.put_back(claim, delay)
            return None
        if claim.draining:
            self._settler.put_back(claim, HAND_OVER_AFTER)
            return None
        self._begin(claim)
        return self._do(Turn(workflow, claim, budget))

    def _begin(self, claim: Claim) -> None:
        """Note that a delayed run has begun; one that is cancelled before it begins never does."""
        if claim.run.status is Status.PENDING and claim.token.flags is Flags.NONE:
            with self._database.autocommit() as connection:
                runs.begin(connection, claim.run.id)

    def _do(self, turn: Turn) -> Claim | None:
        claim = turn.claim
        token = claim.token
        if self._lookout.is_up_to_it(turn.workflow, token):
            execution = self._lookout.look(turn.workflow, claim)
            if execution is None:
                # Nothing is there: another token was quicker.
                self._settler.put_back(claim)
                return None
            return self._settler.settle(turn, execution)
        if (untouched := self._untouched(turn)) is not None:
            return self._settler.settle(turn, untouched)
        if self._knowledge.is_transactional(turn.workflow, token):
            return self._do_in_transaction(turn)
        context = Context(claim, Past(self._database, claim.run.id))
        execution = execute(turn.workflow, claim, context, self._shell)
        return self._settler.settle(turn.given(execution.input), execution)

    def _untouched(self, turn: Turn) -> Execution | None:
        """What becomes of a unit that must not be executed; None for one that is."""
        claim, token = turn.claim, turn.claim.token
        is_cancelled = Flags.CANCEL in token.flags and token.rollback is None
        if Flags.TIMED_OUT in token.flags and not is_cancelled:
            return Execution(timed_out(turn.workflow, claim))
        if token.flags is not Flags.NONE:
            return Execution(Flagged(claim.due_in))
        if token.crashes >= self._settings.max_crashes:
            return Execution(worker_lost(claim))
        return None

    def _do_in_transaction(self, turn: Turn) -> Claim | None:
        """The step's own SQL, its journal entry and the next enqueue are one transaction (P6)."""
        settler, written = self._settler, None
        with self._database.session() as (session, connection):
            context = Context(turn.claim, Past(self._database, turn.claim.run.id), session)
            execution = execute(turn.workflow, turn.claim, context, self._shell)
            turn = turn.given(execution.input)
            if execution.exception is None:
                try:
                    session.commit()  # ends the savepoint the handler worked in
                    written = settler.write(connection, turn, execution.event, in_transaction=True)
                    if written is not None:
                        connection.commit()
                except DatabaseUnavailable:
                    # Committed or not? Either way the token is looked at again where it stands.
                    settler.let_go(turn.claim)
                    return None
                except Exception as error:  # noqa: BLE001 - a deferred constraint speaks at COMMIT
                    written = None
                    failed = failure_of(turn.workflow, turn.claim, error, self._shell.timeouts)
                    execution = Execution(failed, error)
                else:
                    # What was not committed is rolled back: as if nothing had been executed.
                    execution = execution if written else Execution(Flagged(turn.claim.due_in))
        if written is not None:
            return settler.after(turn, execution, written)
        return settler.settle(turn, execution)

    def _encode(self, value: object, what: str) -> str:
        return codec.dumps(value, what=what, limit=self._settings.max_payload_bytes)

    def _spawn(
        self, claim: Claim, child: ChildNode, input: str | None
    ) -> tuple[UUID, Callable[[Connection], None]]:
        """A child run, and what starts it beside the commit that waits for it (or undoes it)."""
        if claim.token.rollback is not None:
            return self._undo_child(claim)
        run = claim.run
        outline = self._launcher.outline(child.workflow, child.version)
        parent = parent_of(claim.token.id, run.id, run.root_run_id)
        given = Given(priority=run.priority, parent=parent)
        new = self._launcher.new_child(outline, run.input if input is None else input, given)

        def start(connection: Connection) -> Any:
            runs.start(connection, [new], 0.0)

        return new.id, start

    def _undo_child(self, claim: Claim) -> tuple[UUID, Callable[[Connection], None]]:
        with self._database.autocommit() as connection:
            child = journal.child_of(connection, claim.run.id, compensated_by(claim.token.unit))
        assert child is not None, claim.token
        return child, partial(
            runs.roll_back,
            run_id=child,
            parent_token=claim.token.id,
            queue=self._settings.queue,
        )


def is_told_to_exit(error: BaseException) -> bool:
    """Whether a signal told this process to exit, rather than the step's own function.

    A child of Celery's pool then ends with SystemExit(signal - 256): `_shutdown_cleanup` in
    billiard/common.py.
    """
    code = error.code if isinstance(error, SystemExit) else None
    return isinstance(code, int) and 0 < code + BILLIARD_EXIT < signal.NSIG


def worker_lost(claim: Claim) -> Crashed:
    """The event of a unit that has killed, or survived, too many workers."""
    token = claim.token
    message = (
        f"{token.crashes} workers died while they executed {token.unit}; it is not tried again"
    )
    return Crashed(ErrorRecord("WorkerLost", message, unit=token.unit), claim.seen_at)
