"""Celery's processes, forked instead of started: each saves more than a second of imports.

They are what ``python -m celery`` is but for how they begin (`nursery`). The tests of the command
line, the demo, the tutorial and the examples start theirs with a command, and so do pools that
patch modules before these are imported.
"""

import json
import subprocess
import sys
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.addresses import ROOT
from tests.cluster.nursery import Birth
from tests.cluster.process import Life, LocalProcess, environment

PROGRAM = Path(__file__).with_name("nursery.py")


class Nursery:
    """The process that forks, one for all of this process's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM)],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def ask(self, request: Birth | int) -> int | None:
        """The answer of `nursery` to a request."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            print(json.dumps(request), file=self._process.stdin, flush=True)
            answer: int | None = json.loads(self._process.stdout.readline())
        return answer


nursery = cache(Nursery)


@dataclass(slots=True)
class Forked:
    """A process that was forked. It can be asked for its end once the nursery has answered."""

    pid: int
    exit_code: int | None = None

    def poll(self) -> int | None:
        """The exit code; negative is the signal that ended it. None while it runs."""
        if self.exit_code is None:
            self.exit_code = nursery().ask(self.pid)
        return self.exit_code


class ForkedProcess(LocalProcess):
    """A ``python -m celery`` with the words that follow it in `command`."""

    def _begin(self) -> Life:
        assert self.command[:3] == [sys.executable, "-m", "celery"], self.command
        self.log_file.touch()  # it can be read from now on
        birth: Birth = {"words": self.command[3:], "env": self.env, "log": str(self.log_file)}
        pid = nursery().ask(birth)
        assert pid is not None
        return Forked(pid)
