"""pytest-celery's containers and nodes on top of local processes.

A container here answers readiness from the log of its process and polls in hundredths of a second
(pytest-celery: once a second), and never looks for Docker's networks and port bindings.
A node adds what crash tests ask for: `pid`, `children`, `stop`, `wait_for_exit`.
"""

import signal
from collections.abc import Mapping
from typing import Any

import psutil
from celery import Celery
from pytest_celery import (
    CeleryTestContainer,
    CeleryTestNode,
    CeleryTestWorker,
    CeleryWorkerContainer,
    RedisContainer,
    RedisTestBroker,
)

from tests.cluster.process import LocalProcess
from tests.waiting import wait_until

READY_SECONDS = 60.0


class LocalContainer(CeleryTestContainer):
    """A container that is a process: ready when its log holds `ready_prompt`."""

    def __init__(self, process: LocalProcess) -> None:
        super().__init__(process)
        self.process = process

    def logs(self) -> str:
        return self.process.log

    def ready(self) -> bool:
        """Wait for the prompt; a process that ends before it fails at once, with its log."""
        wait_until(
            lambda: self._prompted() or not self.process.is_running,
            timeout=READY_SECONDS,
            message=lambda: f"{self.name} to print {self.ready_prompt!r}. Its log:\n{self.logs()}",
        )
        assert self._prompted(), (
            f"{self.name} exited with {self.process.exit_code}. Its log:\n{self.logs()}"
        )
        return True

    def teardown(self) -> None:
        self.process.end()

    def _prompted(self) -> bool:
        return (self.ready_prompt or "") in self.logs()


class LocalNode(CeleryTestNode):
    """What any node of ours can do; `kill`, `restart`, `logs` and `ready` are pytest-celery's."""

    container: LocalContainer

    @property
    def process(self) -> LocalProcess:
        return self.container.process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process.is_running

    def children(self) -> list[int]:
        """Ids of the direct child processes, oldest first: the prefork children of a worker."""
        return self.process.children()

    def start(self) -> None:
        """Start a stopped or killed node and wait until it is ready."""
        self.process.start()
        self.ready()

    def stop(self, timeout: float = 30.0) -> int:
        """SIGTERM (Celery's warm shutdown), wait for the end, return the exit code."""
        self.kill(signal.SIGTERM)
        return self.wait_for_exit(timeout)

    def wait_for_exit(self, timeout: float = 30.0) -> int:
        """Wait for the main process to end; the exit code is negative if a signal ended it."""
        return self.process.wait(timeout)

    def wait_for_log(self, log: str, message: str = "", timeout: float = 30.0) -> None:
        """Wait until ``log`` is in what the node has printed since its last start."""
        wait_until(
            lambda: log in self.logs(),
            timeout=timeout,
            message=lambda: f"{message or self.name()} to print {log!r}. Its log:\n{self.logs()}",
        )

    def assert_log_exists(self, log: str, message: str = "", timeout: float = 30.0) -> None:
        self.wait_for_log(log, message, timeout)


class WorkerContainer(LocalContainer, CeleryWorkerContainer):
    """A Celery worker. Name and queue belong to the process (in pytest-celery: to the class)."""

    def __init__(self, process: LocalProcess, queue: str) -> None:
        super().__init__(process)
        self._queue = queue

    def worker_name(self) -> str:
        return self.process.name

    def worker_queue(self) -> str:
        return self._queue


class WorkerNode(LocalNode, CeleryTestWorker):
    """A Celery worker; `hostname()` is its Celery name, for ``control.ping([node.hostname()])``."""

    container: WorkerContainer

    def __init__(self, container: WorkerContainer, app: Celery | None = None) -> None:
        super().__init__(container, app)

    def ask(self, app: Celery, command: str, **arguments: Any) -> Any:
        """The worker's answer to a command of remote control.

        It is asked once it answers a ping: with Redis a worker says that it is ready a moment
        before it listens, and a command that nobody hears is gone.
        """
        name = self.hostname()
        wait_until(
            lambda: app.control.ping([name], timeout=2.0, limit=1),
            timeout=READY_SECONDS,
            message=lambda: f"{name} to answer a ping. Its log:\n{self.logs()}",
        )
        (answer,) = app.control.broadcast(
            command, arguments, [name], reply=True, timeout=READY_SECONDS, limit=1
        )
        return answer[name]

    def get_running_processes_info(
        self, columns: list[str] | None = None, filters: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """The worker's main process and its children, as psutil describes them."""
        main = psutil.Process(self.pid)
        rows = [process.as_dict(columns) for process in (main, *main.children(recursive=True))]
        wanted = (filters or {}).items()
        return [row for row in rows if all(row.get(key) == value for key, value in wanted)]


class BeatContainer(LocalContainer):
    @property
    def ready_prompt(self) -> str:
        return "beat: Starting..."


class RelayContainer(LocalContainer):
    @property
    def ready_prompt(self) -> str:
        return "The relay publishes"


class BeatNode(LocalNode):
    """Celery's scheduler; its schedule file lives in the directory of the test."""


class LocalRedisContainer(LocalContainer, RedisContainer):
    """A redis-server of our own, on a port that a restart keeps."""

    def __init__(self, process: LocalProcess, port: int) -> None:
        super().__init__(process)
        self._port = port

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/{self.vhost}"

    @property
    def host_url(self) -> str:
        return self.url


class RedisNode(LocalNode, RedisTestBroker):
    """A Redis broker that keeps nothing on disk: killed or stopped, it has lost every message."""

    container: LocalRedisContainer

    @property
    def url(self) -> str:
        return self.container.url
