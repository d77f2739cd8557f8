"""Has units that may kill their process executed one at a time, with nothing else at risk.

A process that dies is counted against all that it has claimed (ADR 16). Who finds a suspect at work
gives its own back; until that is written, it too would be counted. So a suspect begins once every
claim of this process is decided upon: executed, or given back.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from celery_durable.engine.attempt import Message

DECIDED_WITHIN = 5.0
"""Seconds that a suspect waits for; where Postgres is away, claims stay undecided for long."""


class Suspects:
    """The turn of suspects in this process."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._changed = threading.Condition()
        self._undecided = 0
        self.is_waiting = False

    @contextmanager
    def arriving(self, message: Message) -> Iterator[None]:
        """Count a message as undecided until it is decided upon, or the block ends."""
        with self._changed:
            self._undecided += 1
        message.when_decided = self._leave
        try:
            yield
        finally:
            message.decided()

    def _leave(self) -> None:
        with self._changed:
            self._undecided -= 1
            if self.is_waiting:
                self._changed.notify_all()

    @contextmanager
    def turn(self, message: Message) -> Iterator[bool]:
        """Yield True if it is the turn of the message's suspect; once nobody else is undecided."""
        if not self._turn.acquire(blocking=False):
            yield False
            return
        try:
            message.decided()
            self._wait_for_others()
            yield True
        finally:
            self._turn.release()

    def _wait_for_others(self) -> None:
        with self._changed:
            self.is_waiting = True
            self._changed.wait_for(lambda: not self._undecided, DECIDED_WITHIN)
            self.is_waiting = False
