"""How many items of a map are open at a time, and which share a message."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import pytest

from celery_durable import Durable
from tests.integration.driving import Define, World, all_at_once
from tests.integration.forks import advance, ended, messages, standing


def lines(log: list[int], count: int, **options: Any) -> Define:
    """A map that leaves its items in `log`."""

    def define(durable: Durable) -> None:
        durable.workflow("w").map(
            "lines",
            over=lambda _: list(range(count)),
            handler=lambda ctx: log.append(ctx.item),
            **options,
        )

    return define


def open_items(world: World) -> int:
    """How many items have a token."""
    return int(world.one("SELECT count(*) FROM durable_token WHERE parent_id IS NOT NULL"))


@pytest.mark.parametrize(
    ("count", "window", "chunk"),
    [
        (9, 1, 1),
        (10, 3, 1),
        (10, 10, 1),
        (5, 100, 1),
        (20, 6, 3),
        (20, 7, 3),
        (11, 4, 4),
        (9, 5, 2),
    ],
)
def test_no_more_than_max_concurrency_are_ever_open_and_all_are_done_once(
    world: World, count: int, window: int, chunk: int
) -> None:
    """P3"""
    log: list[int] = []
    worker = world.worker(lines(log, count, max_concurrency=window, chunk=chunk))
    run = worker.start("w", {})
    seen: list[int] = []
    while hints := world.publish():
        for token_id in hints:
            worker.engine.advance(token_id)
            seen.append(open_items(world))

    assert max(seen) == min(window, count)
    assert sorted(log) == list(range(count))
    assert ended(world, run) == "completed"


def test_the_window_is_refilled_as_each_item_ends(world: World) -> None:
    """In whatever order they end; the next of the list comes first."""
    worker = world.worker(lines([], 7, max_concurrency=3))
    run = worker.start("w", {})
    advance(world, worker, run, "lines")
    opened = []
    for n in (1, 0, 3, 2):
        world.lose_hints()
        advance(world, worker, run, f"lines#{n}")
        opened.append([row["options"]["shadow"] for row in messages(world)])
        assert open_items(world) == 3

    assert opened == [["w.lines#3"], ["w.lines#4"], ["w.lines#5"], ["w.lines#6"]]
    assert world.counts()["item"] == 0
    assert set(standing(world, run)) == {"lines", "lines#4", "lines#5", "lines#6"}


def test_an_item_that_is_tried_again_keeps_its_place_in_the_window(world: World) -> None:
    log: list[int] = []

    def flaky(ctx: Any) -> None:
        log.append(ctx.item)
        if ctx.attempt == 1:
            raise ConnectionError

    def define(durable: Durable) -> None:
        durable.workflow("w").map("lines", over=lambda _: [0, 1], handler=flaky, max_concurrency=1)

    worker = world.worker(define)
    run = worker.start("w", {})
    world.drain(worker)
    assert log == [0]
    world.let_time_pass(100)
    world.drain(worker)
    assert log == [0, 0, 1]
    world.let_time_pass(100)
    world.drain(worker)
    assert log == [0, 0, 1, 1]
    assert ended(world, run) == "completed"


def shared(world: World) -> list[int]:
    """How many items each message is for, in order."""
    return [len(row["args"]) for row in messages(world)]


@pytest.mark.parametrize(
    ("count", "chunk", "expected"),
    [(7, 1, [1] * 7), (7, 3, [3, 3, 1]), (6, 3, [3, 3]), (2, 10, [2])],
)
def test_a_chunk_shares_a_message(
    world: World, count: int, chunk: int, expected: list[int]
) -> None:
    worker = world.worker(lines([], count, chunk=chunk))
    run = worker.start("w", {})
    world.publish()
    advance(world, worker, run, "lines")

    assert shared(world) == expected
    tokens = standing(world, run)
    named = [token for row in messages(world) for token in row["args"]]
    assert named == [str(tokens[f"lines#{n}"]["id"]) for n in range(count)]


def test_a_chunk_is_opened_when_a_chunk_has_ended(world: World) -> None:
    """With a window: so that what is opened later shares messages too."""
    worker = world.worker(lines([], 12, max_concurrency=6, chunk=3))
    run = worker.start("w", {})
    world.publish()
    advance(world, worker, run, "lines")
    assert shared(world) == [3, 3]
    world.lose_hints()

    advance(world, worker, run, "lines#0", "lines#4")
    assert (shared(world), open_items(world)) == ([], 4)
    advance(world, worker, run, "lines#1")
    assert (shared(world), open_items(world)) == ([3], 6)
    (row,) = messages(world)
    assert row["options"]["shadow"] == "w.lines#6"


def test_items_of_one_message_run_on_though_one_of_them_fails(world: World) -> None:
    """A message is only a hint: each item has its own attempts."""
    log: list[int] = []

    def pick(ctx: Any) -> None:
        log.append(ctx.item)
        if ctx.item == 0:
            raise ValueError

    def define(durable: Durable) -> None:
        durable.workflow("w").map("lines", over=lambda _: [0, 1, 2], handler=pick, chunk=3)

    worker = world.worker(define, default_retry={"max_attempts": 1})
    run = worker.start("w", {})
    world.drain(worker)

    assert log == [0, 1, 2]
    assert ended(world, run) == "failed"


@pytest.mark.parametrize("window", [None, 4])
def test_an_item_with_a_time_limit_shares_no_message(world: World, window: int | None) -> None:
    """The limit holds for a whole message."""

    def define(durable: Durable) -> None:
        step = durable.step(timeout=9, name="pick")(lambda _: None)
        durable.workflow("w").map(
            "lines", over=lambda _: [0, 1, 2, 3, 4], handler=step, chunk=4, max_concurrency=window
        )

    worker = world.worker(define)
    run = worker.start("w", {})
    world.publish()
    advance(world, worker, run, "lines")

    assert shared(world) == [1] * (window or 5)
    assert all(row["options"]["soft_time_limit"] == 9 for row in messages(world))
    world.lose_hints()
    advance(world, worker, run, "lines#2")
    if window is not None:
        (row,) = messages(world)
        assert row["options"]["soft_time_limit"] == 9
        assert row["options"]["shadow"] == "w.lines#4"


def test_items_that_end_at_the_same_time_open_others_once(world: World) -> None:
    """P3"""
    log: list[int] = []
    define = lines(log, 24, max_concurrency=4)
    workers = [world.worker(define) for _ in range(4)]
    run = workers[0].start("w", {})
    advance(world, workers[0], run, "lines")
    for _ in range(6):
        tokens = [row for unit, row in standing(world, run).items() if unit != "lines"]
        assert len(tokens) == 4
        pairs = zip(workers, tokens, strict=True)
        all_at_once([partial(one.engine.advance, row["id"]) for one, row in pairs])
    world.drain(workers[0])

    assert Counter(log) == dict.fromkeys(range(24), 1)
    assert ended(world, run) == "completed"


@pytest.mark.parametrize("compensate", [False, True])
def test_a_cancel_drops_the_items_that_wait_for_room(world: World, compensate: bool) -> None:
    log: list[int] = []
    worker = world.worker(lines(log, 50, max_concurrency=3))
    run = worker.start("w", {})
    advance(world, worker, run, "lines")
    advance(world, worker, run, "lines#0")
    run.cancel(compensate=compensate)
    world.drain(worker)

    assert log == [0]
    assert ended(world, run) == "cancelled"


def test_the_status_counts_items_and_does_not_list_them(world: World) -> None:
    worker = world.worker(lines([], 50, max_concurrency=3))
    run = worker.start("w", {})
    advance(world, worker, run, "lines")
    advance(world, worker, run, "lines#0", "lines#1")

    snapshot = run.status()
    assert snapshot.current == ("lines",)
    forked = snapshot.forks["lines"]
    assert (forked.total, forked.ended, forked.failed) == (50, 2, 0)
    assert (forked.executing, forked.waiting, forked.queued) == (0, 0, 48)
