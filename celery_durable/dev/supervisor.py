"""Keeps the parts running until the end is asked for, and starts them anew when files change."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from celery_durable.dev.lines import Lines
from celery_durable.dev.process import Child, Part, said_of

READY = "\x06"
"""What a part's line begins with when it says that it is ready: ACK."""

GRACE = 10.0
"""Seconds in which a part may end in good order. A worker that has steps to end hands them over
after it: it is draining, so that the reaper counts no crash.
"""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0

LOADS_WITHIN = 10.0
"""Seconds after which it is said that changed files are still being loaded."""

STEADY_SECONDS = 60.0
"""A part that has lived so long is not one that fails again and again."""

LAST_WORDS_SECONDS = 5.0
"""For the output of a part that has ended; what has left its group may hold it open."""


@dataclass(slots=True)
class Pauses:
    """The seconds to wait before a part that has ended is started again: more each time."""

    _next: float = FIRST_PAUSE

    def after(self, lived: float) -> float:
        """The pause for a part that has lived for so many seconds."""
        pause = FIRST_PAUSE if lived >= STEADY_SECONDS else self._next
        self._next = min(2 * pause, LONGEST_PAUSE)
        return pause


class Ending:
    """The wish to end: SIGINT, SIGTERM or SIGHUP, or nobody who reads. A second one cannot wait."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurry = asyncio.Event()

    def ask(self) -> None:
        """Called for each signal."""
        (self.hurry if self.asked.is_set() else self.asked).set()

    def listen(self) -> None:
        """Take the signals; one that is ignored, as by nohup, stays ignored."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self.ask)


@dataclass(slots=True)
class Kept:
    """A part that is kept running, and what is known of it."""

    part: Part
    pauses: Pauses = field(default_factory=Pauses)
    anew: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it is to be started anew, at once."""


class Supervisor:
    """Keeps parts running. `on_ready` has what is called each time that a part has got ready."""

    def __init__(
        self, parts: Sequence[Part], lines: Lines, on_ready: Mapping[str, Callable[[], None]]
    ) -> None:
        self._kept = [Kept(part) for part in parts]
        self._lines = lines
        self._on_ready = on_ready
        self.ending = Ending()

    async def run(self, *others: Callable[[], Awaitable[None]]) -> None:
        """Run until the end is asked for; `others` run meanwhile, and are cancelled then."""
        self.ending.listen()
        self._lines.when_gone(self.ending.asked.set)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._keep(kept)) for kept in self._kept]
            tasks += [group.create_task(_run(other)) for other in others]
            await self.ending.asked.wait()
            self._lines.say("ends")
            for task in tasks:
                task.cancel()

    def start_anew(self) -> None:
        """End each part, and start it again at once."""
        for kept in self._kept:
            kept.anew.set()

    async def follow(
        self, changes: AsyncIterator[Sequence[Path]], is_usable: Callable[[], Awaitable[bool]]
    ) -> None:
        """Start everything anew when files have changed and `is_usable` says that they load.

        A change ends the look at the ones before it, which may hang: then it is about all of them.
        """
        looking = asyncio.ensure_future(asyncio.sleep(0))
        seen: set[Path] = set()
        try:
            async for changed in changes:
                if looking.done():
                    looking.result()
                    seen.clear()
                looking.cancel()
                await asyncio.wait([looking])
                seen.update(changed)
                looking = asyncio.ensure_future(self._look_at(sorted(seen), is_usable))
        finally:
            looking.cancel()

    async def _look_at(
        self, changed: Sequence[Path], is_usable: Callable[[], Awaitable[bool]]
    ) -> None:
        names = ", ".join(str(path) for path in changed[:3])
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""  # noqa: PLR2004
        what, goes_on = f"{names}{more} changed", "everything goes on as it was"
        slow = asyncio.get_running_loop().call_later(
            LOADS_WITHIN,
            self._lines.say,
            f"{what}, and is being loaded for {LOADS_WITHIN:g} s already: {goes_on} meanwhile",
            "yellow",
        )
        try:
            loads = await is_usable()
        finally:
            slow.cancel()
        if loads:
            self._lines.say(f"{what}: starting anew")
            self.start_anew()
        else:
            self._lines.say(
                f"{what} and cannot be loaded: {goes_on} until the next change", "yellow"
            )

    async def _keep(self, kept: Kept) -> None:
        while True:
            began = asyncio.get_running_loop().time()
            kept.anew.clear()
            code = await self._run_once(kept)
            if kept.anew.is_set():
                continue
            pause = kept.pauses.after(asyncio.get_running_loop().time() - began)
            name = kept.part.name
            self._lines.say(
                f"{name} ended {said_of(code)}; it is started again in {pause:g} s", "yellow"
            )
            with suppress(TimeoutError):
                await asyncio.wait_for(kept.anew.wait(), pause)

    async def _run_once(self, kept: Kept) -> int:
        """Run a process of the part until it ends, or is to be started anew."""
        child = Child(kept.part)
        self._lines.forget(kept.part.name)
        reading = asyncio.ensure_future(self._show(kept.part.name, child))
        waits = [asyncio.ensure_future(child.ended()), asyncio.ensure_future(kept.anew.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
            await child.end(GRACE, self.ending.hurry)
            await asyncio.wait([reading], timeout=LAST_WORDS_SECONDS)
            reading.cancel()
        return await child.ended()

    async def _show(self, name: str, child: Child) -> None:
        async for line in child.lines():
            if not line.startswith(READY):
                self._lines.show(name, line)
                continue
            if len(line) > len(READY):
                self._lines.show(name, line.removeprefix(READY))
            self._on_ready.get(name, lambda: None)()


async def _run(other: Callable[[], Awaitable[None]]) -> None:
    await other()
