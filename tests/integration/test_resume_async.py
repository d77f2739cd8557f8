"""P7 for asyncio: `aresume` in an AsyncSession's transaction, or beside the loop."""

from __future__ import annotations

import asyncio

import pytest

from celery_durable import Durable
from celery_durable.core.status import Status
from celery_durable.engine.ids import uuid7
from celery_durable.errors import ConfigurationError, RunNotFound
from tests.integration.driving import World
from tests.integration.workflows import waiting

pytest.importorskip("greenlet", reason="SQLAlchemy's asyncio needs it")

from tests.integration.test_joined_async import session_of


@pytest.fixture
def durable(world: World) -> Durable:
    return world.worker(waiting)


def test_an_async_signal_arrives_with_the_callers_commit(
    world: World, durable: Durable, driver: str
) -> None:
    """P7, P9"""
    run, other = durable.start_many("w", [{}, {}])

    async def main() -> None:
        async with session_of(world.url, driver) as session:
            first = await run.aresume("go", {"n": 1.5}, key="k", session=session)
            again = await durable.aresume(run.id, "go", 2, key="k", session=session)
            assert (first.outcome, again.outcome) == ("stored", "duplicate")
            world.drain(durable)
            assert (await run.astatus()).status is Status.SUSPENDED
            await session.commit()
            await other.aresume("go", "never", session=session)
            await session.rollback()

    asyncio.run(main())
    world.drain(durable)
    assert run.result(0) == {"s": {"n": 1.5}}
    assert other.status().status is Status.SUSPENDED


def test_an_async_signal_of_its_own_transaction(world: World, durable: Durable) -> None:
    run = durable.start("w")

    async def main() -> str:
        delivery = await run.aresume("go", 1)
        world.drain(durable)
        refused = await run.aresume("go", 2)
        with pytest.raises(RunNotFound):
            await durable.aresume(uuid7(), "go")
        return f"{delivery.outcome} {refused.outcome}"

    assert asyncio.run(main()) == "stored refused"
    assert run.result(0) == {"s": 1}


def test_an_async_session_is_refused_where_it_cannot_be_awaited(
    world: World, durable: Durable
) -> None:
    """P12"""
    run = durable.start("w")

    async def main() -> None:
        async with session_of(world.url, "psycopg") as session:
            with pytest.raises(ConfigurationError, match="twin"):
                run.resume("go", session=session)
            with pytest.raises(ConfigurationError, match="takes an AsyncSession"):
                await run.aresume("go", session=session.sync_session)

    asyncio.run(main())
    assert world.counts()["inbox"] == 0
