"""The servers and processes of a chaos run: all are its own, and all may be killed."""

import json
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import psycopg
from celery import Celery

from celery_durable import Durable
from celery_durable.testing.embedded import EmbeddedPostgres
from tests import apps
from tests.chaos import app, ledger
from tests.cluster import Cluster, LocalNode, RedisNode, WorkerNode
from tests.cluster.rabbitmq import RabbitMQServer, rabbitmq_server, running_rabbitmq
from tests.services import free_port, own_redis
from tests.waiting import wait_until

APP = "tests.chaos.app:app"
DATABASE = "chaos"
QUEUE = "durable"

TTL = 6.0
CONF: dict[str, Any] = {
    "durable_worker_ttl": TTL,
    # A schedule may hit one unit more often than the default allows.
    "durable_max_crashes": 20,
}
REVIVED_AFTER = 0.5
"""Seconds until a process that has ended is started again, as by an init system."""


class Broker(Protocol):
    """A broker that may be struck."""

    url: str

    def kill(self) -> None: ...
    def start(self) -> None: ...
    def empty(self) -> None:
        """Lose every message. Redis is emptied while it runs, RabbitMQ while it does not."""

    def pause(self) -> None: ...
    def go_on(self) -> None: ...


class Redis:
    """A Redis that keeps nothing on disk: killed, it has lost everything."""

    def __init__(self, node: RedisNode) -> None:
        self.url = node.url
        self.kill = node.kill
        self.start = node.start
        self._node = node

    def empty(self) -> None:
        """Nothing is left of what was killed."""

    def pause(self) -> None:
        os.kill(self._node.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self._node.pid, signal.SIGCONT)


@contextmanager
def broker(name: str, directory: Path) -> Iterator[Redis | RabbitMQServer]:
    if name == "redis":
        with own_redis(directory) as node:
            yield Redis(node)
        return
    command = rabbitmq_server()
    if command is None:
        raise SystemExit("There is no rabbitmq-server; install it, or choose --broker redis.")
    with running_rabbitmq(command, directory, free_port(), free_port()) as server:
        yield server


def client(env: Mapping[str, str]) -> Durable:
    """The library as the process of the run uses it."""
    celery = apps.configure(Celery("chaos_client"), env)
    celery.conf.update(
        CONF,
        broker_url=env["CELERY_BROKER_URL"],
        durable_database_url=env["DURABLE_DATABASE_URL"],
    )
    durable = Durable(celery)
    app.define(durable)
    return durable


class Field:
    """Everything that runs, and what is done to it later."""

    def __init__(
        self, postgres: EmbeddedPostgres, broker: Broker, cluster: Cluster, durable: Durable
    ) -> None:
        self.postgres = postgres
        self.broker = broker
        self.durable = durable
        self.ledger = Path(cluster.env[ledger.FOLDER])
        self.workers = [
            self._worker(cluster, "prefork", 3, relay=False),
            self._worker(cluster, "prefork", 3, relay=True),
            self._worker(cluster, "threads", 3, relay=False),
        ]
        self.relay = cluster.relay(APP, ready=False)
        self.beat: LocalNode = cluster.beat(APP)
        self.nodes: list[LocalNode] = [*self.workers, self.relay, self.beat]
        self._down_since: dict[str, float] = {}
        self._timers: list[threading.Timer] = []
        cluster.wait_ready()

    def _worker(self, cluster: Cluster, pool: str, concurrency: int, *, relay: bool) -> WorkerNode:
        words = ["--without-heartbeat", "--durable-relay" if relay else "--no-durable-relay"]
        return cluster.worker(APP, pool=pool, concurrency=concurrency, options=words, ready=False)

    def connect(self) -> psycopg.Connection[Any]:
        """A connection of the run's own, past the library."""
        return psycopg.connect(self.postgres.conninfo(DATABASE), autocommit=True)

    def pids_of(self, node: LocalNode) -> set[int]:
        """The living processes of a node, its main one and its children."""
        return {node.pid, *node.children()} if node.is_running else set()

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """Do it then, whatever else is being done."""
        timer = threading.Timer(seconds, what)
        timer.daemon = True
        timer.start()
        self._timers.append(timer)

    def attend(self) -> None:
        """Start again what has ended."""
        now = time.monotonic()
        for node in self.nodes:
            if node.is_running:
                self._down_since.pop(node.name(), None)
            elif now - self._down_since.setdefault(node.name(), now) >= REVIVED_AFTER:
                self._down_since.pop(node.name())
                node.process.start()

    def calm(self) -> None:
        """Wait for what was put off, and have every process run."""
        for timer in self._timers:
            timer.join()
        wait_until(self._all_run, timeout=60, message="every process to run again")

    def _all_run(self) -> bool:
        self.attend()
        return all(node.is_running for node in self.nodes)

    def logs(self) -> dict[str, str]:
        """What each process has printed in all of its lives."""
        found: dict[str, str] = {}
        for node in self.nodes:
            files = sorted(node.process.log_file.parent.glob(f"{node.process.name}.*.log"))
            found[node.process.name] = "".join(file.read_text(errors="replace") for file in files)
        return found


def tell(pid: int, what: signal.Signals) -> None:
    """Send a signal to a process that may be gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, what)


@contextmanager
def field(broker_name: str) -> Iterator[Field]:
    """Servers and processes, with an empty database; nothing of it is left."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        folder = directory / "ledger"
        folder.mkdir()
        postgres = stack.enter_context(EmbeddedPostgres())
        postgres.create_database(DATABASE)
        struck = stack.enter_context(broker(broker_name, directory))
        options = {"confirm_publish": True} if broker_name == "rabbitmq" else {}
        env = {
            "DURABLE_DATABASE_URL": postgres.url(DATABASE),
            "CELERY_BROKER_URL": struck.url,
            apps.TRANSPORT_OPTIONS: json.dumps(options),
            apps.QUEUE: QUEUE,
            app.CONF: json.dumps(CONF),
            ledger.FOLDER: str(folder),
        }
        durable = client(env)
        stack.callback(durable.database.close)
        durable.migrate()
        with psycopg.connect(postgres.conninfo(DATABASE), autocommit=True) as connection:
            connection.execute(app.EFFECTS)
        cluster = stack.enter_context(Cluster(directory, env))
        yield Field(postgres, struck, cluster, durable)


def drawn(seed: int, what: str) -> random.Random:
    """A source of chance of its own for each purpose, so that one does not shift another."""
    return random.Random(f"{seed} {what}")
