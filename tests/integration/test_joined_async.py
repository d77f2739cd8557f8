"""P7 for asyncio: the a-prefixed twins, in an AsyncSession's transaction or beside the loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import sqlalchemy as sa

from celery_durable import Durable
from celery_durable.errors import ConfigurationError
from tests.integration.driving import World, defining

pytest.importorskip("greenlet", reason="SQLAlchemy's asyncio needs it")

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine


@asynccontextmanager
async def session_of(url: str, driver: str) -> AsyncIterator[AsyncSession]:
    engine = create_async_engine(sa.make_url(url).set(drivername=f"postgresql+{driver}"))
    async with AsyncSession(engine) as session:
        yield session
    await engine.dispose()


@pytest.fixture
def durable(world: World, log: list[str]) -> Durable:
    return world.worker(defining(log, "a"))


def test_an_async_start_that_is_rolled_back_leaves_nothing(
    world: World, durable: Durable, driver: str
) -> None:
    """P7"""

    async def main() -> None:
        async with session_of(world.url, driver) as session:
            await durable.astart("w", {}, session=session)
            await durable.astart("w", {}, session=session, key="k", tags={"a": "b"}, delay=3)
            await durable.astart_many("w", [{}, {}], session=session)
            await session.rollback()

    asyncio.run(main())
    assert set(world.counts("definition").values()) == {0}


def test_an_async_start_that_is_committed_runs(
    world: World, durable: Durable, driver: str, log: list[str]
) -> None:
    """P7"""

    async def main() -> None:
        async with session_of(world.url, driver) as session:
            run = await durable.astart("w", {"n": 1}, session=session, key="k", priority=2)
            again = await durable.astart("w", {"n": 1}, session=session, key="k")
            many = await durable.astart_many("w", [{}, {}], session=session)
            assert run == again
            assert len(many) == 2
            assert world.hints() == 0
            await session.commit()
        assert await durable.arun(workflow="w", key="k") == run

    asyncio.run(main())
    world.drain(durable)
    assert log == ["a"] * 3


def test_a_workflow_has_twins_too(
    world: World, durable: Durable, driver: str, log: list[str]
) -> None:
    """P7"""
    work = durable.registry.find("w")
    assert work is not None

    async def main() -> None:
        async with session_of(world.url, driver) as session:
            run = await work.astart({"n": 1}, session=session, key="k")
            await work.astart_many([{}], session=session)
            await session.commit()
        assert await work.arun(key="k") == run

    asyncio.run(main())
    world.drain(durable)
    assert log == ["a"] * 2


def test_an_async_cancel_joins_the_callers_transaction(
    world: World, durable: Durable, driver: str, log: list[str]
) -> None:
    """P7"""
    gone, kept = durable.start_many("w", [{}, {}])

    async def main() -> None:
        async with session_of(world.url, driver) as session:
            await kept.acancel(session=session)
            await session.rollback()
            await gone.acancel(session=session, reason="no")
            await session.commit()

    asyncio.run(main())
    world.drain(durable)
    assert gone.status().status == "cancelled"
    assert kept.status().status == "completed"
    assert log == ["a"]


def test_an_async_connection_is_joined_too(world: World, durable: Durable) -> None:
    """P7"""

    async def main() -> None:
        engine = create_async_engine(world.url)
        async with engine.connect() as connection:
            assert isinstance(connection, AsyncConnection)
            await durable.astart("w", {}, session=connection)
            await connection.rollback()
            await durable.astart("w", {}, session=connection)
            await connection.commit()
        await engine.dispose()

    asyncio.run(main())
    assert world.counts()["run"] == 1


def test_an_async_session_is_refused_where_it_cannot_be_awaited(
    world: World, durable: Durable
) -> None:
    """P12"""

    async def main() -> None:
        async with session_of(world.url, "psycopg") as session:
            with pytest.raises(ConfigurationError, match="astart"):
                durable.start("w", {}, session=session)
            with pytest.raises(ConfigurationError, match="takes an AsyncSession"):
                await durable.astart("w", {}, session=session.sync_session)

    asyncio.run(main())
