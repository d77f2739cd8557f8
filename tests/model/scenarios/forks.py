"""Parallel, map, route and loop: tokens that fork and join, and one that goes round."""

from __future__ import annotations

from celery_durable import Durable
from tests.model.bench import Scenario
from tests.model.scenarios.parts import cancel, ends, joined_cancel, step
from tests.model.world import Limits


def parallel(durable: Durable) -> None:
    durable.workflow("w").parallel("p", [step(durable, "x"), step(durable, "y")])


def parallel_undoable(durable: Durable) -> None:
    branches = [step(durable, "x", undo=True), step(durable, "y", undo=True)]
    durable.workflow("w").parallel("p", branches).step(step(durable, "b"))


def parallel_failing(durable: Durable) -> None:
    branches = [
        step(durable, "x", undo=True),
        step(durable, "y", undo=True),
        step(durable, "z", fails=9),
    ]
    durable.workflow("w").step(step(durable, "a", undo=True)).parallel("p", branches)


def fail_fast(durable: Durable) -> None:
    branches = [step(durable, "x", fails=9), step(durable, "y", undo=True)]
    durable.workflow("w").parallel("p", branches, fail_fast=True)


def window_of_one(durable: Durable) -> None:
    durable.workflow("w").map(
        "m", over=lambda _ctx: [1, 2, 3], handler=step(durable, "item"), max_concurrency=1
    )


def window_of_two(durable: Durable) -> None:
    durable.workflow("w").map(
        "m",
        over=lambda _ctx: [1, 2, 3],
        handler=step(durable, "item", undo=True),
        max_concurrency=2,
    )


def chunks(durable: Durable) -> None:
    durable.workflow("w").map(
        "m", over=lambda _ctx: [1, 2, 3], handler=step(durable, "item"), max_concurrency=2, chunk=2
    )


def second_item_fails(ctx: object) -> object:
    if getattr(ctx, "item", None) == 2:
        raise ValueError("two")
    return "done"


def map_fail_fast(durable: Durable) -> None:
    durable.workflow("w").map(
        "m",
        over=lambda _ctx: [1, 2, 3],
        handler=step(durable, "item", undo=True, gives=second_item_fails),
        max_concurrency=2,
        fail_fast=True,
    )


def map_keep(durable: Durable) -> None:
    durable.workflow("w").map(
        "m",
        over=lambda _ctx: [1, 2],
        handler=step(durable, "item", gives=second_item_fails),
        on_error="keep",
    )


def tolerating(durable: Durable, tolerate: int) -> None:
    durable.workflow("w").map(
        "m",
        over=lambda _ctx: [2, 1, 2],
        handler=step(durable, "item", undo=True, gives=second_item_fails),
        max_concurrency=2,
        tolerate=tolerate,
    )


def map_tolerates_two(durable: Durable) -> None:
    tolerating(durable, 2)


def map_tolerates_one(durable: Durable) -> None:
    tolerating(durable, 1)


def route(durable: Durable) -> None:
    cases = {"one": step(durable, "one", undo=True), "two": step(durable, "two")}
    durable.workflow("w").route("r", lambda _ctx: "one", cases).step(step(durable, "b", fails=9))


def loop(durable: Durable) -> None:
    turn = step(durable, "turn", undo=True, gives=lambda ctx: (ctx.item or 0) + 1)
    durable.workflow("w").loop(
        "l", turn, max_iterations=5, until=lambda result, _n: result >= 2, feedback=lambda r: r
    )


def slow_loop(durable: Durable) -> None:
    durable.workflow("w").loop("l", step(durable, "turn", undo=True), max_iterations=2, every=60)


FORKS = (
    Scenario(
        "parallel: a crash at the gate",
        parallel,
        limits=Limits(crashes=1),
        longer=Limits(crashes=2, duplicates=1),
        ends=ends("completed"),
    ),
    Scenario(
        "parallel: a worker is taken for dead at the gate",
        parallel,
        limits=Limits(zombies=1),
        longer=Limits(zombies=1, duplicates=1),
        ends=ends("completed"),
    ),
    Scenario(
        "parallel: lost and duplicate messages",
        parallel,
        limits=Limits(losses=1, duplicates=1, recoveries=1),
        ends=ends("completed"),
    ),
    Scenario(
        "parallel: one fails, the others are undone",
        parallel_failing,
        inline_steps=5,
        longer=Limits(crashes=1),
        ends=ends("failed"),
    ),
    Scenario(
        "parallel: fail_fast",
        fail_fast,
        limits=Limits(crashes=1),
        longer=Limits(crashes=1, duplicates=1),
        ends=ends("failed"),
    ),
    Scenario(
        "parallel: cancelled",
        parallel,
        acts=(joined_cancel(),),
        longer=Limits(crashes=1),
        ends=ends("completed", "cancelled"),
    ),
    Scenario(
        "parallel: cancelled with compensation",
        parallel_undoable,
        inline_steps=5,
        acts=(cancel(compensate=True),),
        seats=1,
        longer=Limits(crashes=1),
        ends=ends("completed", "cancelled"),
    ),
    Scenario(
        "map: a window of one, three items",
        window_of_one,
        limits=Limits(crashes=1, duplicates=1),
        longer=Limits(crashes=1, duplicates=1, losses=1, recoveries=1),
        ends=ends("completed"),
    ),
    Scenario(
        "map: cancelled while items wait for room",
        window_of_two,
        inline_steps=5,
        acts=(joined_cancel(compensate=True),),
        seats=1,
        ends=ends("completed", "cancelled"),
    ),
    Scenario(
        "map: items that share a message",
        chunks,
        limits=Limits(crashes=1),
        longer=Limits(crashes=1, duplicates=1),
        ends=ends("completed"),
    ),
    Scenario(
        "map: fail_fast while items wait for room",
        map_fail_fast,
        limits=Limits(duplicates=1),
        longer=Limits(crashes=1),
        ends=ends("failed"),
    ),
    Scenario(
        "map: errors are kept",
        map_keep,
        limits=Limits(crashes=1),
        ends=ends("completed"),
    ),
    Scenario(
        "map: as many items fail as are tolerated",
        map_tolerates_two,
        limits=Limits(crashes=1),
        longer=Limits(crashes=1, duplicates=1),
        ends=ends("completed"),
    ),
    Scenario(
        "map: one more item fails than is tolerated",
        map_tolerates_one,
        limits=Limits(crashes=1),
        longer=Limits(crashes=1, duplicates=1),
        ends=ends("failed"),
    ),
    Scenario(
        "route: a crash between decision and case, then back",
        route,
        limits=Limits(crashes=1, duplicates=1),
        ends=ends("failed"),
    ),
    Scenario(
        "loop: a crash between two iterations",
        loop,
        limits=Limits(crashes=1, duplicates=1),
        longer=Limits(crashes=2, duplicates=1),
        ends=ends("completed"),
    ),
    Scenario(
        "loop: cancelled while it waits for the next iteration",
        slow_loop,
        acts=(cancel(compensate=True),),
        longer=Limits(crashes=1),
        seats=1,
        ends=ends("completed", "cancelled"),
    ),
)
