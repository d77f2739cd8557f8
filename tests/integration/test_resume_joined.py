"""P7: `resume` joins the caller's transaction: rolled back with it, visible with it."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from celery_durable import Durable
from celery_durable.core.status import Status
from celery_durable.engine.ids import uuid7
from celery_durable.errors import ConfigurationError, PayloadTooLarge, RunNotFound
from tests.addresses import conninfo
from tests.integration.driving import World, spawn
from tests.integration.test_joined_transactions import (
    core_connection,
    each_way,
    orm_session,
    psycopg_connection,
)
from tests.integration.workflows import waiting
from tests.waiting import wait_until


@pytest.fixture
def durable(world: World) -> Durable:
    return world.worker(waiting)


@each_way
@pytest.mark.parametrize("commits", [True, False])
def test_a_signal_arrives_with_the_callers_commit(
    world: World, durable: Durable, way: Any, commits: bool
) -> None:
    """P7, P9"""
    run = durable.start("w")
    world.drain(durable)
    with way(world.url) as (session, commit, rollback):
        delivery = run.resume("go", {"text": "ä%s:x", "n": 1.5}, key="k", session=session)
        assert delivery.outcome == "stored"
        assert delivery.status is Status.SUSPENDED
        assert world.drain(durable) == 0, "nobody sees it before the commit"
        assert world.counts()["inbox"] == 0
        if commits:
            commit()
        else:
            rollback()

    world.drain(durable)
    if commits:
        assert run.result(0) == {"s": {"text": "ä%s:x", "n": 1.5}}
    else:
        assert run.status().status is Status.SUSPENDED
        assert run.resume("go", 2, key="k").outcome == "stored", "its key was never seen"


@pytest.mark.parametrize("way", [orm_session, core_connection, psycopg_connection])
def test_a_run_that_parks_meanwhile_hears_of_the_signal_at_the_commit(
    world: World, durable: Durable, way: Any
) -> None:
    """P9: the signal is sent while the run has not begun, and committed when it waits."""
    run = durable.start("w")
    with way(world.url) as (session, commit, _):
        assert run.resume("go", "late", session=session).status is Status.RUNNING
        world.drain(durable)
        assert run.status().status is Status.SUSPENDED
        commit()

    assert world.drain(durable) >= 1, "no recovery is needed"
    assert run.result(0) == {"s": "late"}


@pytest.mark.parametrize("way", [orm_session, core_connection, psycopg_connection])
def test_a_start_and_its_signal_are_one(world: World, durable: Durable, way: Any) -> None:
    """P7"""
    with way(world.url) as (session, commit, rollback):
        durable.start("w", session=session).resume("go", 1, session=session)
        rollback()
        run = durable.start("w", session=session)
        run.resume("go", 2, session=session)
        commit()

    world.drain(durable)
    assert run.result(0) == {"s": 2}
    assert world.counts()["run"] == 1


@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_a_second_signal_with_a_key_waits_for_the_first_callers_transaction(
    world: World, durable: Durable, ending: str
) -> None:
    """P7: then it is a duplicate, or the first itself."""
    run = durable.start("w")
    with psycopg.connect(conninfo(world.url)) as caller:
        run.resume("go", 1, key="k", session=caller)
        second = spawn(lambda: run.resume("go", 2, key="k"))
        wait_until(world.waiting_for_locks, message="the second signal to wait")
        getattr(caller, ending)()

    delivery = second.result(20)
    assert delivery.outcome == ("duplicate" if ending == "commit" else "stored")
    world.drain(durable)
    assert run.result(0) == {"s": 1 if ending == "commit" else 2}


def test_what_is_refused_leaves_the_callers_transaction_usable(
    world: World, durable: Durable
) -> None:
    """P12"""
    run = durable.start("w")
    engine = sa.create_engine(world.url)
    with Session(engine) as session:
        with pytest.raises(PayloadTooLarge):
            run.resume("go", "x" * 2_000_000, session=session)
        with pytest.raises(ConfigurationError):
            run.resume("", session=session)
        with pytest.raises(RunNotFound):
            durable.resume(uuid7(), "go", session=session)
        run.resume("go", "small", session=session)
        session.commit()
    engine.dispose()

    world.drain(durable)
    assert run.result(0) == {"s": "small"}


def test_a_callers_long_transaction_blocks_no_worker_and_no_other_caller(
    world: World, durable: Durable
) -> None:
    """P7: `resume` locks no token."""
    run = durable.start("w")
    with world.connect() as connection, connection.transaction():
        run.resume("go", 1, session=connection)
        run.resume("go", 2)
        world.drain(durable)
        assert run.result(0) == {"s": 2}
    durable.recover()
    assert world.counts()["inbox"] == 0
