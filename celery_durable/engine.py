"""The engine: claim a token, execute its unit, decide, commit.

One message walks through here. `advance` claims the token that a hint names; then, for as long as
the commit leaves the claim with us, it executes the unit in hand and settles what becomes of the
token. A message may be lost, doubled or late: a claim that is not to be had ends it.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import EllipsisType
from uuid import UUID, uuid4

from celery_durable import interrupts
from celery_durable.cancelling import apply_commands
from celery_durable.core.child import Child, ReopenedRun
from celery_durable.core.claim import Claim
from celery_durable.core.event import Crashed, Flagged
from celery_durable.core.names import compensated_by
from celery_durable.core.plan import ChildNode
from celery_durable.core.status import Status
from celery_durable.core.token import Flags
from celery_durable.errors import DatabaseUnavailable, TooDeep
from celery_durable.knowledge import Knowledge
from celery_durable.launching import Given, Launcher, parent_of
from celery_durable.liveness import Liveness
from celery_durable.settings import Settings
from celery_durable.settle import (
    PUT_BACK_FIRST,
    PUT_BACK_MAXIMUM,
    Budget,
    Settler,
    Turn,
    wait_after,
)
from celery_durable.store import codec, journal, origin, runs, tokens, workers
from celery_durable.store.database import Database
from celery_durable.store.past import Past
from celery_durable.store.patience import Patience
from celery_durable.store.tokens import Refusal, Standing
from celery_durable.transactional import Transactional
from celery_durable.waiting import Lookout
from celery_durable.workflow.context import Context
from celery_durable.workflow.execute import Execution, Shell, execute
from celery_durable.workflow.failures import timed_out, worker_lost
from celery_durable.workflow.registry import Registry

logger = logging.getLogger(__name__)

HAND_OVER_AFTER = 0.1
"""Seconds until the run of a worker that stops is offered to others: it may still be listening."""

PASS_ON_FIRST, PASS_ON_MAXIMUM = 0.1, 1.0
"""Most seconds until a run that this worker cannot go on with is offered again, doubling from the
first to the maximum, where another worker can; where none that lives can, `PUT_BACK_FIRST` and on.

It is half of that at least, at random: workers on Redis ask for messages once a second and the one
that has waited longest is answered, so that after whole seconds the same one might be, for ever.
"""

SUSPECT_FIRST, SUSPECT_MAXIMUM = 0.1, 2.0
"""Seconds until a unit that may have killed its process is offered again, while another such one is
at work here; doubling from the first to the maximum.
"""

SAYS_IT_STOPS_WITHIN = 1.0
"""Seconds in which a worker that stops says so in the rows of its processes."""

UNFIT_FIRST = 0.05
"""Seconds until a unit is offered again whose message has had another limit twice; doubling. Once
is nothing: the hint was put while the token stood elsewhere.
"""

UNFIT_IS_STRANGE = 4
UNFIT_AT_MOST = 1000
"""Times that this may happen to one token in one process, and tokens that are remembered."""

SETTLES_WITHIN = 600.0
"""Seconds for which a unit that has begun, and its commit, wait for Postgres."""

Timeouts = tuple[type[BaseException], ...]
IsExit = Callable[[BaseException], bool]


class Engine:
    """Executes units. One per process; its threads share it.

    `timeouts` is what the process's pool raises in a task whose soft time limit has passed;
    `is_exit` knows what it raises in one that has to end because the worker does.
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
        is_exit: IsExit = lambda _: False,
    ) -> None:
        self._database = database
        self._settings = settings
        self._liveness = liveness
        self._is_exit = is_exit
        self._suspect = threading.Lock()
        self._unfit: Counter[UUID] = Counter()
        self._patience = Patience(database, settings.worker_ttl)
        self._knowledge = Knowledge(database, registry)
        self._strangers: set[str] = set()
        # What has begun is worth more patience: the fence sees to it that it is not late.
        self._long_patience = Patience(database, max(settings.worker_ttl, SETTLES_WITHIN))
        self._settler = Settler(
            settings, self._patience, self._long_patience, notify, self._knowledge.disown
        )
        self._launcher = Launcher(database, registry, settings)
        self._shell = Shell(self._encode, self._spawn, timeouts, is_exit)
        self._transactional = Transactional(database, self._patience, self._settler, self._shell)
        self._lookout = Lookout(database, self._shell, settings.max_crashes)

    def places(self) -> Mapping[str, Sequence[str]]:
        """Where this process can go on, by workflow and version."""
        return self._knowledge.places()

    def advance(
        self,
        token_id: UUID,
        limit: float | EllipsisType | None = ...,
        hinted_by: str | None = None,
    ) -> None:
        """Follow a hint as far as it goes. A race that was lost is not an error.

        `limit` is the message's soft time limit. A hint that was put while the token stood
        elsewhere has another than the unit in hand: that goes into a message of its own.
        `hinted_by` is the origin of the message (`store.origin`).
        """
        received = time.monotonic()
        try:
            with self._liveness.working_on(token_id):
                claim = self._claim(token_id, uuid4(), hinted_by)
                if claim is None:
                    return
                if limit not in (..., None) and time.monotonic() - received > interrupts.EARLY:
                    # The pool counts since it was received: that is no time for the unit any more.
                    self._settler.put_back(claim)
                elif limit is ... or limit == claim.time_limit:
                    self._go_on(claim)
                else:
                    self._put_back_unfit(claim, limit)
        except DatabaseUnavailable as error:
            # Recovery sends the hint again. What may be claimed is for the audit to give back.
            self._liveness.give_up(token_id)
            logger.info("Token %s is left to recovery: %s", token_id, error)

    def _put_back_unfit(self, claim: Claim, limit: float | None) -> None:
        """Have a message with the unit's own limit sent. The pauses grow, should none ever come."""
        if len(self._unfit) > UNFIT_AT_MOST:
            self._unfit.clear()
        self._unfit[claim.token.id] += 1
        times = self._unfit[claim.token.id]
        if times == UNFIT_IS_STRANGE:
            logger.warning(
                "%s of run %s has come %d times with a time limit of %s s instead of %s: something"
                " between the relay and this worker changes the limits of messages",
                claim.token.unit,
                claim.run.id,
                times,
                limit,
                claim.time_limit,
            )
        pause = UNFIT_FIRST * 2.0 ** (times - 2) if times > 1 else 0.0
        self._settler.put_back(claim, min(pause, PUT_BACK_MAXIMUM))

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
        except BaseException as error:
            # Not the handler's failure (that is an event): ours, or the process has to exit. The
            # hard time limit says so too, before it kills.
            is_told = self._is_exit(error)
            limit = claim.time_limit
            is_late = is_told and limit is not None and time.monotonic() - began >= limit
            with self._audited_if_postgres_is_away(claim):
                is_innocent = is_late or (is_told and self._is_stopping(claim))
                self._settler.let_go(claim, counts=not is_innocent, timed_out=is_late)
            if is_told or isinstance(error, Exception):
                raise
            # A pool's thread would take this for an order to end, and keep the message.
            logger.exception("%s of run %s broke the engine", claim.token.unit, claim.run.id)

    def _is_stopping(self, claim: Claim) -> bool:
        """Whether the whole worker stops, and not this process only: a unit may do that to itself.

        The worker may be about to say so: a signal may be sent to all its processes at once.
        """
        until = time.monotonic() + SAYS_IT_STOPS_WITHIN
        while True:
            if self._patience.ask(lambda connection: workers.is_draining(connection, claim.worker)):
                return True
            if time.monotonic() >= until:
                return False
            time.sleep(SAYS_IT_STOPS_WITHIN / 20)

    @contextmanager
    def _audited_if_postgres_is_away(self, claim: Claim) -> Iterator[None]:
        """What must end, ends: the claim is then for the audit to give back, or for a reaper."""
        try:
            yield
        except DatabaseUnavailable:
            self._liveness.give_up(claim.token.id)

    def _claim(self, token_id: UUID, fence: UUID, hinted_by: str | None = None) -> Claim | None:
        """Claim the token. A hint may be for a command, and the worker may have been declared dead.

        While Postgres is away the message waits here, unacknowledged: it would only be lost.
        """

        def claim(*, is_last: bool = False) -> Claim | None:
            worker = self._liveness.worker_id()
            with self._database.autocommit() as connection:
                found = tokens.claim(connection, token_id, worker, fence)
                if found is not None:
                    return found
                refusal = tokens.refusal(connection, token_id, worker, hinted_by)
            if refusal.is_foreign and hinted_by is not None:
                self._warn_of_stranger(hinted_by)
            if not is_last and self._is_worth_another_try(worker, refusal):
                return claim(is_last=True)
            return None

        return self._patience.until_answered(claim)

    def _warn_of_stranger(self, hinted_by: str) -> None:
        if hinted_by in self._strangers:
            return
        self._strangers.add(hinted_by)
        logger.warning(
            "This worker gets messages for runs of %s, which it does not know: another app, or"
            " another schema, uses the same broker and queue. Runs of both are held up by it for a"
            " minute and longer. Give each a durable_queue, and its steps queues, of its own, or"
            " another virtual host or database of the broker.",
            origin.described(hinted_by),
        )

    def _is_worth_another_try(self, worker: UUID, refusal: Refusal) -> bool:
        run_id = refusal.run_with_commands
        is_worth_it = run_id is not None and apply_commands(self._database, run_id)
        if refusal.worker_ended:
            self._liveness.renounce(worker)
            is_worth_it = True
        return is_worth_it

    def _with_commands_applied(self, claim: Claim) -> Claim | None:
        """A cancel that had committed by the claim is applied before the unit begins."""
        if not claim.has_commands:
            return claim

        def apply() -> Standing | None:
            apply_commands(self._database, claim.run.id)
            with self._database.autocommit() as connection:
                return tokens.read(connection, claim.token.id)

        standing = self._patience.until_answered(apply)
        if standing is None or standing.fence != claim.fence:
            return None
        token = replace(claim.token, flags=standing.flags)
        return replace(claim, token=token, has_commands=False)

    def _take_turn(self, claimed: Claim, budget: Budget) -> Claim | None:
        """Execute what is in hand, or give it back; the claim again if we go straight on."""
        claim = self._with_commands_applied(claimed)
        if claim is None:
            return None
        workflow = self._patience.until_answered(lambda: self._knowledge.workflow_for(claim))
        if workflow is None:
            self._leave_to_others(claim)
            return None
        if claim.draining:
            self._settler.put_back(claim, HAND_OVER_AFTER)
            return None
        interrupts.begin(claim.time_limit)
        turn = Turn(workflow, self._begun(claim), budget)
        return self._do_suspect(turn) if claim.token.crashes else self._do(turn)

    def _leave_to_others(self, claim: Claim) -> None:
        """Put back what this worker cannot go on with: soon, if somebody else can take it."""
        is_elsewhere = self._patience.ask(
            lambda connection: self._knowledge.is_elsewhere(connection, claim)
        )
        first, maximum = (
            (PASS_ON_FIRST, PASS_ON_MAXIMUM) if is_elsewhere else (PUT_BACK_FIRST, PUT_BACK_MAXIMUM)
        )
        most = wait_after(claim, first, maximum)
        delay = random.uniform(most / 2, most)  # noqa: S311 - jitter, not a secret
        self._settler.put_back(claim, delay)

    def _begun(self, claim: Claim) -> Claim:
        """Note that a delayed run has begun; one that is cancelled before it begins never does."""
        if claim.run.status is not Status.PENDING or claim.token.flags is not Flags.NONE:
            return claim
        self._patience.ask(lambda connection: runs.begin(connection, claim.run.id))
        return replace(claim, run=replace(claim.run, status=Status.RUNNING))

    def _do_suspect(self, turn: Turn) -> Claim | None:
        """One at a time in a process: what kills it is counted against all that it has in hand.

        So a unit that shared a process with one that kills is not beside it the next time.
        """
        if not self._suspect.acquire(blocking=False):
            delay = wait_after(turn.claim, SUSPECT_FIRST, SUSPECT_MAXIMUM)
            self._settler.put_back(turn.claim, delay)
            return None
        try:
            return self._do(turn)
        finally:
            self._suspect.release()

    def _do(self, turn: Turn) -> Claim | None:
        claim = turn.claim
        token = claim.token
        if self._lookout.is_up_to_it(turn.workflow, token):
            execution = self._patience.until_answered(
                lambda: self._lookout.look(turn.workflow, claim)
            )
            if execution is None:
                # Nothing is there: another token was quicker.
                self._settler.put_back(claim)
                return None
            return self._settler.settle(turn, execution)
        if (untouched := self._untouched(turn)) is not None:
            return self._settler.settle(turn, untouched)
        if self._knowledge.is_transactional(turn.workflow, token):
            return self._transactional.do(turn, self._past(claim))
        context = Context(claim, self._past(claim))
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
            return Execution(Crashed(worker_lost(claim), claim.seen_at))
        return None

    def _past(self, claim: Claim) -> Past:
        return Past(self._long_patience, self._database, claim)

    def _encode(self, value: object, what: str) -> str:
        return codec.dumps(value, what=what, limit=self._settings.max_payload_bytes)

    def _spawn(self, claim: Claim, child: ChildNode, input: str | None) -> Child:
        """A child run that is to start; in a rollback the one that is to be undone."""
        if claim.token.rollback is not None:
            return self._reopened(claim)
        run = claim.run
        outline = self._patience.until_answered(
            lambda: self._launcher.outline(child.workflow, child.version)
        )
        parent = parent_of(claim.token.id, run)
        if parent.depth >= self._settings.max_depth:
            raise TooDeep(child.workflow, parent.depth + 1, self._settings.max_depth)
        given = Given(priority=run.priority, parent=parent)
        return self._launcher.new_child(outline, run.input if input is None else input, given)

    def _reopened(self, claim: Claim) -> ReopenedRun:
        unit = compensated_by(claim.token.unit)
        child = self._patience.ask(
            lambda connection: journal.child_of(connection, claim.run.id, unit)
        )
        assert child is not None, claim.token
        return ReopenedRun(child, uuid4(), uuid4(), self._settings.queue)
