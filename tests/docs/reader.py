"""Somebody who follows a page in a folder: files, a shell, and terminals for what goes on.

What is typed into the shell stays there: a variable that one block sets is known to the next.
"""

import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from celery_durable.errors import ConfigurationError
from celery_durable.testing.binaries import installed_binaries
from tests.addresses import ROOT
from tests.cluster import LocalProcess
from tests.cluster.forked import write_command
from tests.docs.pages import Block
from tests.waiting import wait_until

STOPS_WITHIN = 20.0
"""Seconds after which what Ctrl-C does not stop is killed."""

_VARIABLE = re.compile(r'^declare -x (?P<name>\w+)="(?P<value>[^"]*)"$', re.MULTILINE)


def programs() -> str:
    """The PATH of a reader: who has installed what the page needs."""
    folders = [Path(sys.executable).parent, Path("/usr/bin"), Path("/bin")]
    if redis := shutil.which("redis-server"):
        folders.append(Path(redis).parent)
    with suppress(ConfigurationError):  # then psql is the system's
        folders.append(installed_binaries())
    return os.pathsep.join(map(str, dict.fromkeys(folders)))


class Reader:
    """Somebody with a folder; `mine` puts their own addresses in place of the page's.

    With `is_forked` what they type as ``celery`` is forked: for a page that types it often.
    """

    def __init__(
        self,
        folder: Path,
        logs: Path,
        env: Mapping[str, str],
        mine: Callable[[str], str],
        *,
        is_forked: bool = False,
    ) -> None:
        self.folder = folder
        self._logs = logs
        path = programs()
        if is_forked:
            write_command(logs)
            path = f"{logs}:{path}"
        self._env = {**env, "PATH": path, "PYTHONPATH": f"{ROOT}:{folder}"}
        self._mine = mine
        self._known = logs / "variables"
        self._terminals: dict[str, LocalProcess] = {}
        self._typed = 0

    def follow(self, block: Block) -> str:
        """Do what a block says; what it printed."""
        if "ctrl-c" in block.directives:
            self.ctrl_c(block.directives["ctrl-c"])
        if "file" in block.directives:
            file = self.folder / block.directives["file"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(self._mine(block.code))
            return ""
        if block.language == "python":
            return self._finish(self._type([sys.executable, "-c", self._mine(block.code)]))
        if "terminal" in block.directives:
            self.open(block.directives["terminal"], block.code)
            return ""
        return self.shell(block.code)

    def shell(self, code: str) -> str:
        """Type into the shell, and wait for the end; what it printed."""
        return self._finish(self._bash(f"{self._mine(code)}\nexport -p >{self._known}"))

    def open(self, terminal: str, code: str) -> LocalProcess:
        """Type into a terminal what goes on; what went on there is stopped."""
        self.ctrl_c(terminal)
        *before, last = self._mine(code).strip().splitlines()
        self._terminals[terminal] = self._bash("\n".join([*before, f"exec {last}"]))
        return self._terminals[terminal]

    def ctrl_c(self, terminal: str) -> None:
        """Stop what goes on in a terminal, and wait for its end."""
        process = self._terminals.pop(terminal, None)
        if process is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGINT)
        with suppress(AssertionError):
            process.wait(STOPS_WITHIN)
        process.end()

    def variable(self, name: str) -> str:
        """What a variable of the shell holds."""
        known = self._known.read_text()
        return {found["name"]: found["value"] for found in _VARIABLE.finditer(known)}[name]

    def log(self, terminal: str) -> str:
        """What a terminal shows."""
        return self._terminals[terminal].log

    def leave(self) -> None:
        """Close all terminals, with what goes on there."""
        while self._terminals:
            self._terminals.popitem()[1].end()

    def _bash(self, code: str) -> LocalProcess:
        remembered = f"set -a; [ ! -f {self._known} ] || . {self._known}"
        return self._type(["bash", "-ec", f"{remembered}\n{code}"])

    def _type(self, command: list[str]) -> LocalProcess:
        self._typed += 1
        command = ["bash", "-c", 'cd "$0" && exec "$@"', str(self.folder), *command]
        name = f"typed{self._typed}"
        process = LocalProcess(command, name=name, directory=self._logs, env=self._env)
        process.start()
        return process

    def _finish(self, process: LocalProcess) -> str:
        code = process.wait(60)
        assert code == 0, process.log
        return process.log


def await_ready(reader: Reader, terminal: str) -> None:
    """Wait until the worker of a terminal says that it is ready."""
    wait_until(lambda: " ready." in reader.log(terminal), message=lambda: reader.log(terminal))
