"""A bundle: tokens that one message names, which share their claim and their commits.

One thread, the executor, calls one unit of each token in turn, and then commits what is ready in
one statement for each kind of decision: a round. Beside it the guard (`guard`) sees to it that no
token waits for the function of another. It commits what has been ready for a while, and gives back
tokens that have not begun.

A token is in one place at a time: it waits to begin, is executed, is ready, or is being written.
Only one thread takes it from there, under `_lock`, so that executor and guard never both have it.
What is not plain (`store.bundle.committing`) goes the way of a single token (`loop`).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from celery_durable.core.claim import Claim
from celery_durable.core.pause import Pause
from celery_durable.core.values import value
from celery_durable.engine.announce import Announcer
from celery_durable.engine.attempt import Attempt, Message
from celery_durable.engine.claims import Claims
from celery_durable.engine.commit import Committer
from celery_durable.engine.slow_units import SlowUnits
from celery_durable.errors import DatabaseUnavailable
from celery_durable.store.bundle.claiming import Look
from celery_durable.store.bundle.committing import Plain
from celery_durable.workflow.builder import Workflow
from celery_durable.workflow.execute import Execution

LOOK_AGAIN_AFTER = 0.02
"""Seconds after the last look at a claim from which on it is looked at again before it begins."""

TOLD_TO_WITHIN = 0.001
"""Seconds by which the start of a unit may be told too early: a claim that is moved on costs a few
microseconds.
"""

WRITE_AFTER = 0.005
"""Seconds that a decision waits to be written while another unit is executed."""

GIVE_BACK_AFTER = 0.05
"""Seconds after which a unit is taken for long: tokens that have not begun are given back."""

MOST_BYTES = 4 * 1024 * 1024
"""Bytes of results from which on a round is written before it is over."""

Place = tuple[str, int, str, str | None, bool, bool, bool]


def place_of(claim: Claim) -> Place:
    """Return what tells whether the unit of a claim can be executed, whatever its run is."""
    run, token = claim.run, claim.token
    return (
        run.workflow,
        run.version,
        token.node,
        token.part,
        token.unit == token.node,
        token.parent is None,
        token.rollback is None,
    )


@dataclass(slots=True, eq=False)
class Hand:
    """A token in hand.

    `asked_at` is when the statement was sent that has looked at its claim last, by the monotonic
    clock: what it saw may be as old as that, if it had to wait. `seen_at` is when it had answered.
    """

    claim: Claim
    message: Message
    asked_at: float
    seen_at: float

    def look(self, claim: Claim, asked_at: float) -> None:
        """Hold the claim as the statement has seen it that was sent at `asked_at`."""
        self.claim, self.asked_at, self.seen_at = claim, asked_at, time.monotonic()

    def begin(self, now: float) -> None:
        """Let the unit begin at `now`, by the monotonic clock."""
        if now - self.seen_at > TOLD_TO_WITHIN:
            self.claim = self.claim.later(now - self.seen_at)


@value(frozen=True, slots=True, eq=False)
class Ready:
    """A unit that has been executed, and is to be written with others."""

    hand: Hand
    attempt: Attempt
    execution: Execution
    plain: Plain


@value(frozen=True, slots=True)
class Ways:
    """How a bundle uses the engine.

    `execute` calls a unit's function if it is a plain one, and returns None, with nothing done, if
    it is not; `go_on` does with a claim what is to be done with that of a single token; `abandon`
    releases a claim after an error.
    """

    claims: Claims
    committer: Committer
    announcer: Announcer
    slow_units: SlowUnits
    execute: Callable[[Claim, Message, dict[Place, Workflow]], tuple[Attempt, Execution] | None]
    go_on: Callable[[Claim, Message], Claim | None]
    abandon: Callable[[Claim, BaseException, float], None]


def seen_again(claim: Claim, look: Look) -> Claim:
    """The claim as a look has found it."""
    token = replace(claim.token, flags=look.flags) if look.flags else claim.token
    return claim.moved(
        token,
        look.at,
        draining=look.draining,
        has_commands=look.has_commands,
        pauses=(Pause(run_id=claim.run.id),) if look.is_paused else (),
    )


class Bundle:
    """Executes the units of several tokens in turn, until each has been written or released."""

    def __init__(
        self, ways: Ways, claims: Sequence[Claim], messages: Sequence[Message], asked_at: float
    ) -> None:
        now = time.monotonic()
        self._ways = ways
        self._fence = claims[0].fence
        self._report = messages[0].report
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._waiting = deque(
            Hand(claim, message, asked_at, now)
            for claim, message in zip(claims, messages, strict=True)
        )
        self._places: dict[Place, Workflow] = {}
        self._executing: Hand | None = None
        self._began = now
        self._ready: list[Ready] = []
        self._ready_since = now
        self._bytes = 0
        self._error: BaseException | None = None

    # The executor.

    def run(self) -> None:
        """Execute until no token is left. Raises what an error of ours, or an exit, raised."""
        try:
            self._give_back_slow()
            while (hand := self._next()) is not None:
                self._advance(hand)
                with self._lock:
                    self._executing = None
        except DatabaseUnavailable:
            raise
        except BaseException as error:
            self._wind_up(error)
            raise

    def _next(self) -> Hand | None:
        """Take the next token that is to begin; None when none is left."""
        while True:
            self._ways.announcer.send()
            with self._lock:
                if self._error is not None:
                    raise self._error
                hand = self._waiting.popleft() if self._waiting else None
                now = time.monotonic()
                if hand is not None and now - hand.asked_at <= LOOK_AGAIN_AFTER:
                    hand.begin(now)
                    self._executing, self._began = hand, now
                    return hand
                # Nobody else may begin these while they are looked at.
                late = [] if hand is None else [hand, *self._waiting]
                self._waiting.clear()
            if late:
                self.write()  # the look may take long, and the guard does nothing meanwhile
                self._look_again(late)
            elif not self.write():
                return None

    def _advance(self, hand: Hand) -> None:
        """Execute one unit, and keep what became of it until it is written."""
        hand.message.units_left -= 1
        done = self._ways.execute(hand.claim, hand.message, self._places)
        if done is None:
            self._go_on_alone(hand)
            return
        attempt, execution = done
        plain = self._ways.committer.plain(attempt, execution)
        if plain is None or hand.claim.fence != self._fence:
            self.write()
            asked_at = time.monotonic()
            self._keep(self._ways.committer.commit(attempt, execution), hand, asked_at)
            return
        with self._lock:
            if not self._ready:
                self._ready_since = time.monotonic()
            self._ready.append(Ready(hand, attempt, execution, plain))
            self._executing = None  # from here on it is the writer's
            self._bytes += plain.size
            is_full = self._bytes > MOST_BYTES
        if is_full:
            self.write()

    def _go_on_alone(self, hand: Hand) -> None:
        self.write()
        asked_at = time.monotonic()
        self._keep(self._ways.go_on(hand.claim, hand.message), hand, asked_at)

    def _keep(self, claim: Claim | None, hand: Hand, asked_at: float) -> None:
        """Put the token back among those that wait, if the worker goes straight on with it."""
        if claim is not None:
            hand.look(claim, asked_at)
            with self._lock:
                self._waiting.append(hand)

    def _look_again(self, hands: Sequence[Hand]) -> None:
        """Look at tokens that have not begun: a cancel may have come, or the claim been lost."""
        left = [*hands]
        try:
            asked_at = time.monotonic()
            own = [hand.claim for hand in hands if hand.claim.fence == self._fence]
            found = self._ways.claims.look_again(own) if own else {}
            for hand in hands:
                look = found.get(hand.claim.token.id)
                if hand.claim.fence != self._fence:
                    self._ways.claims.release(hand.claim)
                if look is None:
                    left.remove(hand)
                else:
                    hand.look(seen_again(hand.claim, look), asked_at)
        finally:
            with self._lock:
                self._waiting.extendleft(reversed(left))

    def _give_back_slow(self) -> None:
        """Give back the tokens at units that are slow; one of them stays if there is no other."""
        is_slow = self._ways.slow_units.is_slow
        slow = [hand for hand in self._waiting if is_slow(hand.claim.run, hand.claim.token)]
        if len(slow) == len(self._waiting):
            slow = slow[1:]
        if slow:
            for hand in slow:
                self._waiting.remove(hand)
            self._ways.claims.release_together([hand.claim for hand in slow], single=True)

    def _wind_up(self, error: BaseException) -> None:
        """End early: write what is ready, abandon what was executed, release what has not begun."""
        lasted = time.monotonic() - self._began
        with self._lock:
            executing, self._executing = self._executing, None
        try:
            if self._error is None:
                self.write()
        finally:
            with self._writing:
                pass  # the guard may be in the middle of giving back
            with self._lock:
                waiting = [hand.claim for hand in self._waiting]
                ready = [one.hand.claim for one in self._ready]
                self._waiting.clear()
                self._ready.clear()
            # First those that have done nothing: the process may soon be killed.
            if waiting:
                self._ways.claims.release_together(waiting, single=False)
            for claim in ready:
                self._ways.claims.abandon(claim)
            if executing is not None:
                self._ways.abandon(executing.claim, error, lasted)

    # Both threads.

    def write(self) -> bool:
        """Write what is ready; return True if some token goes straight on."""
        with self._writing:
            with self._lock:
                ready, self._ready, self._bytes = self._ready, [], 0
            try:
                while ready:
                    self._write_alike(ready)
            finally:
                with self._lock:
                    self._ready += ready  # what could not be written
            return bool(self._waiting)

    def _write_alike(self, ready: list[Ready]) -> None:
        """Write those that one statement writes with the first; take them out of `ready`."""
        kind = ready[0].plain.kind
        alike = [one for one in ready if one.plain.kind == kind]
        committer = self._ways.committer
        asked_at = time.monotonic()
        written = committer.commit_together([one.plain for one in alike])
        going_on: list[Hand] = []
        done: list[Plain] = []
        try:
            for one in alike:
                answer = written.get(one.attempt.claim.token.id)
                if answer is None:
                    claim = committer.commit(one.attempt, one.execution)
                else:
                    claim = committer.moved(one.plain, answer)
                    done.append(one.plain)
                ready.remove(one)
                if claim is not None:
                    one.hand.look(claim, asked_at)
                    going_on.append(one.hand)
        finally:
            self._report.committed_together(done)
            with self._lock:
                self._waiting.extend(going_on)

    # The guard.

    def look_after(self) -> None:
        """Do what cannot wait for the unit that is executed; called every few milliseconds."""
        now = time.monotonic()
        with self._lock:
            if self._executing is None or self._error is not None:
                return
            has_waited = bool(self._ready) and now - self._ready_since > WRITE_AFTER
            is_long = now - self._began > GIVE_BACK_AFTER
        try:
            if has_waited:
                self.write()
            if is_long:
                self._give_back_waiting()
        except BaseException as error:  # noqa: BLE001 - the executor raises it
            with self._lock:
                self._error = error

    def _give_back_waiting(self) -> None:
        with self._writing:
            with self._lock:
                if self._executing is None:
                    return
                given_back = [hand.claim for hand in self._waiting]
                self._waiting.clear()
            if given_back:
                self._ways.claims.release_together(given_back, single=True)
