"""With `task_always_eager` runs are executed in their callers, after their commits."""

import asyncio
from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from celery_durable import ConfigurationError, Context, Durable, GiveUp, RunCancelled, signals
from celery_durable.testing import Harness, RunStands
from celery_durable.worker.configuration import check_configuration
from tests.integration.driving import World, noting


@pytest.fixture
def durable(world: World) -> Durable:
    durable = world.worker()
    durable.app.conf.task_always_eager = True
    return durable


@pytest.fixture
def engine(world: World) -> Iterator[sa.Engine]:
    engine = sa.create_engine(world.url)
    yield engine
    engine.dispose()


def test_a_run_is_executed_before_start_returns(durable: Durable, log: list[str]) -> None:
    work = durable.workflow("w").step(noting(log, "a", 1)).step(noting(log, "b", 2))
    run = work.start({"sku": "A1"})
    assert log == ["a", "b"]
    assert run.result() == {"a": 1, "b": 2}
    assert len(work.start_many([1, 2])) == 2
    assert log == ["a", "b"] * 3


def test_a_signal_and_a_cancel_are_followed_at_once(durable: Durable, log: list[str]) -> None:
    work = durable.workflow("w").wait_for_signal("go").step(noting(log, "a"))
    run = work.start()
    with pytest.raises(RunStands, match="signal go"):
        run.result()
    run.resume("go", 7)
    assert log == ["a"]
    assert run.result()["go"] == 7
    other = work.start()
    other.cancel()
    with pytest.raises(RunCancelled):
        other.result()


def test_a_handler_sees_what_its_caller_has_committed(durable: Durable, world: World) -> None:
    def look(ctx: Context) -> int:
        return int(world.one("SELECT count(*) FROM durable_run WHERE id = %s", ctx.run_id))

    assert durable.workflow("w").step(look).start().result() == {"look": 1}


def test_a_run_of_a_session_is_executed_when_that_commits(
    durable: Durable, engine: sa.Engine, log: list[str]
) -> None:
    work = durable.workflow("w").step(noting(log, "a"))
    with Session(engine) as session:
        work.start(session=session)
        session.rollback()
        assert log == []
        with session.begin_nested():
            work.start(session=session)
        assert log == []
        session.commit()
        assert log == ["a"]
        with durable.joining(session):
            work.start()
        session.commit()
    assert log == ["a", "a"]


def test_a_handler_may_use_the_session_that_has_committed(
    durable: Durable, engine: sa.Engine
) -> None:
    session = Session(engine)

    def use(ctx: Context) -> int:
        session.execute(sa.text("INSERT INTO used VALUES (1)"))
        session.commit()
        return int(session.scalar(sa.text("SELECT count(*) FROM used")) or 0)

    with session, engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE used (n int)"))
    with session:
        run = durable.workflow("w").step(use).start(session=session)
        session.commit()
        assert run.result() == {"use": 1}


def test_a_run_of_another_transaction_is_executed_by_who_asks_for_its_result(
    durable: Durable, engine: sa.Engine, log: list[str]
) -> None:
    work = durable.workflow("w").step(noting(log, "a", 1))
    with engine.begin() as connection:
        run = work.start(session=connection)
    assert log == []
    assert run.result() == {"a": 1}


def test_a_handler_that_starts_a_run_does_not_execute_it(durable: Durable, log: list[str]) -> None:
    child = durable.workflow("child").step(noting(log, "child"))

    def start(ctx: Context) -> None:
        child.start()
        log.append("started")

    durable.workflow("w").step(start).start()
    assert log == ["started", "child"]


def test_a_coroutine_starts_and_waits(durable: Durable, log: list[str]) -> None:
    child = durable.workflow("child").step(noting(log, "child", 1))

    async def work(ctx: Context) -> None:
        await durable.astart(child)
        log.append("work")

    async def caller() -> Any:
        run = await durable.astart(durable.workflow("w").step(work))
        return await run.aresult()

    assert asyncio.run(caller()) == {"work": None}
    assert log == ["work", "child"]


def test_an_async_session_counts_too(
    durable: Durable, world: World, log: list[str], driver: str
) -> None:
    async def step(ctx: Context) -> None:
        log.append("step")

    work = durable.workflow("w").step(step)

    async def caller() -> None:
        engine = create_async_engine(world.url.replace("psycopg", driver))
        async with AsyncSession(engine) as session:
            await durable.astart(work, session=session)
            assert log == []
            await session.commit()
        await engine.dispose()

    asyncio.run(caller())
    assert log == ["step"]


def test_ordinary_tasks_of_a_run_are_executed_too(durable: Durable, log: list[str]) -> None:
    @durable.app.task(name="mail", shared=False)
    def mail(run_id: str, to: str) -> None:
        log.append(f"mail {to}")

    durable.workflow("w", on_completed=mail.s("ops")).step(noting(log, "a")).start()
    assert log == ["a", "mail ops"]


def test_tasks_that_a_step_sends_are_executed_with_what_they_were_called_with(
    durable: Durable, log: list[str]
) -> None:
    @durable.app.task(name="mail", shared=False)
    def mail(to: str, *, subject: str = "-") -> str:
        log.append(f"mail {to} {subject}")
        return to

    @durable.app.task(name="note", shared=False)
    def note(to: str) -> None:
        log.append(f"note {to}")

    def send(ctx: Context) -> None:
        ctx.send_task(mail.s("ada", subject="Hello").set(queue="mail", link=note.s()))
        ctx.send_task(mail.s({"a"}).set(serializer="pickle"))

    durable.workflow("w").step(send).start()
    assert log == ["mail ada Hello", "note ada", "mail {'a'} -"]


def test_a_harness_of_the_test_is_in_charge(durable: Durable, log: list[str]) -> None:
    work = durable.workflow("w").step(noting(log, "a")).sleep("s", 60).step(noting(log, "b"))
    with Harness(durable) as harness:
        stepping = harness.step_by_step(work)
        assert log == []
        assert [one.unit for one in stepping] == ["a", "s"]
        work.start()
        assert log == ["a", "a"]
        harness.advance(60)
        assert log == ["a", "a", "b", "b"]
        assert harness.crash_everywhere(durable.workflow("x").step(noting(log, "x"))).crashes == 2


def test_threads_wait_for_each_other(durable: Durable, log: list[str]) -> None:
    work = durable.workflow("w").step(lambda ctx: log.append(str(ctx.input)), name="a")
    ended: list[bool] = []

    def call(number: int) -> None:
        work.start(number)
        ended.append(str(number) in log)

    threads = [Thread(target=call, args=[number]) for number in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert ended == [True] * 6


def test_nothing_is_started_beside_a_live_worker(world: World, durable: Durable) -> None:
    other = world.worker()
    other.liveness.worker_id()
    work = durable.workflow("w").step(noting([], "a"))
    with pytest.raises(ConfigurationError, match="worker is alive"):
        work.start()
    assert world.one("SELECT count(*) FROM durable_run") == 0


def test_no_row_of_a_worker_is_left_once_the_settings_are_forgotten(
    world: World, durable: Durable
) -> None:
    live = "SELECT count(*) FROM durable_worker WHERE ended_at IS NULL"
    durable.workflow("w").step(noting([], "a")).start()
    assert world.one(live) == 1
    durable.reset()
    assert world.one(live) == 0


@pytest.mark.parametrize("is_eager", [True, False])
def test_settings_are_forgotten_after_a_result_was_asked_for(
    durable: Durable, log: list[str], is_eager: bool
) -> None:
    work = durable.workflow("w").step(noting(log, "a", 1))
    assert work.start().result() == {"a": 1}
    durable.app.conf.task_always_eager = is_eager
    durable.reset()
    durable.app.conf.task_always_eager = True
    assert work.start().result() == {"a": 1}


def test_a_worker_and_a_relay_are_refused(durable: Durable) -> None:
    with pytest.raises(ConfigurationError, match="Neither a worker nor a relay takes part"):
        check_configuration(durable, durable.app)


@pytest.fixture
def heard() -> Iterator[list[str]]:
    """The names of the signals that are sent."""
    heard: list[str] = []

    def started(**_: Any) -> None:
        heard.append("started")

    def ended(**_: Any) -> None:
        heard.append("ended")

    signals.run_started.connect(started)
    signals.run_completed.connect(ended)
    signals.run_failed.connect(ended)
    yield heard
    signals.run_started.disconnect(started)
    signals.run_completed.disconnect(ended)
    signals.run_failed.disconnect(ended)


def test_a_start_is_heard_of_before_the_end(durable: Durable, heard: list[str]) -> None:
    def fail(ctx: Context) -> None:
        raise GiveUp("no money")

    work = durable.workflow("w").step(fail)
    run = work.start(key="k")
    assert heard == ["started", "ended"]
    work.start(key="k")
    assert heard == ["started", "ended"]
    run.retry()
    work.start_many([1])
    assert heard == ["started", "ended"] * 3
