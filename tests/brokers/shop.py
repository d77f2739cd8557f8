"""The shop of `tests.apps.shop` as a module of tests sees it: workers, runs, ledger."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from celery import Celery
from kombu import pools
from psycopg.rows import class_row

from celery_durable import Durable
from celery_durable.run import Run
from tests.addresses import conninfo
from tests.apps import shop
from tests.cluster import Cluster, LocalNode, WorkerNode
from tests.transports import BreakableBroker, Broker
from tests.waiting import wait_until

SHOP = "tests.apps.shop:app"

UNNOTICED = 20.0
"""Seconds within which a takeover happens; a death that only the worker's TTL tells takes 30."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line a handler wrote."""

    run_id: UUID
    unit: str
    event: str
    pid: int
    at: datetime


on_redis = pytest.mark.parametrize("shop", ["redis"], indirect=True)

UNITS = ["reserve", "charge", "ship"]
"""Of an order."""


def need(pool: str) -> None:
    """Skip the test where the pool is not installed."""
    if pool == "gevent":
        pytest.importorskip("gevent")


class Shop:
    """A broker, a database, processes, and a client of its own in the process of the tests."""

    def __init__(self, broker: Broker, database_url: str, cluster: Cluster) -> None:
        self.broker = broker
        self.cluster = cluster
        self.database_url = database_url
        pools.reset()  # kombu shares connections by URL, also to a broker that was restarted since
        self.app = broker.configure(Celery("client"))
        self.app.conf.durable_database_url = database_url
        self.durable = Durable(self.app)
        self.payments = cluster.env[shop.PAYMENTS_QUEUE]
        shop.define(self.durable, version=2, payments=self.payments)
        self._database = psycopg.connect(conninfo(database_url), autocommit=True)
        self._database.execute(shop.TABLES)

    @property
    def breakable(self) -> BreakableBroker:
        """The broker, for a test that breaks it."""
        if isinstance(self.broker, BreakableBroker) and self.broker.is_ours:
            return self.broker
        pytest.skip("a broker that was given as REDIS_URL is not ours to break")

    def close(self) -> None:
        self._database.close()
        self.durable.database.close()

    def worker(
        self, app: str = SHOP, *, conf: Mapping[str, Any] | None = None, **options: Any
    ) -> WorkerNode:
        """A worker whose app has the settings `conf`, with the options of `Cluster.worker`."""
        words = (*options.pop("options", ()), "--without-heartbeat")
        env = {**(options.pop("env", None) or {})}
        if conf is not None:
            env[shop.CONFIG] = json.dumps(conf)
        return self.cluster.worker(app, options=words, env=env, **options)

    def workers(self, *each: Mapping[str, Any], **options: Any) -> list[WorkerNode]:
        """Workers that start at the same time: the options of each, and those that all have."""
        made = [self.worker(**{**options, **own}, ready=False) for own in each]
        self.cluster.wait_ready()
        return made

    def relay(self) -> LocalNode:
        """A relay as a process of its own."""
        return self.cluster.relay(SHOP)

    def start(self, workflow: str = "order", **fates: str) -> Run:
        """Start a run of version 1 whose units have the given fates."""
        return self.durable.start(workflow, fates, version=1)

    def open_gate(self, *runs: Run) -> None:
        """Let the units go on that are held."""
        for run in runs:
            self.query("INSERT INTO gate VALUES (%s) ON CONFLICT DO NOTHING", run.id)

    def finish(self, run: Run, timeout: float = 60.0) -> None:
        """Let a run that is held go on to its end."""
        self.open_gate(run)
        run.result(timeout=timeout)

    def ledger(self, run: Run, unit: str | None = None, event: str | None = None) -> list[Entry]:
        """What handlers wrote for a run, in order."""
        with self._database.cursor(row_factory=class_row(Entry)) as cursor:
            found = cursor.execute(
                "SELECT run_id, unit, event, pid, at FROM ledger WHERE run_id = %s ORDER BY id",
                [run.id],
            ).fetchall()
        return [
            entry for entry in found if unit in (None, entry.unit) and event in (None, entry.event)
        ]

    def wait_for(self, run: Run, unit: str, event: str = "begin", times: int = 1) -> Entry:
        """Wait until the unit's handler has written `event` so many times; the last entry."""
        found = wait_until(
            lambda: len(self.ledger(run, unit, event)) >= times and self.ledger(run, unit, event),
            timeout=UNNOTICED,
            message=lambda: f"{event} {times} of {unit}; the ledger: {self.ledger(run)}",
        )
        assert isinstance(found, list)
        last = found[-1]
        assert isinstance(last, Entry)
        return last

    def now(self) -> datetime:
        """The database's clock."""
        ((now,),) = self.query("SELECT clock_timestamp()")
        assert isinstance(now, datetime)
        return now

    def token(self, run: Run) -> UUID:
        """Where an unfinished run stands."""
        ((token_id,),) = self.query("SELECT id FROM durable_token WHERE run_id = %s", run.id)
        assert isinstance(token_id, UUID)
        return token_id

    def hint(self, token_id: UUID, times: int = 1) -> list[str]:
        """Publish the message that says "look at this token"; the ids of the messages."""
        return [
            self.app.send_task("durable.advance", [str(token_id)], queue=self.broker.queue()).id
            for _ in range(times)
        ]

    def wait_until_followed(self, messages: list[str]) -> None:
        """Wait until workers have done with messages, as their logs say."""
        wait_until(
            lambda: all(f"[{message}] succeeded" in self.cluster.logs() for message in messages),
            timeout=UNNOTICED,
            message=f"workers to have done with {len(messages)} messages",
        )

    def let_pass(self, interval: str) -> None:
        """As if every hint that was ever sent had been sent so much earlier."""
        self.query(
            "UPDATE durable_token SET hinted_at = hinted_at - passed, since = since - passed,"
            " look_at = look_at - passed, wake_at = wake_at - passed"
            " FROM (SELECT %s::interval AS passed) AS time",
            interval,
        )

    def query(self, statement: str, *parameters: object) -> Sequence[tuple[Any, ...]]:
        cursor = self._database.execute(statement.encode(), parameters)
        return [] if cursor.description is None else cursor.fetchall()


@contextmanager
def open_shop(
    broker: Broker, database_url: str, directory: Path, payments: str = "durable"
) -> Iterator[Shop]:
    """A shop whose processes are gone afterwards; `payments` is the role of that queue."""
    env = {
        **broker.env(),
        "DURABLE_DATABASE_URL": database_url,
        shop.PAYMENTS_QUEUE: broker.queue(payments),
    }
    with (
        Cluster(directory, env, broker.node) as cluster,
        closing(Shop(broker, database_url, cluster)) as opened,
    ):
        yield opened
