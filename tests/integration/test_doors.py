"""P12: each text that a caller hands over is checked at every door, before any SQL."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from celery_durable import Durable, Run, Suspend
from celery_durable.arguments import KEY_BYTES, MOST_TAGS, TAG_BYTES
from celery_durable.core.names import MAX_LENGTH
from celery_durable.errors import ConfigurationError, InvalidWorkflow
from tests.addresses import conninfo
from tests.integration.driving import World, defining, noting

BROKEN = {"NUL": "a\0b", "half a character": "a\ud800"}

Door = Callable[[Durable, Run, Any, str], Any]

DOORS: dict[str, Door] = {
    "the workflow of start": lambda d, _, s, bad: d.start(bad, session=s),
    "the key of start": lambda d, _, s, bad: d.start("w", key=bad, session=s),
    "the name of a tag": lambda d, _, s, bad: d.start("w", tags={bad: "x"}, session=s),
    "the value of a tag": lambda d, _, s, bad: d.start("w", tags={"x": bad}, session=s),
    "the workflow of start_many": lambda d, _, s, bad: d.start_many(bad, [1], session=s),
    "the tags of start_many": lambda d, _, s, bad: d.start_many(
        "w", [1], tags={"x": bad}, session=s
    ),
    "the workflow of run": lambda d, _, __, bad: d.run(workflow=bad, key="k"),
    "the key of run": lambda d, _, __, bad: d.run(workflow="w", key=bad),
    "the workflow of list": lambda d, _, __, bad: d.list(workflow=bad),
    "the tags of list": lambda d, _, __, bad: d.list(tags={"x": bad}),
    "the status of list": lambda d, _, __, bad: d.list(status=bad),  # type: ignore[arg-type]
    "the page of list": lambda d, _, __, bad: d.list(before=bad),
    "the name of a signal": lambda d, run, s, bad: d.resume(run.id, bad, session=s),
    "the key of a signal": lambda d, run, s, bad: d.resume(run.id, "go", key=bad, session=s),
    "the reason of a cancel": lambda d, run, s, bad: d.cancel(run.id, reason=bad, session=s),
    "the id of a run": lambda d, _, __, bad: d.status(bad),
    "the workflow of durable.start": lambda d, _, __, bad: task(d, workflow=bad),
    "the key of durable.start": lambda d, _, __, bad: task(d, workflow="w", key=bad),
    "the schedule of durable.start": lambda d, _, __, bad: task(d, workflow="w", schedule=bad),
    "the only schedule of durable.start": lambda d, _, __, bad: task(
        d, workflow="w", schedule=bad, overlap="skip"
    ),
    "the queue of a step": lambda d, _, __, bad: d.step(noting([], "a"), queue=bad),
}

LARGE: dict[str, Door] = {
    "a key of 500 wide characters": lambda d, _, s, __: d.start("w", key="🙂" * 500, session=s),
    "a signal's key": lambda d, run, s, _: d.resume(run.id, "go", key="🙂" * 300, session=s),
    "a signal's name": lambda d, run, s, _: d.resume(run.id, "🙂" * 450, session=s),
    "too many tags": lambda d, _, s, __: d.start(
        "w", tags={f"t{n}": "" for n in range(MOST_TAGS + 1)}, session=s
    ),
    "a large tag": lambda d, _, s, __: d.start("w", tags={"t": "x" * (TAG_BYTES + 1)}, session=s),
    "large tags": lambda d, _, s, __: d.start(
        "w", tags={f"t{n}": "x" * 200 for n in range(30)}, session=s
    ),
}


def task(durable: Durable, **arguments: Any) -> Any:
    return durable.app.tasks["durable.start"].apply(kwargs=arguments, throw=True).get()


def assert_refused(world: World, door: Door, bad: str) -> None:
    durable = world.worker(defining([], "w"))
    run = durable.start("w")
    before = world.counts()
    with psycopg.connect(conninfo(world.url)) as joined:
        with pytest.raises((ConfigurationError, InvalidWorkflow)) as told:
            door(durable, run, joined, bad)
        assert joined.info.transaction_status is TransactionStatus.IDLE
    assert len(str(told.value)) < 500
    assert world.counts() == before


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("door", DOORS)
def test_a_text_that_postgres_would_refuse_is_refused_before_any_sql(
    world: World, door: str, broken: str
) -> None:
    assert_refused(world, DOORS[door], BROKEN[broken])


@pytest.mark.parametrize("large", LARGE)
def test_what_would_not_fit_into_an_index_is_refused_before_any_sql(
    world: World, large: str
) -> None:
    assert_refused(world, LARGE[large], "")


def wide(characters: int) -> str:
    """Of four bytes each, and nothing that Postgres could compress."""
    return "".join(chr(random.randrange(0x20000, 0x2A000)) for _ in range(characters))


def test_the_longest_texts_fit_together_into_every_index(world: World) -> None:
    """Those of one entry: workflow and key, workflow and schedule, signal and key, run and unit."""
    workflow, node, branch = wide(MAX_LENGTH), wide(MAX_LENGTH), wide(MAX_LENGTH)
    key = wide(KEY_BYTES // 4)

    def ask(ctx: Any) -> Any:
        return ctx.resume_data if ctx.is_resumed else Suspend(signal=f"{node}#{branch}")

    durable = world.worker(lambda d: d.workflow(workflow).parallel(node, {branch: ask}))
    tags = {"schedule": wide(TAG_BYTES // 4)}
    run = durable.start(workflow, key=key, tags=tags)
    assert durable.start(workflow, key=key) == run
    world.drain(durable)
    delivery = durable.resume(run.id, f"{node}#{branch}", 1, key=key)
    assert delivery.outcome == "stored"
    world.drain(durable)
    assert run.result(0) == {node: {branch: 1}}
    assert [one.run_id for one in durable.list(tags=tags, workflow=workflow)] == [run.id]


def test_many_large_inputs_are_written_in_parts(world: World) -> None:
    """Postgres takes no gigabyte in one statement."""
    durable = world.worker(defining([], "w"))
    durable.start("w")
    runs = durable.start_many("w", [{"n": n, "x": "x" * 1_000_000} for n in range(40)])
    parts = world.rows("SELECT xmin, cmin, count(*) AS runs FROM durable_run GROUP BY 1, 2")
    assert len(runs) == 40
    assert sorted(row["runs"] for row in parts) == [1, 8, 16, 16]
