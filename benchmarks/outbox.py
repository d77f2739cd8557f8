"""What a look at the outbox costs, and how long a run waits behind others'; ratios from one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from uuid import UUID

import psycopg

from benchmarks.bench import Bench
from benchmarks.crowd import Crowd
from benchmarks.engine import durable_on, plain, waiting_tokens, workflow_of
from benchmarks.section import Section, ratio
from benchmarks.waiting import seconds
from celery_durable import Durable
from celery_durable.background.backlog import Backlog
from celery_durable.background.recovery import recover_with_lease
from celery_durable.store import due

BATCH = 200

SENT = 40_000
"""Messages sent while a session elsewhere may still see them."""

ITEMS = 20_000
"""Messages of one run that wait."""

WAITING = 200_000
"""Runs that wait for something."""


class Sender:
    """What a relay does, but for the broker; `sent` are the tokens it has sent messages for."""

    def __init__(self, durable: Durable) -> None:
        self._database = durable.database
        self._backlog = Backlog()
        self.sent: list[str] = []

    def send(self) -> int:
        """One batch; how many."""
        with self._database.autocommit() as connection:
            if not self._backlog.look(connection, BATCH):
                return 0
            with connection.raw.transaction():
                messages = self._backlog.take(connection, BATCH)
                due.delete(connection, [message.id for message in messages])
        self.sent += [str(message.args[0]) for message in messages]
        return len(messages)

    def send_all(self) -> None:
        """Until nothing is due."""
        while self.send():
            pass


@dataclass(frozen=True, slots=True)
class Against:
    """Something measured, and what it is held against."""

    what: str
    value: float
    against: str
    floor: float


def measure(bench: Bench) -> Iterator[Section]:
    with bench.services.postgres.database() as name:
        measured = list(compare(bench.services.postgres.url(name), bench.rounds))
    yield Section(
        title="outbox",
        columns=("what", "measured", "against", "", "ratio"),
        rows=[
            (
                one.what,
                f"{one.value:.2f}",
                one.against,
                f"{one.floor:.2f}",
                ratio(one.value, one.floor),
            )
            for one in measured
        ],
        record=[asdict(one) for one in measured],
    )


def compare(url: str, rounds: int) -> Iterator[Against]:
    """On one database, one after the other."""
    durable, connection = durable_on(url), plain(url)
    workflow_of(durable, "w", 1)
    durable.workflow("m").map("m", over=lambda _: list(range(ITEMS)), handler=lambda _: None)
    yield from looks(durable, connection, url, rounds)
    yield from order(durable, connection)
    yield from waits(durable, connection, rounds)
    durable.liveness.leave()
    connection.close()


def looks(
    durable: Durable, connection: psycopg.Connection, url: str, rounds: int
) -> Iterator[Against]:
    """A message is sent, before and after many that somebody may still see."""
    sender = Sender(durable)

    def send_one() -> float:
        durable.start("w", {})
        began = time.perf_counter()
        sender.send()
        return 1e3 * (time.perf_counter() - began)

    send_one()
    fresh = statistics.median(send_one() for _ in range(20 * rounds))
    with seen_elsewhere(url):
        for _ in range(SENT // 4000):
            durable.start_many("w", [{}] * 4000)
            sender.send_all()
        connection.execute("ANALYZE durable_outbox")
        time.sleep(2.5)  # it looks again at what was seen within the last two seconds
        old = statistics.median(send_one() for _ in range(20 * rounds))
    yield Against(f"ms to send one, {SENT} sent rows kept", old, "none", fresh)
    connection.execute("DELETE FROM durable_token")
    connection.execute("VACUUM ANALYZE")


@contextmanager
def seen_elsewhere(url: str) -> Iterator[None]:
    """A session whose snapshot keeps rows from being removed, as a dump's does."""
    with plain(url) as dump:
        dump.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        dump.execute("SELECT FROM durable_run LIMIT 1")
        yield


def order(durable: Durable, connection: psycopg.Connection) -> Iterator[Against]:
    """How many messages go before the one of a run that comes after a large map has forked."""
    large = durable.start("m", {})
    (token,) = waiting_tokens(connection)
    durable.engine.advance(token)
    plain_run, urgent = durable.start("w", {}), durable.start("w", {}, priority=9)
    sender = Sender(durable)
    for _ in range(3):
        sender.send()

    def before(run: UUID) -> int:
        query = "SELECT id FROM durable_token WHERE run_id = %s"
        row = connection.execute(query, (run,)).fetchone()
        assert row is not None
        return sender.sent.index(str(row[0]))

    yield Against("messages before a run of priority 9", before(urgent.id), "put before it", ITEMS)
    yield Against("messages before another run's", before(plain_run.id), "put before it", ITEMS)
    began = time.perf_counter()
    large.cancel()
    took = time.perf_counter() - began
    left = connection.execute("SELECT count(*) FROM durable_outbox").fetchone()
    assert left is not None
    yield Against("messages left of a map that was cancelled", left[0], "it had", ITEMS)
    yield Against("s to cancel it", took, "items in thousands", ITEMS / 1000)


def waits(durable: Durable, connection: psycopg.Connection, rounds: int) -> Iterator[Against]:
    """A second of all relays' looks for lost hints, beside runs that wait."""
    connection.execute("DELETE FROM durable_token")
    connection.execute("VACUUM ANALYZE")
    few = seconds(rounds, turn(durable, connection))
    Crowd("waiting", WAITING).fill(connection)
    many = seconds(rounds, turn(durable, connection))
    yield Against(f"ms of looking a second, {WAITING} runs wait", many * 1e3, "none", few * 1e3)


def turn(durable: Durable, connection: psycopg.Connection) -> Callable[[], object]:
    """A relay's turn."""

    def look() -> None:
        connection.execute("UPDATE durable_recovery SET next_at = now()")
        recover_with_lease(durable.database)

    look()
    return look
