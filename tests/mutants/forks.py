"""The side of the `nursery` that asks: runs of pytest, each in a process that was forked."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.mutants import nursery
from tests.mutants.nursery import Nursery, Request

BACKLOG = 128


class Forks:
    """A process in `home` that forks others; a context manager."""

    def __init__(self, home: Path, does_first: Nursery) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="nursery-", dir=home))
        self._address = str(self._home / "socket")
        self._does_first = does_first
        self._asked: set[socket.socket] = set()

    def __enter__(self) -> Self:
        program = shutil.copy2(nursery.__file__, self._home / "mutant_nursery.py")
        with socket.socket(socket.AF_UNIX) as listener, self._log.open("wb") as log:
            listener.bind(self._address)
            listener.listen(BACKLOG)
            descriptor = listener.fileno()
            self._process = subprocess.Popen(
                [sys.executable, str(program), str(descriptor), json.dumps(self._does_first)],
                env=own_environment(),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=[descriptor],
                start_new_session=True,  # Ctrl-C is for us, who hang up
            )
        return self

    def __exit__(self, *_: object) -> None:
        """Let every run that still goes on tear its fixtures down."""
        self.hang_up()
        self._process.communicate()

    @property
    def _log(self) -> Path:
        return self._home / "output"

    def run(self, request: Request) -> int | None:
        """The exit code of a run of pytest; None if it had to be ended."""
        with socket.socket(socket.AF_UNIX) as connection:
            self._asked.add(connection)
            try:
                connection.connect(self._address)
                connection.sendall(json.dumps(request).encode() + b"\n")
                answer: int | None = json.loads(connection.makefile().readline() or "null")
            except OSError as error:
                self._process.wait()
                raise RuntimeError(f"the nursery has ended: {self._log.read_text()}") from error
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
