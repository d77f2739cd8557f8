"""P7: which calls `durable.joining(session)` reaches, in threads and in asyncio's tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from celery_durable.errors import ConfigurationError
from tests.integration.driving import PATIENCE, World, spawn
from tests.integration.sending import Sender

pytest.importorskip("greenlet", reason="SQLAlchemy's asyncio needs it")

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine


@asynccontextmanager
async def engine_of(world: World, driver: str = "psycopg") -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(sa.make_url(world.url).set(drivername=f"postgresql+{driver}"))
    yield engine
    await engine.dispose()


def test_an_inner_block_goes_before_and_the_outer_one_holds_again_after_it(
    world: World, sender: Sender
) -> None:
    engine = sa.create_engine(world.url)
    with Session(engine) as inner, sender.durable.joining(sender.session):
        sender.tell.delay("outer")
        with sender.durable.joining(inner):
            sender.tell.delay("inner")
        sender.tell.delay("outer again")
        inner.commit()
        assert sender.written() == [["inner"]]
        sender.session.commit()
    engine.dispose()
    assert sorted(sender.written()) == [["inner"], ["outer"], ["outer again"]]


def test_a_call_that_names_a_session_joins_that(world: World, sender: Sender) -> None:
    engine = sa.create_engine(world.url)
    with Session(engine) as named, sender.durable.joining(sender.session):
        sender.durable.send_task(sender.plain("named"), session=named)
        named.commit()
    engine.dispose()
    assert sender.written() == [["named"]]


def test_an_error_in_the_block_unbinds_the_session_and_leaves_its_transaction_to_the_caller(
    sender: Sender,
) -> None:
    def tell_and_fail() -> None:
        with sender.durable.joining(sender.session):
            sender.tell.delay("joined")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        tell_and_fail()
    assert sender.session.in_transaction()
    sender.durable.send_task(sender.plain("alone"))
    assert sender.written() == [["alone"]]
    sender.session.commit()
    assert sender.written() == [["joined"], ["alone"]]


def test_another_thread_is_not_in_the_block(sender: Sender) -> None:
    with sender.durable.joining(sender.session):
        spawn(sender.durable.send_task, sender.plain("thread")).result(PATIENCE)
        assert sender.written() == [["thread"]]


def test_nothing_to_join_is_refused(sender: Sender) -> None:
    """P12"""
    with pytest.raises(ConfigurationError, match="not None"), sender.durable.joining(None):
        pass


def test_async_code_joins_an_async_session(world: World, sender: Sender, driver: str) -> None:
    """P7"""
    durable = sender.durable

    async def main() -> None:
        async with engine_of(world, driver) as engine, AsyncSession(engine) as session:
            await durable.asend_task(sender.plain("lost"), session=session)
            await session.rollback()
            with durable.joining(session):
                await durable.asend_task(sender.plain("kept"))
                await durable.asend_task(sender.plain("too"))
            assert sender.written() == []
            await session.commit()
        await durable.asend_task(sender.plain("alone"))

    asyncio.run(main())
    assert sender.written() == [["kept"], ["too"], ["alone"]]


def test_each_task_of_asyncio_joins_its_own_session(world: World, sender: Sender) -> None:
    """Those that a block starts join its session; those beside it do not."""
    durable = sender.durable

    async def place(word: str, engine: AsyncEngine, meet: asyncio.Barrier) -> None:
        async with AsyncSession(engine) as session:
            with durable.joining(session):
                await meet.wait()  # all of them are in their blocks
                await asyncio.create_task(durable.asend_task(sender.plain(word)))
                await meet.wait()
            if word == "kept":
                await session.commit()

    async def main() -> None:
        meet = asyncio.Barrier(2)
        async with engine_of(world) as engine:
            await asyncio.gather(place("kept", engine, meet), place("lost", engine, meet))

    asyncio.run(main())
    assert sender.written() == [["kept"]]


def test_delay_cannot_wait_for_an_async_session_and_says_what_can(
    world: World, sender: Sender
) -> None:
    """P12: it sends nothing, neither now nor later."""

    async def main() -> None:
        async with engine_of(world) as engine, AsyncSession(engine) as session:
            with (
                sender.durable.joining(session),
                pytest.raises(ConfigurationError, match=r"await durable.asend_task\(tell.s"),
            ):
                sender.tell.delay()
            await session.commit()

    asyncio.run(main())
    assert sender.written() == []
    assert sender.in_queue() == []


def test_run_sync_lets_delay_join_an_async_session(world: World, sender: Sender) -> None:
    """P7: code that is not async is called that way by whoever has an AsyncSession."""

    def old_code(session: Session) -> None:
        with sender.durable.joining(session):
            sender.tell.delay("joined")

    async def main() -> None:
        async with engine_of(world) as engine, AsyncSession(engine) as session:
            await session.run_sync(old_code)
            assert sender.written() == []
            await session.commit()

    asyncio.run(main())
    assert sender.written() == [["joined"]]
