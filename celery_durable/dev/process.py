"""One process of a part, and all that it starts in its group: nothing of it outlives this process.

A part has a session of its own, so that Ctrl-C and the hang-up of the terminal reach only the
process that ends its parts in good order.
"""

from __future__ import annotations

import asyncio
import codecs
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# The shell becomes the part (exec keeps the pid) and leaves a watcher behind that reads from us.
# The end of the file means that we are gone, or have done with the part; then the whole group
# goes, the children of a killed worker too. PR_SET_PDEATHSIG is Linux only, fires when the *thread*
# that started the process ends, and does not reach grandchildren.
_LAUNCHER = """
exec 3<&0 </dev/null
{ read -r never <&3; kill -KILL -$$; } >/dev/null 2>&1 &
exec "$@" 3<&-
"""

FIRST_FREE_FD = 10
"""What is handed on to a part has a higher number than the launcher uses."""

LOOK_EVERY = 0.05
"""Seconds between two looks at whether a process has ended.

asyncio's own `Process.wait` waits, in some releases of Python, until grandchildren have closed the
output too: https://github.com/python/cpython/issues/119710.
"""

CHUNK = 65536
LONGEST_LINE = 100_000
"""Characters after which a line is shown though it has not ended."""


@dataclass(frozen=True, slots=True)
class Part:
    """A command that is kept running, under the name that its lines are shown with."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    directory: Path
    handed_fds: tuple[int, ...] = ()


class Child:
    """One process of a part."""

    def __init__(self, part: Part) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _LAUNCHER, "sh", *part.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=part.directory,
            env=part.environment,
            pass_fds=part.handed_fds,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The process id, which is that of its group too."""
        return self._process.pid

    async def lines(self) -> AsyncIterator[str]:
        """Yield what the process and its children write, until all of them have ended."""
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        assert self._process.stdout is not None  # for the type checker: it is a pipe
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), self._process.stdout
        )
        try:
            async for line in _lines_of(reader):
                yield line
        finally:
            transport.close()

    async def ended(self) -> int:
        """Wait until the process has ended; returns its exit code, negative for a signal."""
        while (code := self._process.poll()) is None:  # noqa: ASYNC110 - see LOOK_EVERY
            await asyncio.sleep(LOOK_EVERY)
        return code

    async def end(self, grace: float, hurry: asyncio.Event) -> None:
        """End the process in good order within `grace` seconds, and then whatever is left of it.

        `hurry` cuts the grace short.
        """
        if self._process.poll() is None:
            self._process.terminate()
            waits = [asyncio.ensure_future(self.ended()), asyncio.ensure_future(hurry.wait())]
            await asyncio.wait(waits, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
            for each in waits:
                each.cancel()
        await self.kill()

    async def kill(self) -> None:
        """End the whole group at once."""
        if self._process.poll() is None:
            # The group cannot be another's: its leader is not waited for yet.
            os.killpg(self._process.pid, signal.SIGKILL)
        assert self._process.stdin is not None  # for the type checker: it is a pipe
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        await self.ended()


async def _lines_of(reader: asyncio.StreamReader) -> AsyncIterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest = ""
    while chunk := await reader.read(CHUNK):
        *whole, rest = (rest + decoder.decode(chunk)).split("\n")
        for line in whole:
            yield line.rstrip("\r")
        if len(rest) > LONGEST_LINE:
            yield rest
            rest = ""
    if rest:
        yield rest


def said_of(code: int) -> str:
    """How a process has ended, in words."""
    if code >= 0:
        return f"with exit code {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"
