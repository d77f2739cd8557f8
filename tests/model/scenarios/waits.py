"""Sleeps, signals and suspended steps."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from celery_durable import Durable, Suspend
from tests.model.bench import Bench, Scenario
from tests.model.laws import holds
from tests.model.scenarios.parts import HOUR, cancel, ends, resume, step
from tests.model.stage import NOON
from tests.model.world import Limits, World


def sleeping(durable: Durable) -> None:
    durable.workflow("w").sleep("z", HOUR).step(step(durable, "b"))


def waiting(durable: Durable) -> None:
    durable.workflow("w").step(step(durable, "a", undo=True)).wait_for_signal("go")


def waiting_for_long(durable: Durable) -> None:
    durable.workflow("w").wait_for_signal("go", timeout=HOUR)


def going_on_without(durable: Durable) -> None:
    durable.workflow("w").wait_for_signal("go", timeout=HOUR, on_timeout="continue")


def waiting_twice(durable: Durable) -> None:
    durable.workflow("w").wait_for_signal("first", "go").wait_for_signal("second", "go")


def suspending(ctx: Any) -> object:
    return ctx.resume_data if ctx.is_resumed else Suspend(None, signal="go")


def asking_twice(ctx: Any) -> object:
    if not ctx.is_resumed:
        return Suspend([])
    if not ctx.snapshot:
        return Suspend([ctx.resume_data])
    return [*ctx.snapshot, ctx.resume_data]


def branches_waiting(durable: Durable) -> None:
    branches = [step(durable, "x", gives=suspending), step(durable, "y", gives=suspending)]
    durable.workflow("w").parallel("p", branches)


def suspended(durable: Durable) -> None:
    durable.workflow("w").step(step(durable, "ask", gives=asking_twice))


def suspended_for_long(durable: Durable) -> None:
    def ask(ctx: Any) -> object:
        return ctx.resume_data if ctx.is_resumed else Suspend(None, signal="go", timeout=HOUR)

    durable.workflow("w").step(step(durable, "a", undo=True)).step(step(durable, "ask", gives=ask))


def never_early(_bench: Bench, world: World) -> None:
    woke = [
        e["finished_at"]
        for e in world.tables.journal
        if e["unit"] == "z" and e["outcome"] == "completed"
    ]
    until = datetime.fromisoformat(NOON) + timedelta(seconds=HOUR)
    early = [at for at in woke if datetime.fromisoformat(at) < until]
    holds(woke and not early, "a sleep is never early", early)


def in_order(_bench: Bench, world: World) -> None:
    found = {e["unit"]: e["result"] for e in world.tables.journal}
    holds((found["first"], found["second"]) in (("signal 1", "signal 2"), ("signal 2", "signal 1")),
          "P9: each signal is consumed once", found)  # fmt: skip


def both_answers(_bench: Bench, world: World) -> None:
    (result,) = [e["result"] for e in world.tables.journal]
    holds(sorted(result) == ["signal 1", "signal 2"], "P9: each signal is consumed once", result)


WAITS = (
    Scenario(
        "sleep: never early",
        sleeping,
        limits=Limits(crashes=1, duplicates=1, losses=1, recoveries=1),
        longer=Limits(crashes=2, duplicates=1, losses=1, recoveries=2),
        expects=never_early,
        ends=ends("completed"),
    ),
    Scenario(
        "sleep: cancelled",
        sleeping,
        acts=(cancel(),),
        longer=Limits(crashes=1),
        seats=1,
        ends=ends("completed", "cancelled"),
    ),
    Scenario(
        "signal: before, while and after it is waited for",
        waiting,
        acts=(resume(),),
        limits=Limits(crashes=1),
        longer=Limits(crashes=1, losses=1, recoveries=1, duplicates=1),
        ends=ends("completed"),
    ),
    Scenario(
        "signal: against its timeout",
        waiting_for_long,
        acts=(resume(),),
        limits=Limits(crashes=1, duplicates=1),
        longer=Limits(crashes=1, duplicates=1, losses=1, recoveries=1),
        ends=ends("completed", "failed"),
    ),
    Scenario(
        "signal: against a timeout that goes on",
        going_on_without,
        acts=(resume(),),
        limits=Limits(zombies=1, duplicates=1),
        seats=1,
        ends=ends("completed"),
    ),
    Scenario(
        "signal: against a cancel",
        waiting,
        acts=(resume(), cancel(compensate=True)),
        seats=1,
        ends=ends("completed", "cancelled"),
    ),
    Scenario(
        "signal: two of one name, two waits",
        waiting_twice,
        acts=(resume(1), resume(2)),
        limits=Limits(duplicates=1),
        longer=Limits(crashes=1, duplicates=1),
        expects=in_order,
        seats=1,
        ends=ends("completed"),
    ),
    Scenario(
        "signal: two branches wait for one name",
        branches_waiting,
        acts=(resume(1), resume(2, after="resume 1")),
        longer=Limits(crashes=1),
        begins_parked=True,
        is_large=True,
        ends=ends("completed"),
    ),
    Scenario(
        "signal: the same key twice",
        waiting_twice,
        acts=(resume(1, key="k"), resume(1, key="k"), resume(2)),
        expects=in_order,
        seats=1,
        ends=ends("completed"),
    ),
    Scenario(
        "suspended: resumed twice",
        suspended,
        acts=(resume(1, name="ask"), resume(2, name="ask")),
        limits=Limits(crashes=1),
        longer=Limits(crashes=1, duplicates=1),
        expects=both_answers,
        seats=1,
        ends=ends("completed"),
    ),
    Scenario(
        "suspended: against its timeout and a cancel",
        suspended_for_long,
        acts=(resume(), cancel()),
        seats=1,
        begins_parked=True,
        ends=ends("completed", "cancelled", "failed"),
    ),
)
