"""`Cluster`: the Celery processes of one test, started on request and ended together."""

import itertools
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self, TypeVar

from celery import Celery
from pytest_celery import (
    CeleryBrokerCluster,
    CeleryTestBroker,
    CeleryTestSetup,
    CeleryWorkerCluster,
)

from tests import apps
from tests.addresses import ROOT
from tests.cluster.forked import ForkedProcess, run_celery
from tests.cluster.nodes import (
    BeatContainer,
    BeatNode,
    LocalNode,
    RelayContainer,
    WorkerContainer,
    WorkerNode,
)
from tests.cluster.process import LocalProcess, environment

CELERY = (sys.executable, "-m", "celery")
# Workers of a test need no news of each other; gossip and mingle only make their start slower.
QUICK_START = ("--without-gossip", "--without-mingle")

Node = TypeVar("Node", bound=LocalNode)


class Cluster:
    """Starts workers, beat and celery commands, all with the environment ``env``.

    ``env`` may be added to at any time; what is started later has it. As a context manager it
    closes itself.
    """

    def __init__(
        self,
        directory: Path,
        env: Mapping[str, str] | None = None,
        broker: CeleryTestBroker | None = None,
    ) -> None:
        self.env: dict[str, str] = dict(env or {})
        self.nodes: list[LocalNode] = []
        self._directory = directory
        self._broker = broker
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def worker(
        self,
        app: str,
        *,
        pool: str = "prefork",
        concurrency: int = 2,
        queues: str | None = None,
        name: str | None = None,
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        ready: bool = True,
    ) -> WorkerNode:
        """Start ``celery -A app worker`` and wait until it consumes.

        ``queues`` is Celery's ``-Q``, by default the queue of the test; ``options`` are further
        words of the command line. With ``ready=False`` it returns at once: start several so,
        then call `wait_ready`.
        """
        consumed = queues or self.env.get(apps.QUEUE, "durable")
        process = self._process(
            name or f"worker{next(self._numbers)}", env, is_forked=pool != "eventlet"
        )
        node_name = f"{process.name}@{process.id[:12]}"  # as CeleryTestWorker.hostname() builds it
        process.command += [
            "-A",
            app,
            "worker",
            "-n",
            node_name,
            "-P",
            pool,
            "-c",
            str(concurrency),
        ]
        process.command += ["-Q", consumed, "-l", "INFO", *QUICK_START, *options]
        return self._start(WorkerNode(WorkerContainer(process, consumed.partition(",")[0])), ready)

    def beat(
        self,
        app: str,
        *,
        name: str = "beat",
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> BeatNode:
        """Start ``celery -A app beat``, with a schedule file of its own."""
        process = self._process(name, env)
        schedule = self._directory / f"{name}.schedule"
        process.command += [
            "-A",
            app,
            "beat",
            "-s",
            str(schedule),
            "--pidfile=",
            "-l",
            "INFO",
            *options,
        ]
        return self._start(BeatNode(BeatContainer(process)))

    def relay(self, app: str, *, name: str = "relay", ready: bool = True) -> LocalNode:
        """Start ``celery -A app durable relay``."""
        process = self._process(name, None)
        process.command += ["-A", app, "durable", "relay"]
        return self._start(LocalNode(RelayContainer(process)), ready)

    def celery(
        self,
        app: str,
        *args: str,
        env: Mapping[str, str] | None = None,
        timeout: float = 60.0,
        check: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``celery -A app args...`` to its end and return its exit code, stdout and stderr."""
        words, env = ["-A", app, *args], environment({**self.env, **(env or {})})
        if sys.platform == "linux":
            done = run_celery(words, env=env, timeout=timeout)
        else:
            done = subprocess.run(
                [*CELERY, *words],
                cwd=ROOT,
                env=env,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        if check:
            done.check_returncode()
        return done

    @property
    def workers(self) -> CeleryWorkerCluster:
        """The workers started so far, as pytest-celery's cluster."""
        return CeleryWorkerCluster(*(node for node in self.nodes if isinstance(node, WorkerNode)))

    def setup(self, app: Celery) -> CeleryTestSetup:
        """pytest-celery's view of it all; ``app`` is the one the test sends and pings with."""
        brokers = CeleryBrokerCluster(self._broker) if self._broker else None
        return CeleryTestSetup(self.workers, brokers, None, app)

    def wait_ready(self) -> None:
        """Wait until every node that is meant to run is ready."""
        for node in self.nodes:
            node.ready()

    def logs(self) -> str:
        """What all nodes have printed since their last start."""
        return "".join(node.logs() for node in self.nodes)

    def close(self) -> None:
        """Kill every process that is left."""
        for node in self.nodes:
            node.teardown()

    def _process(
        self, name: str, env: Mapping[str, str] | None, *, is_forked: bool = True
    ) -> LocalProcess:
        make = ForkedProcess if is_forked and sys.platform == "linux" else LocalProcess
        return make(CELERY, name=name, directory=self._directory, env={**self.env, **(env or {})})

    def _start(self, node: Node, ready: bool = True) -> Node:
        self.nodes.append(node)
        node.process.start()
        if ready:
            node.ready()
        return node
