"""Takes claims and releases them. Each question is asked again while Postgres is away."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from uuid import UUID, uuid4

from celery_durable.background.cancelling import apply_commands
from celery_durable.background.liveness import Liveness
from celery_durable.core.admit import RELEASE_FIRST, RELEASE_MAXIMUM, backoff
from celery_durable.core.claim import Claim
from celery_durable.core.pause import Pause
from celery_durable.core.status import Status
from celery_durable.core.token import Flags
from celery_durable.engine.retrying import Retrying
from celery_durable.settings import Settings
from celery_durable.store import origin, pauses, reaping, runs, tokens
from celery_durable.store.bundle import claiming
from celery_durable.store.bundle.claiming import Look
from celery_durable.store.connection import Connection
from celery_durable.store.reaping import Claimed
from celery_durable.store.tokens import Refusal

logger = logging.getLogger(__name__)


class Claims:
    """Takes claims for the worker that `liveness` has registered, and releases them."""

    def __init__(
        self,
        retrying: Retrying,
        settings: Settings,
        liveness: Liveness,
        notify: Callable[[], None],
    ) -> None:
        self._retrying = retrying
        self._database = retrying.database
        self._settings = settings
        self._liveness = liveness
        self._notify = notify
        self._strangers: set[str] = set()

    def claim(self, token_id: UUID, hinted_by: str | None = None) -> Claim | None:
        """Claim the token; None where there is nothing to do for this worker.

        While Postgres is away the message waits here, unacknowledged. `hinted_by` is the origin of
        the message (`store.origin`).
        """
        fence = uuid4()

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

        return self._retrying.until_answered(claim)

    def _is_worth_another_try(self, worker: UUID, refusal: Refusal) -> bool:
        """True if a command was applied, or this worker had been declared dead."""
        run_id = refusal.run_with_commands
        is_worth_it = run_id is not None and apply_commands(self._database, run_id)
        if refusal.worker_ended:
            self._liveness.renounce(worker)
            is_worth_it = True
        return is_worth_it

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

    def with_commands_applied(self, claim: Claim) -> Claim | None:
        """Apply a cancel that arrived before the claim, so that the unit does not begin.

        None where the claim is lost by that.
        """
        if not claim.has_commands:
            return claim

        self._retrying.until_answered(lambda: apply_commands(self._database, claim.run.id))
        return self._as_it_stands(claim)

    def begun(self, claim: Claim) -> Claim | None:
        """Write that a delayed run has begun. A run that is cancelled before never begins.

        A transaction that cancels it may have locked its row, and is looked for once that is
        written. None where the claim is lost by that.
        """
        if claim.run.status is not Status.PENDING or Flags.CANCEL in claim.token.flags:
            return claim
        self._retrying.ask(lambda connection: runs.begin(connection, claim.run.id))
        running = replace(claim, run=replace(claim.run, status=Status.RUNNING))
        return self._as_it_stands(running)

    def _as_it_stands(self, claim: Claim) -> Claim | None:
        """Return the claim with the flags and commands that there are now; None if it is lost."""
        standing = self._retrying.ask(lambda connection: tokens.read(connection, claim.token.id))
        if standing is None or standing.fence != claim.fence:
            return None
        token = replace(claim.token, flags=standing.flags)
        return replace(claim, token=token, has_commands=standing.has_commands)

    def claim_together(self, token_ids: Sequence[UUID]) -> Sequence[Claim]:
        """Claim those of the tokens that may be executed in one bundle (`bundle.claiming`)."""
        fence, worker, tries = uuid4(), self._liveness.worker_id, count()

        def claim() -> Sequence[Claim]:
            with self._database.autocommit() as connection:
                again = next(tries) > 0
                return claiming.claim(connection, token_ids, worker(), fence, again=again)

        return self._retrying.until_answered(claim)

    def hint(self, token_ids: Sequence[UUID]) -> None:
        """Have tokens brought by messages of their own."""
        self._retrying.ask(lambda connection: claiming.hint(connection, token_ids))
        self._notify()

    def look_again(self, claims: Sequence[Claim]) -> Mapping[UUID, Look]:
        """Look at claims of one bundle again; those that are lost are left out."""
        return self._retrying.ask(
            lambda connection: claiming.look(
                connection, [claim.token.id for claim in claims], claims[0].worker, claims[0].fence
            )
        )

    def pauses_of(self, run_ids: Sequence[UUID]) -> tuple[Pause, ...]:
        """Read the pauses of these runs, and those that are of no one run."""
        found = self._retrying.ask(lambda connection: pauses.of_runs(connection, run_ids))
        return tuple(one.pause for one in found)

    def release_together(self, claims: Sequence[Claim], *, single: bool) -> None:
        """Release claims of one bundle with nothing done, and put a hint for each token.

        `single`: each gets a message of its own.
        """

        def release(connection: Connection) -> set[UUID]:
            return claiming.release(connection, claims, single=single)

        released = self._retrying.ask(release)
        self._notify()
        for claim in claims:
            if claim.token.id not in released:
                self.release(claim)

    def again(self, claim: Claim) -> Claim | None:
        """Claim a token that was just parked, if what it waits for is there by now."""
        fence = uuid4()

        def claim_again(connection: Connection) -> Claim | None:
            return tokens.claim(connection, claim.token.id, claim.worker, fence)

        return self._retrying.ask(claim_again)

    def release(self, claim: Claim, delay: float = 0.0) -> None:
        """Release the claim with nothing done. A hint brings the token back after `delay` seconds.

        A token that was claimed before it was due, because of a flag, keeps its time.
        """
        self._retrying.ask(lambda connection: tokens.release(connection, claim, delay))
        self.notify_of(delay)

    def release_for_later(self, claim: Claim) -> None:
        """Release the claim for a delay, which doubles each time."""
        self.release(claim, backoff(claim, RELEASE_FIRST, RELEASE_MAXIMUM))

    def abandon(self, claim: Claim, *, counts: bool = False, timed_out: bool = False) -> None:
        """Release the claim wherever its token stands by now.

        `counts`: as a crash of its unit; `timed_out`: as a try that took too long.
        """
        token = claim.token
        claimed = Claimed(
            token.id, token.run_id, token.unit, claim.fence, claim.worker, counts, timed_out
        )
        self._retrying.ask(
            lambda connection: reaping.reap(connection, claimed, uuid4(), waits=True)
        )
        self._notify()

    def notify_of(self, delay: float) -> None:
        """Wake the relays, unless they look by themselves before a message is due in `delay`."""
        if delay < self._settings.poll_interval:
            self._notify()
