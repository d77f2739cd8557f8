"""Two schemas on one broker and queue: who gets the other's messages says so."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

import pytest

from celery_durable import Durable
from celery_durable.run import Run
from celery_durable.worker.publisher import ORIGIN_HEADER, KombuPublisher, origin_of
from tests.integration.driving import World, defining, warnings
from tests.integration.relaying import Relays, drain
from tests.transports import RedisBroker

SAID = "This worker gets messages for runs of schema 'public' of database"


@pytest.fixture
def hints(relays: Relays, redis_broker: RedisBroker) -> Any:
    """What a relay of a Durable publishes: tokens, and whose they are said to be."""

    def publish(durable: Durable) -> list[tuple[UUID, str | None]]:
        redis_broker.configure(durable.app)
        publisher = KombuPublisher(durable.app, partial(origin_of, durable.database))
        drain(relays.make(durable, publisher))
        found = []
        with redis_broker.connection() as connection:
            channel = connection.default_channel
            while (message := channel.basic_get(redis_broker.queue(), no_ack=True)) is not None:
                (token_id,), _, _ = message.decode()
                found.append((UUID(token_id), message.headers.get(ORIGIN_HEADER)))
        return found

    return publish


def worker_in(world: World, broker: RedisBroker) -> Durable:
    return world.worker(defining([], "a"), queue=broker.queue())


def test_a_token_that_was_never_here_is_warned_of_once(
    world: World,
    fresh: World,
    hints: Any,
    redis_broker: RedisBroker,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With whose it is and what to do."""
    ours, theirs = worker_in(world, redis_broker), worker_in(fresh, redis_broker)
    runs: list[Run] = list(theirs.start_many("w", [{}] * 3))
    for token_id, hinted_by in hints(theirs):
        ours.engine.advance(token_id, hinted_by=hinted_by)
    (said,) = warnings(caplog)
    database = fresh.one("SELECT current_database()")
    assert said.startswith(f"{SAID} {database!r}")
    assert "Give each a durable_queue" in said
    assert {run.status().status for run in runs} == {"running"}


def test_a_token_that_has_ended_is_not_warned_of(
    world: World, hints: Any, redis_broker: RedisBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """A message that comes twice is normal, also from a relay of before the schema had a number."""
    ours = worker_in(world, redis_broker)
    run = ours.start("w", {})
    ((token_id, hinted_by),) = hints(ours)
    assert hinted_by is not None
    for said in (hinted_by, hinted_by, None):
        ours.engine.advance(token_id, hinted_by=said)
    assert run.status().status == "completed"
    assert warnings(caplog) == []


def test_a_schema_has_one_number_and_no_two_have_the_same(world: World, fresh: World) -> None:
    one, again, other = (w.worker().database for w in (world, world, fresh))
    assert origin_of(one) == origin_of(again)
    assert origin_of(one) != origin_of(other)
