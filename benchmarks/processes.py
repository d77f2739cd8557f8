"""Child processes of the benchmark: workers that run, and clients that answer."""

from __future__ import annotations

import atexit
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import WeakSet

from benchmarks.programs.wire import READY

ROOT = Path(__file__).resolve().parents[1]

LAUNCHER = ROOT / "tests" / "cluster" / "launch.py"
"""Makes a process die with the benchmark, however that ends."""

READY_SECONDS = 60.0
LOG_TAIL = 400

_living: WeakSet[Process] = WeakSet()


class ContenderFailed(Exception):
    """A program of a contender did not do what it was asked to; its row says so."""


class WorkMissing(ContenderFailed):
    """It has not done all of the work; the benchmark fails at its end."""


class Process:
    """A command in a process group of its own, whose output goes to a file."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        env: Mapping[str, str] | None = None,
        *,
        answers: bool = False,
    ) -> None:
        self._log = log
        launch = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *command]
        with log.open("wb") as output:
            self._life = subprocess.Popen(
                launch,
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
                stdin=subprocess.PIPE if answers else subprocess.DEVNULL,
                stdout=subprocess.PIPE if answers else output,
                stderr=output,
                text=True,
                start_new_session=True,
            )
        _living.add(self)

    @property
    def pid(self) -> int:
        return self._life.pid

    @property
    def is_running(self) -> bool:
        return self._life.poll() is None

    def wait_ready(self, prompt: str = READY) -> None:
        """Wait until it has printed the prompt."""
        deadline = time.monotonic() + READY_SECONDS
        while prompt not in self._log.read_text(errors="replace"):
            if not self.is_running or time.monotonic() > deadline:
                raise ContenderFailed(f"a worker did not start: {self.last_words}")
            time.sleep(0.05)

    @property
    def last_words(self) -> str:
        """The end of what it has printed, on one line."""
        return " ".join(self._log.read_text(errors="replace").split())[-LOG_TAIL:]

    def ask(self, timeout: float, **request: Any) -> Any:
        """Ask a client, and return its answer."""
        pipe, answers = self._life.stdin, self._life.stdout
        assert pipe is not None
        assert answers is not None
        try:
            pipe.write(json.dumps(request) + "\n")
            pipe.flush()
        except BrokenPipeError:
            raise ContenderFailed(f"a client has ended: {self.last_words}") from None
        with selectors.DefaultSelector() as selector:
            selector.register(answers, selectors.EVENT_READ)
            if not selector.select(timeout):
                raise ContenderFailed(f"no answer within {timeout:g} s")
        line = answers.readline()
        if not line:
            raise ContenderFailed(f"a client has ended: {self.last_words}")
        answer = json.loads(line)
        if "error" in answer:
            raise (WorkMissing if answer["is_missing"] else ContenderFailed)(answer["error"])
        return answer["answer"]

    def end(self) -> None:
        """Kill the whole group, and wait. Safe to call twice."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._life.wait()
        for pipe in (self._life.stdin, self._life.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        _living.discard(self)


@atexit.register
def _end_all() -> None:
    for process in list(_living):
        process.end()
