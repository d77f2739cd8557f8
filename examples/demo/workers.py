"""Worker processes: `celery worker`, each with its log in the demo's folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]

READY_SECONDS = 40
GRACE_SECONDS = 1.5
"""For workers to end by themselves, once every order has ended."""

LOG_LINES = 25

_QUICK_START = ("--without-gossip", "--without-mingle", "--without-heartbeat")

# The shell becomes the worker and leaves a child behind that reads from us. The end of the file
# means that we are gone, however we went; then the whole group goes.
_LAUNCHER = """
exec 3<&0 </dev/null
{ read -r never <&3; kill -KILL -$$; } &
exec "$@" 3<&-
"""


class WorkerFailed(Exception):
    """A worker did not start."""


class Worker:
    """One worker, in a process group with its children."""

    def __init__(
        self, number: int, folder: Path, environment: Mapping[str, str], children: int
    ) -> None:
        self.name = f"worker {number}"
        self.log = folder / f"worker-{number}.log"
        self._number = number
        self._children = children
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._log_bytes: int | None = None

    @property
    def pid(self) -> int:
        """Of the main process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, or start it again; `wait_until_ready` says when it works."""
        queue = self._environment["DEMO_QUEUE"]
        celery = [sys.executable, "-m", "celery", "-A", "examples.demo.app", "worker"]
        options = ["-Q", queue, "-n", f"demo-{self._number}@%h", "-P", "prefork"]
        options += ["-c", str(self._children), "-l", "INFO", *_QUICK_START]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _LAUNCHER, "sh", *celery, *options],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.log.parent,
                env=_worker_environment(self._environment, self.log.parent),
                start_new_session=True,  # Ctrl-C is for us alone
            )

    @property
    def is_ready(self) -> bool:
        """Whether it takes messages."""
        if self._process is not None and self._process.poll() is not None:
            raise WorkerFailed(f"{self.name} ended while it started.")
        return b" ready." in self.log.read_bytes()

    def kill(self) -> None:
        """SIGKILL, to the main process and its children at once."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def terminate(self) -> None:
        """Ask it to end. How it ends is not what a reader of its log wants to see."""
        self._log_bytes = self.log.stat().st_size if self.log.exists() else 0
        if self._process is not None:
            self._process.terminate()

    def has_ended(self) -> bool:
        """Whether the main process is gone."""
        return self._process is None or self._process.poll() is not None

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def end_of_log(self) -> str:
        """Its last lines, from before it was told to end."""
        written = self.log.read_bytes()[: self._log_bytes] if self.log.exists() else b""
        text = written.decode(errors="replace")
        return "\n".join(text.splitlines()[-LOG_LINES:])


def _worker_environment(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Ours, without what would set Celery's options and with what the app needs.

    A killed process leaves its temporary files behind: they go into the demo's folder.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CELERY_")}
    path = [str(ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    return {
        **kept,
        **environment,
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(folder),
    }


def wait_until_ready(workers: Sequence[Worker]) -> None:
    """Return when all of them work; `WorkerFailed` when one does not."""
    until = time.monotonic() + READY_SECONDS
    while sum(worker.is_ready for worker in workers) < len(workers):
        if time.monotonic() > until:
            raise WorkerFailed(f"The workers were not ready after {READY_SECONDS} s.")
        time.sleep(0.05)


def stop(workers: Sequence[Worker], grace: float = GRACE_SECONDS) -> None:
    """End all of them: in good order if they manage to in `grace` seconds."""
    until = time.monotonic() + grace
    if grace:
        for worker in workers:
            worker.terminate()
    while time.monotonic() < until and not all(worker.has_ended() for worker in workers):
        time.sleep(0.02)
    for worker in workers:
        worker.kill()
