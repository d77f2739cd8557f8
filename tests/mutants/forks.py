"""The side of the `nursery` that asks: runs of pytest, each in a process that was forked."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.mutants import nursery
from tests.mutants.nursery import Request

BACKLOG = 128


class Forks:
    """A nursery in `home`, which has imported `modules`; a context manager."""

    def __init__(self, home: Path, modules: Sequence[str]) -> None:
        self._program = home / "mutant_nursery.py"
        self._address = str(home / "nursery")
        self._modules = modules
        self._asked: set[socket.socket] = set()

    def __enter__(self) -> Self:
        shutil.copy2(nursery.__file__, self._program)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self._address)
            listener.listen(BACKLOG)
            descriptor = listener.fileno()
            self._process = subprocess.Popen(
                [sys.executable, str(self._program), str(descriptor), *self._modules],
                env=own_environment(),
                stdin=subprocess.PIPE,
                pass_fds=[descriptor],
                start_new_session=True,  # Ctrl-C is for us, who hang up
            )
        return self

    def __exit__(self, *_: object) -> None:
        """Let every run that still goes on tear its fixtures down."""
        self.hang_up()
        self._process.communicate()

    def run(self, request: Request) -> int | None:
        """The exit code of a run of pytest; None if it had to be ended."""
        with socket.socket(socket.AF_UNIX) as connection:
            self._asked.add(connection)
            try:
                connection.connect(self._address)
                connection.sendall(json.dumps(request).encode() + b"\n")
                answer: int | None = json.loads(connection.makefile().readline() or "null")
            finally:
                self._asked.discard(connection)
        return answer

    def hang_up(self) -> None:
        """End the runs that go on."""
        for connection in [*self._asked]:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def own_environment() -> dict[str, str]:
    """Ours without what is meant for us: the options of a pytest around us, and our path."""
    return {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("PYTEST_") and key != "PYTHONPATH"
    }
