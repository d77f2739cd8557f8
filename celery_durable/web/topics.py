"""Looks at things again and again for all who watch them: at each thing once, however many watch.

Everything here belongs to one event loop. What is looked at is read in a thread, and at most a
tenth of the time.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from celery_durable.errors import DurableError

EVERY = 1.0
"""Seconds from one look to the next, at least."""

SHARE = 10
"""A look that takes long is followed by a pause so many times as long."""

MOST_STREAMS = 100
"""Streams of events that are open at once."""

MOST_LOOKS = 4
"""Looks that are under way at once, each with a connection to Postgres."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen. `mark` is the same as long as the page is; after the last nothing changes."""

    mark: object
    value: Any
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class Subject:
    """What a page shows live: how it is looked at, and drawn by a template with `values`."""

    key: Hashable
    look: Callable[[], Look]
    template: str
    values: Callable[[Any], dict[str, Any]]


def digest(mark: object) -> str:
    """A mark as a page says it in the address of its stream: what it shows need not come again."""
    return hashlib.sha256(repr(mark).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """What was seen last, and what has kept from looking since."""

    look: Look | None = None
    trouble: str = ""


class TooManyStreams(Exception):
    """As many streams are open as may be."""


class Topic:
    """One thing that is watched."""

    def __init__(self, look: Callable[[], Look], looks: asyncio.Semaphore) -> None:
        self._look = look
        self._looks = looks
        self._told = asyncio.Condition()
        self.state = State()
        self.viewers = 0

    async def watch(self) -> None:
        """Look until nothing changes any more."""
        while self.state.look is None or not self.state.look.is_last:
            began = time.monotonic()
            found = await self._next_state()
            if found is not None:
                async with self._told:
                    self.state = found
                    self._told.notify_all()
            await asyncio.sleep(max(EVERY, SHARE * (time.monotonic() - began)))

    async def _next_state(self) -> State | None:
        """Look; None if nothing has changed."""
        before = self.state
        try:
            async with self._looks:
                seen = await asyncio.to_thread(self._look)
        except DurableError as error:
            trouble = str(error)
            return None if trouble == before.trouble else State(before.look, trouble)
        if self.state is not before:  # a page has shown what it has read meanwhile
            return None
        return None if self._shows(seen) else State(seen)

    def _shows(self, seen: Look) -> bool:
        state = self.state
        return state.look is not None and state.look.mark == seen.mark and not state.trouble

    def show(self, seen: Look) -> None:
        """Take what a page has read; a look that is under way is older, and dropped."""
        if not self._shows(seen):
            self.state = State(seen)

    async def after(self, known: State | None, within: float) -> State:
        """Wait until the state is another than `known`, but not for longer; return it."""
        async with self._told:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait_for(lambda: self._is_after(known)), within)
        return self.state

    def _is_after(self, known: State | None) -> bool:
        is_known = self.state.look is not None or bool(self.state.trouble)
        return is_known and self.state is not known


class Topics:
    """All that is watched; what nobody watches any more is not looked at."""

    def __init__(self, most_streams: int = MOST_STREAMS) -> None:
        self._most_streams = most_streams
        self._topics: dict[Hashable, tuple[Topic, asyncio.Task[None]]] = {}
        self._looks: asyncio.Semaphore | None = None

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return sum(topic.viewers for topic, _ in self._topics.values())

    def seen(self, subject: Subject) -> Look:
        """Look at a thing now, for a page: its stream shows nothing older. Called in a thread."""
        look = subject.look()
        if (found := self._topics.get(subject.key)) is not None:
            found[0].show(look)
        return look

    @asynccontextmanager
    async def watched(self, key: Hashable, look: Callable[[], Look]) -> AsyncIterator[Topic]:
        """Have a thing looked at while the block runs. Raises `TooManyStreams`."""
        if self.streams >= self._most_streams:
            raise TooManyStreams
        if key not in self._topics:
            self._looks = self._looks or asyncio.Semaphore(MOST_LOOKS)
            made = Topic(look, self._looks)
            self._topics[key] = made, asyncio.create_task(made.watch())
        topic, task = self._topics[key]
        topic.viewers += 1
        try:
            yield topic
        finally:
            topic.viewers -= 1
            if not topic.viewers:
                del self._topics[key]
                task.cancel()
