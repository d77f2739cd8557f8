"""The loop: what a worker does with one message.

`advance` claims the token that a hint names. For as long as the claim is this worker's it asks
`admit` what to do with it, does that, and commits. A message may be lost, doubled or late: where
there is nothing to claim, there is nothing to do.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import EllipsisType
from typing import assert_never
from uuid import UUID, uuid4

from celery_durable.background.bundling import BRANCHES
from celery_durable.background.liveness import Liveness
from celery_durable.core.admit import Check, Conclude, Execute, Facts, Release, admit
from celery_durable.core.child import Child, ReopenedRun
from celery_durable.core.claim import Claim
from celery_durable.core.names import compensated_by
from celery_durable.core.nodes import ChildNode, StepNode
from celery_durable.core.status import Status
from celery_durable.core.token import Flags
from celery_durable.core.units import unit_of
from celery_durable.database.connections import Database
from celery_durable.database.notify import Notifier
from celery_durable.engine import counting
from celery_durable.engine.announce import Announcer
from celery_durable.engine.attempt import Attempt, Message
from celery_durable.engine.bundle import Bundle, Place, Ways, place_of
from celery_durable.engine.children import RunFactory, StartOptions, parent_of
from celery_durable.engine.claims import Claims
from celery_durable.engine.commit import Committer
from celery_durable.engine.compatibility import Compatibility
from celery_durable.engine.guard import Guard
from celery_durable.engine.links import Links
from celery_durable.engine.report import Report
from celery_durable.engine.retrying import Retrying
from celery_durable.engine.routes import Routes
from celery_durable.engine.run_history import RunHistory
from celery_durable.engine.slow_units import SlowUnits
from celery_durable.engine.suspects import Suspects
from celery_durable.engine.transactional import Transactional
from celery_durable.engine.waits import Waits
from celery_durable.errors import DatabaseUnavailable, TooDeep
from celery_durable.process import interrupts
from celery_durable.process.tally import Tally
from celery_durable.settings import Settings
from celery_durable.store import codec, journal, workers
from celery_durable.workflow.around import Around
from celery_durable.workflow.builder import Workflow
from celery_durable.workflow.context import Context
from celery_durable.workflow.execute import Execution, Tools, execute
from celery_durable.workflow.failures import timed_out
from celery_durable.workflow.observing import executing, observers
from celery_durable.workflow.registry import Registry
from celery_durable.workflow.sending import Compose, cannot_compose

logger = logging.getLogger(__name__)

SAYS_IT_STOPS_WITHIN = 1.0
"""Seconds in which a worker that stops says so in the rows of its processes."""

MISFITS_ARE_STRANGE = 4
MISFITS_REMEMBERED = 1000
"""Messages of one token in a row with another time limit than its unit, until that is warned of;
and tokens of which the number is remembered.
"""

COMMITS_WITHIN = 600.0
"""Seconds for which a unit that has begun, and its commit, wait for Postgres."""

Timeouts = tuple[type[BaseException], ...]
IsExit = Callable[[BaseException], bool]


class Engine:
    """Executes units. One per process; its threads share it.

    `timeouts` are what the process's pool raises in a task whose soft time limit has passed;
    `is_exit` recognizes what it raises in a task that has to end because the worker does.
    `around_units` is called before and after each unit, in its thread; `around` makes the context
    managers that it is executed in. `compose` makes messages of the tasks that handlers send.
    `committer` makes what commits: the test kit watches it.
    """

    def __init__(
        self,
        database: Database,
        registry: Registry,
        settings: Settings,
        liveness: Liveness,
        notify: Notifier,
        *,
        timeouts: Timeouts = (),
        is_exit: IsExit = lambda _: False,
        committer: Callable[..., Committer] = Committer,
        compose: Compose = cannot_compose,
        around_units: Callable[[], None] | None = None,
        around: Sequence[Around] = (),
    ) -> None:
        self._settings = settings
        self._liveness = liveness
        self._is_exit = is_exit
        self.suspects = Suspects()
        self._misfits: Counter[UUID] = Counter()
        retrying = self._retrying = Retrying(database, settings.worker_ttl)
        self._long_retrying = Retrying(database, max(settings.worker_ttl, COMMITS_WITHIN))
        self._claims = Claims(retrying, settings, liveness, notify)
        self._compatibility = Compatibility(retrying, registry, settings)
        self._run_factory = RunFactory(database, registry, settings)
        self._tools = Tools(
            self._encode,
            self._new_child,
            timeouts,
            is_exit,
            compose,
            link=Links(self._long_retrying, settings),
            around_units=around_units,
            around=around,
        )
        self._waits = Waits(retrying, self._tools, settings.max_crashes, self._context_of)
        self._slow_units = SlowUnits()
        self._announcer = Announcer()
        self._committer = committer(
            Routes(settings, self._slow_units),
            retrying,
            self._long_retrying,
            self._claims,
            stop_offering=self._compatibility.stop_offering,
            ended=notify.ended,
            announcer=self._announcer,
        )
        self._ways = Ways(
            self._claims,
            self._committer,
            self._announcer,
            self._slow_units,
            self._execute_if_plain,
            self._go_on_or_abandon,
            self._abandon,
        )
        self._guard = Guard()
        self._transactional = Transactional(retrying, self._committer, self._claims, self._tools)

    def offers(self) -> Mapping[str, Sequence[str]]:
        """The units that this process can execute, by workflow and version."""
        return self._compatibility.offers()

    def advance(
        self,
        token_id: UUID,
        limit: float | EllipsisType | None = ...,
        hinted_by: str | None = None,
        report: Report | None = None,
    ) -> None:
        """Work on one message: unit after unit, for as long as the claim is ours.

        `limit` is the message's soft time limit; `...` fits any unit, None is no limit. A unit with
        another limit gets a message of its own. `hinted_by` is the message's origin
        (`store.origin`). In `report` it notes what it has done.
        """
        message = Message.of(limit, self._settings, report or Report())
        with self._kept_from_audit([token_id]), self.suspects.arriving(message):
            claim = self._claims.claim(token_id, hinted_by)
            message.report.took(claim)
            while claim is not None:
                message.units_left -= 1
                claim = self._go_on_or_abandon(claim, message)
                self._announcer.send()

    def advance_together(
        self,
        token_ids: Sequence[UUID],
        limit: float | EllipsisType | None = ...,
        hinted_by: str | None = None,
    ) -> Report:
        """Work on a message that names several tokens, as many at a time as a relay puts into one.

        Where none of them can be claimed together with others, each is advanced alone. Returns what
        the message has done.
        """
        report = Report()
        ids, size = [*dict.fromkeys(token_ids)], self._settings.tokens_per_message
        size *= BRANCHES if size > 1 else 1
        for first in range(0, len(ids), size):
            together = ids[first : first + size]
            if len(together) == 1 or not self._advance_bundle(together, limit, report):
                for token_id in together:
                    self.advance(token_id, limit, hinted_by, report)
        return report

    def _advance_bundle(
        self, token_ids: Sequence[UUID], limit: float | EllipsisType | None, report: Report
    ) -> bool:
        """Claim tokens together, and execute their units in turn; return False if none is claimed.

        Those that are left out get messages of their own at once: in this one they would wait for
        the units of the others, and nothing else would bring them.
        """
        with self._kept_from_audit(token_ids):
            asked_at = time.monotonic()
            claims = self._claims.claim_together(token_ids)
            if not claims:
                return False
            claimed = {claim.token.id for claim in claims}
            left_out = [token_id for token_id in token_ids if token_id not in claimed]
            if left_out:
                self._claims.hint(left_out)
            messages = [Message.of(limit, self._settings, report, is_shared=True) for _ in claims]
            report.took(*claims)
            bundle = Bundle(self._ways, claims, messages, asked_at)
            with self._guard.watching(bundle):
                bundle.run()
            self._announcer.send()
        return True

    @property
    def _tally(self) -> Tally:
        return self._retrying.database.tally

    @contextmanager
    def _kept_from_audit(self, token_ids: Sequence[UUID]) -> Iterator[None]:
        """Keep the audit away from tokens; where Postgres stays away, leave the claims to it."""
        try:
            with self._liveness.working_on(token_ids):
                yield
        except DatabaseUnavailable as error:
            # Recovery sends the hints again. What may be claimed is for the audit to release.
            for token_id in token_ids:
                self._liveness.leave_to_audit(token_id)
                logger.info("Token %s is left to the audit and to recovery: %s", token_id, error)

    def _go_on_or_abandon(self, claim: Claim, message: Message) -> Claim | None:
        """Go on with the claim. Where that breaks the engine, the claim is abandoned.

        Where Postgres stays away, `_kept_from_audit` leaves the claim to the audit.
        """
        began = time.monotonic()
        try:
            if claim.token.crashes:
                return self._go_on_with_suspect(claim, message)
            message.decided()
            return self._go_on(claim, message)
        except DatabaseUnavailable:
            raise
        except BaseException as error:
            # Not the handler's failure (that is an event): ours, or the process has to exit.
            self._abandon(claim, error, time.monotonic() - began)
            if self._is_exit(error) or isinstance(error, Exception):
                raise
            # A pool's thread would take this for an order to end, and keep the message.
            logger.exception("%s of run %s broke the engine", claim.token.unit, claim.run.id)
            return None

    def _go_on_with_suspect(self, claim: Claim, message: Message) -> Claim | None:
        """Go on with a unit that may kill its process: only one of them executes in a process.

        A process that dies is counted against all that it executes. So a unit that shared a process
        with one that kills is not beside it the next time.
        """
        with self.suspects.turn(message) as is_alone:
            return self._go_on(claim, message, has_company=not is_alone)

    def _go_on(  # noqa: PLR0911 - a table of cases
        self, claim: Claim, message: Message, *, has_company: bool = False
    ) -> Claim | None:
        """Do with a claim what `admit` says; the claim again if the worker goes straight on."""
        current = self._claims.with_commands_applied(claim)
        if current is None:
            return None
        workflow = self._compatibility.workflow_for(current)
        facts = self._facts(current, message, workflow, has_company=has_company)
        admission = admit(current, facts)
        if isinstance(admission, Release):
            self._claims.release(current, admission.delay)
            return None
        assert workflow is not None
        interrupts.begin(current.time_limit)
        begun = self._claims.begun(current)
        if begun is not current:
            return begun
        counting.begun(self._tally, current)
        attempt = Attempt(workflow, current, message)
        match admission:
            case Check():
                return self._check(attempt)
            case Conclude(event):
                return self._committer.commit(attempt, Execution(event))
            case Execute(in_transaction=True):
                return self._transactional.execute(attempt, self._history(attempt.claim))
            case Execute():
                return self._execute(attempt)
            case _:
                assert_never(admission)

    def _facts(
        self, claim: Claim, message: Message, workflow: Workflow | None, *, has_company: bool
    ) -> Facts:
        is_misfit = message.limit is not ... and message.limit != claim.time_limit
        is_timed_out = Flags.TIMED_OUT in claim.token.flags
        return Facts(
            plan=None if workflow is None else workflow.plan,
            max_crashes=self._settings.max_crashes,
            is_elsewhere=workflow is None and self._compatibility.is_elsewhere(claim),
            misfits=self._count_misfits(claim, message) if is_misfit else 0,
            is_late=message.is_late,
            has_company=has_company,
            timed_out=timed_out(workflow, claim) if workflow and is_timed_out else None,
            chance=random.random(),  # noqa: S311 - jitter, not a secret
        )

    def _count_misfits(self, claim: Claim, message: Message) -> int:
        """Count the messages of the token with another time limit than its unit."""
        if len(self._misfits) > MISFITS_REMEMBERED:
            self._misfits.clear()
        self._misfits[claim.token.id] += 1
        times = self._misfits[claim.token.id]
        if times == MISFITS_ARE_STRANGE:
            logger.warning(
                "%s of run %s has come %d times with a time limit of %s s instead of %s: something"
                " between the relay and this worker changes the limits of messages",
                claim.token.unit,
                claim.run.id,
                times,
                message.limit,
                claim.time_limit,
            )
        return times

    def _check(self, attempt: Attempt) -> Claim | None:
        """Check whether what the token waits for is there."""
        execution = self._waits.check(attempt.workflow, attempt.claim)
        if execution is None:
            # Another token was quicker.
            self._claims.release(attempt.claim)
            return None
        return self._committer.commit(attempt, execution)

    def _execute(self, attempt: Attempt) -> Claim | None:
        """Call the unit's function, and commit what became of it."""
        return self._committer.commit(*self._called(attempt))

    def _execute_if_plain(
        self, claim: Claim, message: Message, places: dict[Place, Workflow]
    ) -> tuple[Attempt, Execution] | None:
        """Call the unit's function, if nothing else is to be done with the claim; else None.

        `places` are the units of this bundle that may be executed: each is asked about once.
        """
        is_stopped = claim.draining or claim.has_commands or claim.token.flags or claim.is_paused
        if is_stopped or claim.token.crashes or claim.run.status is Status.PENDING:
            return None
        place = place_of(claim)
        workflow = places.get(place)
        if workflow is None:
            workflow = self._workflow_if_plain(claim, message)
            if workflow is None:
                return None
            if self._compatibility.is_fit_for_all(workflow, claim.token.node):
                places[place] = workflow
        interrupts.begin(None)
        counting.begun(self._tally, claim)
        return self._called(Attempt(workflow, claim, message))

    def _workflow_if_plain(self, claim: Claim, message: Message) -> Workflow | None:
        """Return the workflow, if the unit's function is to be called outside of a transaction."""
        if message.limit not in (..., None):
            return None
        workflow = self._compatibility.workflow_for(claim)
        if workflow is None:
            return None
        admission = admit(claim, self._facts(claim, message, workflow, has_company=False))
        return workflow if admission == Execute(in_transaction=False) else None

    def _called(self, attempt: Attempt) -> tuple[Attempt, Execution]:
        """Call the unit's function; return the attempt with the input it was given, too."""
        claim = attempt.claim
        context = self._context_of(claim)
        if not observers:
            execution = execute(attempt.workflow, claim, context, self._tools)
        else:
            with executing(claim) as ended:
                execution = execute(attempt.workflow, claim, context, self._tools)
                ended(execution.event, execution.exception)
        seconds = time.monotonic() - attempt.began
        self._slow_units.note(claim.run, claim.token, seconds)
        if isinstance(unit_of(attempt.workflow.plan, claim.token).body, StepNode):
            counting.executed(self._tally, claim, execution.event, seconds)
        return attempt.with_input(execution.input), execution

    def _abandon(self, claim: Claim, error: BaseException, lasted: float) -> None:
        """Release the claim after an error of ours, or since the process has to exit.

        While Postgres is away that is left to the audit, or to a reaper. The hard time limit makes
        a process exit too, before it kills.
        """
        must_exit = self._is_exit(error)
        limit = claim.time_limit
        is_late = must_exit and limit is not None and lasted >= limit
        try:
            is_innocent = is_late or (must_exit and self._is_stopping(claim))
            self._claims.abandon(claim, counts=not is_innocent, timed_out=is_late)
        except DatabaseUnavailable:
            self._liveness.leave_to_audit(claim.token.id)

    def _is_stopping(self, claim: Claim) -> bool:
        """True if the whole worker stops, and not this process only: a unit may do that to itself.

        The worker may be about to say so: a signal may be sent to all its processes at once.
        """
        until = time.monotonic() + SAYS_IT_STOPS_WITHIN
        while True:
            if self._retrying.ask(lambda connection: workers.is_draining(connection, claim.worker)):
                return True
            if time.monotonic() >= until:
                return False
            time.sleep(SAYS_IT_STOPS_WITHIN / 20)

    def _context_of(self, claim: Claim) -> Context:
        return Context(claim, self._history(claim))

    def _history(self, claim: Claim) -> RunHistory:
        return RunHistory(self._long_retrying, claim)

    def _encode(self, value: object, what: str) -> str:
        return codec.dumps(value, what=what, limit=self._settings.max_payload_bytes)

    def _new_child(self, claim: Claim, child: ChildNode, input: str | None) -> Child:
        """A child run that is to start; in a rollback the one that is to be undone."""
        if claim.token.rollback is not None:
            return self._reopened(claim)
        run = claim.run
        outline = self._retrying.until_answered(
            lambda: self._run_factory.outline(child.workflow, child.version)
        )
        parent = parent_of(claim.token.id, run)
        if parent.depth >= self._settings.max_depth:
            raise TooDeep(child.workflow, parent.depth + 1, self._settings.max_depth)
        options = StartOptions(priority=run.priority, parent=parent, trace=run.trace)
        return self._run_factory.new_child(outline, run.input if input is None else input, options)

    def _reopened(self, claim: Claim) -> ReopenedRun:
        unit = compensated_by(claim.token.unit)
        child = self._retrying.ask(
            lambda connection: journal.child_of(connection, claim.run.id, unit)
        )
        assert child is not None, claim.token
        return ReopenedRun(child, uuid4(), uuid4(), self._settings.queue)
