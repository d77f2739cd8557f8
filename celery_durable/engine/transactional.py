"""Executes transactional steps: their own SQL and the commit of their unit are one transaction."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import assert_never

from celery_durable.core.claim import Claim
from celery_durable.core.event import Failed, Flagged
from celery_durable.database.connections import BOUNDED
from celery_durable.engine import counting
from celery_durable.engine.attempt import Attempt
from celery_durable.engine.claims import Claims
from celery_durable.engine.commit import Committed, Committer
from celery_durable.engine.retrying import Retrying
from celery_durable.engine.run_history import RunHistory
from celery_durable.errors import DatabaseUnavailable, InvalidWorkflow
from celery_durable.store.commit.statement import RecordedBefore
from celery_durable.store.connection import UnitTransaction
from celery_durable.store.sqlstates import may_go_well_later
from celery_durable.workflow.context import Context
from celery_durable.workflow.execute import Execution, Tools, execute
from celery_durable.workflow.failures import failure_of, timed_out
from celery_durable.workflow.observing import executing

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cut:
    """Postgres went away, or could not go on, in a step's transaction: that is no failed attempt.

    `is_hindered`: the same may go well a little later. `counts`: as a crash, since it may have been
    the step's own doing, and would be each time.
    """

    error: BaseException
    is_hindered: bool = False
    counts: bool = False


class Transactional:
    """Executes a unit in a transaction that its commit is part of."""

    def __init__(
        self,
        retrying: Retrying,
        committer: Committer,
        claims: Claims,
        tools: Tools,
    ) -> None:
        self._database = retrying.database
        self._retrying = retrying
        self._committer = committer
        self._claims = claims
        self._tools = tools

    def execute(self, attempt: Attempt, history: RunHistory) -> Claim | None:
        """Execute and commit; the claim again if the worker goes straight on with the next unit."""
        if (refused := self._refused(attempt)) is not None:
            return self._committer.commit(attempt, refused)
        with executing(attempt.claim) as ended, ExitStack() as stack:
            session, connection = self._retrying.until_answered(
                lambda: stack.enter_context(self._database.session())
            )
            context = Context(attempt.claim, history, session)
            execution = execute(attempt.workflow, attempt.claim, context, self._tools)
            self._count(attempt, execution)
            attempt = attempt.with_input(execution.input)
            became: Committed | Execution | Cut = execution
            if execution.exception is None:
                became = self._commit(attempt, execution, connection)
            elif connection.was_cut(execution.exception):
                became = Cut(execution.exception, counts=True)
            # Its commit is part of a transactional unit, and may be what fails.
            match became:
                case Execution():
                    ended(became.event, became.exception)
                case Cut():
                    ended(None, became.error)
                case Committed():
                    ended(execution.event, None)
        match became:
            case Committed():
                return self._committer.continue_with(attempt, execution, became)
            case Execution():
                return self._committer.commit(attempt, became)
            case Cut():
                self._release(attempt.claim, became)
                return None
            case never:
                assert_never(never)

    def _count(self, attempt: Attempt, execution: Execution) -> None:
        seconds = time.monotonic() - attempt.began
        counting.executed(self._database.tally, attempt.claim, execution.event, seconds)

    def _refused(self, attempt: Attempt) -> Execution | None:
        """Return the failure of a unit that cannot be executed in a transaction; else None."""
        token = attempt.claim.token
        step = attempt.workflow.step_of(token.node, token.part)
        function = step.function if token.rollback is None else step.compensator
        why = self._database.refusal(function)
        if why is None:
            return None
        error = InvalidWorkflow(f"{token.unit} cannot be transactional: {why}")
        failed = failure_of(attempt.workflow, attempt.claim, error)
        return Execution(replace(failed, may_retry=False), error)

    def _commit(
        self, attempt: Attempt, execution: Execution, connection: UnitTransaction
    ) -> Committed | Execution | Cut:
        """Commit the step's SQL and its unit; an `Execution` where nothing was committed."""
        is_done = False
        try:
            connection.end_handler()
            connection.rows(BOUNDED)  # the handler is done; from here on the token is locked
            committed = self._committer.write(connection, attempt, execution, in_transaction=True)
            if committed is None:
                # All is rolled back, as if nothing had been executed.
                return Execution(Flagged(attempt.claim.due_in))
            if isinstance(committed.answer, RecordedBefore):
                return committed
            is_done = True
            connection.commit()
        except BaseException as error:  # a deferred constraint speaks at COMMIT
            if self._tools.is_exit(error):
                raise
            if connection.is_interrupted:
                return Execution(interrupted(attempt), error)
            if (cut := cut_of(connection, error, is_done=is_done)) is not None:
                return cut
            failed = failure_of(attempt.workflow, attempt.claim, error, self._tools.timeouts)
            return Execution(failed, error)
        return committed

    def _release(self, claim: Claim, cut: Cut) -> None:
        """Have the token looked at again where it stands, whether or not the commit was done."""
        logger.warning(
            "The transaction of %s of run %s was cut; it is executed again: %s",
            claim.token.unit,
            claim.run.id,
            cut.error,
        )
        if cut.is_hindered:
            self._claims.release_for_later(claim)
        else:
            self._claims.abandon(claim, counts=cut.counts)


def cut_of(connection: UnitTransaction, error: BaseException, *, is_done: bool) -> Cut | None:
    """What `error` means if it is no failed attempt. `is_done`: nothing but the COMMIT was left."""
    if connection.was_cut(error):
        return Cut(error, counts=not is_done)
    if may_go_well_later(error):
        return Cut(error, is_hindered=not isinstance(error, DatabaseUnavailable))
    return None


def interrupted(attempt: Attempt) -> Failed:
    """The event of a handler that swallowed the interruption of its statement."""
    if attempt.claim.time_limit is not None:
        return timed_out(attempt.workflow, attempt.claim)
    left = InterruptedError(
        f"{attempt.claim.token.unit} left a statement of ctx.session unfinished"
    )
    return failure_of(attempt.workflow, attempt.claim, left)
