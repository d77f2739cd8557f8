"""One process under test: what it says, and what lives of it."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.waiting import wait_until

# A terminal whose keyboard is standard input; if it is killed, the command's terminal hangs up.
_TERMINAL = """
import os, pty, sys
sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))
"""

IN_TERMINAL = (sys.executable, "-c", _TERMINAL)

PATIENCE = 150.0
"""Seconds for what a busy machine takes to start four interpreters."""


class Running:
    """A process whose output goes into a file."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path, folder: Path) -> None:
        self.process = process
        self.folder = folder
        self._output = output
        self._seen = 0

    @property
    def text(self) -> str:
        """All that it has said, without colours."""
        said = self._output.read_text(encoding="utf-8", errors="replace")
        return re.sub(r"\x1b\[[0-9;]*m", "", said).replace("\r\n", "\n")

    @property
    def has_colours(self) -> bool:
        return b"\x1b[" in self._output.read_bytes()

    def wait_for(self, pattern: str, *, again: bool = False) -> re.Match[str]:
        """Wait until a line matches; `again`: one after the last that was waited for."""
        expression = re.compile(pattern, re.MULTILINE)
        start = self._seen if again else 0

        def search() -> re.Match[str] | None:
            found = expression.search(self.text, start)
            assert found or self.process.poll() is None, f"no {pattern!r} in:\n{self.text}"
            return found

        found = wait_until(
            search,
            timeout=PATIENCE,
            message=lambda: f"{pattern!r} in:\n{self.text[start:]}",
        )
        assert found is not None
        self._seen = max(self._seen, found.end())
        return found

    def type(self, keys: bytes) -> None:
        """Press keys in its terminal."""
        assert self.process.stdin is not None
        self.process.stdin.write(keys)
        self.process.stdin.flush()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit code."""
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it goes on:\n{self.text}") from None

    def living(self) -> list[psutil.Process]:
        """The processes that work in its folder, whoever their parents are, and it itself."""
        return [each for each in psutil.process_iter() if _belongs_to(each, str(self.folder))]

    def wait_until_nothing_lives(self) -> None:
        wait_until(lambda: not self.living(), message=lambda: f"to end: {self.living()}")

    def part(self, name: str) -> psutil.Process:
        """The main process of a part of `durable dev`."""
        found = [each for each in self.living() if words_of(each)[-2:] == ["--part", name]]
        main = [each for each in found if os.getpgid(each.pid) == each.pid]
        assert len(main) == 1, found
        return main[0]

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


def words_of(process: psutil.Process) -> list[str]:
    """What was typed to start it; nothing where it has ended meanwhile."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _belongs_to(process: psutil.Process, folder: str) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        inside = process.cwd() == folder or process.cwd().startswith(f"{folder}/")
        return inside or any(folder in word for word in process.cmdline())
    except psutil.Error:  # it is gone
        return False


@contextmanager
def running(
    command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """Run a command in its folder; nothing of it is left afterwards, whatever it did wrong."""
    descriptor, output = tempfile.mkstemp(suffix=".log")
    with os.fdopen(descriptor, "wb") as file:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    found = Running(process, Path(output), folder)
    try:
        yield found
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.kill()
        process.wait()
        for each in found.living():
            with suppress(psutil.Error):
                each.kill()
        Path(output).unlink()
