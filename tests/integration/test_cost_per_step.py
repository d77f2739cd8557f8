"""What a step costs, counted: statements, round trips, messages, records and bytes of WAL.

None of these depends on the machine. A change that makes one of them grow has to be meant.
"""

from __future__ import annotations

import threading
from typing import Any
from uuid import UUID

import psycopg
import pytest

from celery_durable import Durable
from celery_durable.background.relay import Relay
from celery_durable.engine import bundle, slow_units
from celery_durable.store.bundle import committing
from celery_durable.store.connection import PsycopgConnection
from tests.integration.driving import Define, World, defining
from tests.integration.relaying import Recorder, Relays, drain
from tests.integration.watching import Meter

RUNS, STEPS, ITEMS = 32, 10, 64
NAMES = [f"s{n}" for n in range(STEPS)]


class RoundTrips:
    """Counts how often the test's own thread waits for Postgres."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        thread, wait = threading.get_ident(), psycopg.Connection.wait

        def counted(connection: Any, *given: Any, **options: Any) -> Any:
            if threading.get_ident() == thread:
                self.count += 1
            return wait(connection, *given, **options)

        monkeypatch.setattr(psycopg.Connection, "wait", counted)


@pytest.fixture(autouse=True)
def however_slow_the_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOOK_AGAIN_AFTER", "WRITE_AFTER", "GIVE_BACK_AFTER"):
        monkeypatch.setattr(bundle, name, 1e9)
    monkeypatch.setattr(slow_units, "SLOW_FROM", 1e9)


@pytest.fixture
def round_trips(monkeypatch: pytest.MonkeyPatch) -> RoundTrips:
    return RoundTrips(monkeypatch)


class Counting(Recorder):
    """A broker that counts its messages."""

    messages = 0


def warm(worker: Durable, relay: Relay, recorder: Counting) -> None:
    """Have done what a process does once."""
    worker.start_many("w", [{}] * 2)
    deliver(worker, relay, recorder)
    recorder.messages = 0


def deliver(worker: Durable, relay: Relay, recorder: Counting) -> None:
    """Publish and execute until nothing is due."""
    while drain(relay):
        taken, recorder.taken[:] = recorder.taken[:], []
        recorder.messages += len(taken)
        for message in taken:
            worker.engine.advance_together([UUID(token) for token in message.args], None)


def test_a_step_under_load(
    world: World, relays: Relays, meter: Meter, round_trips: RoundTrips
) -> None:
    """Two messages, two claims, and a commit for sixteen steps at a time; the relay's own share."""
    worker, recorder = world.worker(defining([], *NAMES)), Counting()
    relay = relays.make(worker, recorder, bundles=True)
    warm(worker, relay, recorder)
    worker.start_many("w", [{}] * RUNS)
    statements, trips = meter.statements, round_trips.count
    deliver(worker, relay, recorder)

    assert world.one("SELECT count(*) FROM durable_run WHERE finished_at IS NULL") == 0
    steps = RUNS * STEPS
    assert recorder.messages == RUNS / 16
    assert (meter.statements - statements) / steps <= 0.09
    assert (round_trips.count - trips) / steps <= 0.105


def test_a_step_of_a_single_run(
    world: World, relays: Relays, meter: Meter, round_trips: RoundTrips
) -> None:
    """One message, one claim, and one statement a step."""
    worker, recorder = world.worker(defining([], *NAMES)), Counting()
    relay = relays.make(worker, recorder, bundles=True)
    warm(worker, relay, recorder)
    worker.start("w", {})
    hints = world.publish()
    statements, trips = meter.statements, round_trips.count
    worker.engine.advance(hints[0], None)

    assert meter.statements - statements == 1 + STEPS
    # One more for a new connection, if another thread has the idle one in hand just then.
    assert round_trips.count - trips in (1 + STEPS, 2 + STEPS)


def test_an_item_of_a_map_under_load(
    world: World, relays: Relays, meter: Meter, round_trips: RoundTrips
) -> None:
    """A message, a claim and a commit for sixteen."""

    def define(durable: Durable) -> None:
        item = durable.step(lambda ctx: ctx.item, name="item")
        durable.workflow("w").map("m", over=lambda _: [*range(ITEMS)], handler=item)

    worker, recorder = world.worker(define), Counting()
    relay = relays.make(worker, recorder, bundles=True)
    warm(worker, relay, recorder)
    worker.start("w", {})
    statements, trips = meter.statements, round_trips.count
    deliver(worker, relay, recorder)

    assert recorder.messages == 6
    assert (meter.statements - statements) / ITEMS <= 0.5
    assert (round_trips.count - trips) / ITEMS <= 0.62
    assert world.one("SELECT count(*) FROM durable_run WHERE finished_at IS NULL") == 0


def test_the_wal_of_a_step(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token's row, its record, and the record's key: nothing else is written."""
    costs = wal_of_commits(world, monkeypatch, defining([], *NAMES))
    first, *_ = costs
    assert first["records"] / RUNS <= 2.5
    assert first["bytes"] / RUNS <= 250


def wal_of_commits(
    world: World, monkeypatch: pytest.MonkeyPatch, define: Define
) -> list[dict[str, float]]:
    """What each commit of a bundle writes to the WAL, as Postgres counts it without page images.

    The statement is executed once more before, and rolled back: it has touched the pages then.
    """
    costs: list[dict[str, float]] = []
    rows = PsycopgConnection.rows

    def explained(connection: Any, statement: Any, parameters: Any = None) -> Any:
        if statement is committing._MOVE:
            text = b"EXPLAIN (ANALYZE, WAL, FORMAT JSON) " + statement.compiled("public")[0]
            for _ in range(2):
                with connection.raw.transaction(force_rollback=True):
                    (plan,) = connection.raw.execute(text, parameters).fetchone()
            found = plan[0]["Plan"]
            costs.append({"records": found["WAL Records"], "bytes": found["WAL Bytes"]})
        return rows(connection, statement, parameters or {})

    worker = world.worker(define, bundle=RUNS)
    worker.start_many("w", [{}] * RUNS)
    monkeypatch.setattr(PsycopgConnection, "rows", explained)
    worker.engine.advance_together(world.publish(), None)
    return costs
