"""Celery's processes, forked instead of started: each saves more than a second of imports.

They are what ``python -m celery`` is but for how they begin (`nursery`). The tests of the command
line, the demo, the tutorial and the examples start theirs with a command.
"""

import json
import os
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from uuid import uuid4

from tests.addresses import ROOT
from tests.cluster.nursery import Birth, Command
from tests.cluster.process import Life, LocalProcess, environment

PROGRAM = Path(__file__).with_name("nursery.py")


class Nursery:
    """A process that forks, one for all of this process's; one more for a pool that patches."""

    def __init__(self, *pool: str) -> None:
        self._pool = pool
        self._lock = threading.Lock()
        self.address = f"durable-nursery-{uuid4()}"  # unix(7): abstract, so nothing is left of it
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
            door.bind(f"\0{self.address}")
            door.listen(100)
            self._process = self._begun(door.fileno())

    def _begun(self, door: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(PROGRAM), str(door), *self._pool],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            pass_fds=[door],
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
    parent: Nursery
    exit_code: int | None = None

    def poll(self) -> int | None:
        """The exit code; negative is the signal that ended it. None while it runs."""
        if self.exit_code is None:
            self.exit_code = self.parent.ask(self.pid)
        return self.exit_code


class ForkedProcess(LocalProcess):
    """A ``python -m celery`` with the words that follow it in `command`."""

    def _begin(self) -> Life:
        assert self.command[:3] == [sys.executable, "-m", "celery"], self.command
        self.log_file.touch()  # it can be read from now on
        birth: Birth = {"words": self.command[3:], "env": self.env, "log": str(self.log_file)}
        parent = nursery("gevent") if "gevent" in self.command else nursery()
        pid = parent.ask(birth)
        assert pid is not None
        return Forked(pid, parent)


def celery_command() -> list[str]:
    """What to type for ``celery``, so that it is forked: see `typed`."""
    if sys.platform != "linux":
        return [sys.executable, "-m", "celery"]
    return [sys.executable, "-I", "-S", str(PROGRAM.with_name("typed.py")), nursery().address]


def write_command(folder: Path) -> None:
    """Put a program called ``celery`` into a folder, for somebody's PATH."""
    program = folder / "celery"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(celery_command())} "$@"\n')
    program.chmod(0o755)


def run_celery(
    words: Sequence[str], *, env: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run ``celery`` with these words to its end; its exit code, stdout and stderr."""
    command: Command = {"words": [*words], "env": dict(env), "cwd": str(ROOT)}
    with (
        TemporaryFile("w+") as out,
        TemporaryFile("w+") as err,
        Path(os.devnull).open() as nothing,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection,
    ):
        connection.settimeout(timeout)
        connection.connect(f"\0{nursery().address}")
        streams = [stream.fileno() for stream in (nothing, out, err)]
        socket.send_fds(connection, [json.dumps(command).encode()], streams)
        code = int(connection.recv(100))
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess([*words], code, out.read(), err.read())
