"""One local process with the face of a Docker container.

pytest-celery talks to `docker.models.containers.Container`: `id`, `name`, `status`, `attrs`,
`logs`, `kill`, `restart`, `reload`. `LocalProcess` answers these for a process of this machine, so
that pytest-celery's nodes and clusters work where there is no Docker.

Every process leads a process group of its own (Ctrl-C in a terminal does not reach it by itself)
and dies with the test run: by `end` in a fixture, at interpreter exit, and on Linux also when the
test run is killed with SIGKILL (`launch`).
"""

import atexit
import os
import signal
import socket
import subprocess
import sys
import uuid
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import psutil

from tests.addresses import ROOT
from tests.waiting import wait_until

LAUNCHER = Path(__file__).with_name("launch.py")


class Life(Protocol):
    """A process that has been started; `subprocess.Popen` is one."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None:
        """The exit code; negative is the signal that ended it. None while it runs."""
        ...


_living: "weakref.WeakSet[LocalProcess]" = weakref.WeakSet()


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our own environment for a child that imports `tests` and the library from `ROOT`."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **(extra or {})}


def is_alive(pid: int) -> bool:
    """False also for a zombie: where process 1 reaps nobody, orphans stay that for ever."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class LocalProcess:
    """A command that can be started, killed and started again.

    Call `start` from a thread that outlives it: on Linux the process dies with that thread.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        name: str,
        directory: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.id = uuid.uuid4().hex
        self.name = name
        self.command = list(command)
        self.env = environment(env)
        self.lives = 0
        self._directory = directory
        self._life: Life | None = None

    def start(self) -> None:
        """Start the command; what it prints goes to a new log file, one per life."""
        self.lives += 1
        self._life = self._begin()
        _living.add(self)

    def start_listening(self, port: int, timeout: float = 20.0) -> None:
        """Start the command, and wait until it accepts connections."""
        self.start()
        wait_until(
            lambda: is_listening(port) or not self.is_running,
            timeout=timeout,
            message=lambda: f"{self.name} to listen:\n{self.log}",
        )
        assert is_listening(port), f"{self.name} did not start:\n{self.log}"

    def _begin(self) -> "Life":
        launch = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *self.command]
        with self.log_file.open("wb") as log:
            return subprocess.Popen(
                launch,
                cwd=ROOT,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The id of the present, or of the last, life."""
        assert self._life is not None, f"{self.name} was never started"
        return self._life.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative is the signal that ended it."""
        return self._life.poll() if self._life else None

    @property
    def is_running(self) -> bool:
        return self._life is not None and self._life.poll() is None

    def children(self) -> list[int]:
        """The ids of its direct child processes, oldest first."""
        try:
            found = psutil.Process(self.pid).children()
        except psutil.NoSuchProcess:
            return []
        return [child.pid for child in sorted(found, key=psutil.Process.create_time)]

    @property
    def log_file(self) -> Path:
        return self._directory / f"{self.name}.{self.lives}.log"

    @property
    def log(self) -> str:
        """`logs`, as text."""
        return self.logs().decode(errors="replace")

    def wait(self, timeout: float = 30.0) -> int:
        """Wait for the end of the process and return its exit code."""
        wait_until(lambda: not self.is_running, timeout=timeout, message=f"{self.name} to exit")
        code = self.exit_code
        assert code is not None
        return code

    def end(self) -> None:
        """Kill the whole process group, at once and without asking. Safe to call twice."""
        if self._life is None:
            return
        with suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
            os.killpg(self._life.pid, signal.SIGKILL)
        self.wait()
        _living.discard(self)

    # The face of docker.models.containers.Container.

    @property
    def status(self) -> str:
        if self._life is None:
            return "created"
        return "running" if self.is_running else "exited"

    @property
    def attrs(self) -> dict[str, Any]:
        listed = [f"{key}={value}" for key, value in self.env.items()]
        return {"Config": {"Hostname": "127.0.0.1", "Env": listed}}

    def logs(self) -> bytes:
        """What the present life has printed. A restart begins anew, unlike Docker, so that a log
        line waited for after a restart is not one from before it."""
        return self.log_file.read_bytes() if self.lives else b""

    def kill(self, sent: str | int | None = None) -> None:
        """Send a signal (default SIGKILL) to the main process; after SIGKILL wait for its end."""
        number = signal.Signals[sent] if isinstance(sent, str) else sent or signal.SIGKILL
        os.kill(self.pid, number)
        if number == signal.SIGKILL:
            self.wait()

    def restart(self, timeout: float = 10.0) -> None:
        """Start again; a living process is asked to stop first, and killed after ``timeout``."""
        if self.is_running:
            self.kill("SIGTERM")
            with suppress(AssertionError):
                self.wait(timeout)
        self.end()
        self.start()

    def reload(self) -> None:
        """Docker reads its state anew here; ours is always fresh."""


@atexit.register
def _end_all() -> None:
    for process in list(_living):
        process.end()
