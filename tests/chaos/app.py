"""Workflows with every kind of node, whose handlers leave a line in the ledger.

A run's input says what becomes of it: `flaky` units fail at their first attempt, the `refused` one
fails for good, `signal` says when the run is told to go on. `n` makes runs differ in nothing but
their pace.
"""

import json
import os
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from zlib import crc32

import sqlalchemy as sa
from celery import Celery

from celery_durable import Durable, GiveUp, RetryPolicy, Suspend
from tests.apps import configure
from tests.chaos import ledger

CONF = "CHAOS_CONF"

EFFECTS = """
    CREATE TABLE effect (
        id bigserial PRIMARY KEY, run_id uuid NOT NULL, unit text NOT NULL)
"""

QUICK = RetryPolicy(max_attempts=3, initial=0.05, maximum=0.2)
LONG_STEPS_OF_100 = 5
LONG_STEP = 1.5
SHORT_STEP_AT_MOST = 0.02
"""Seconds."""


class Declined(Exception):
    """What a flaky unit raises."""


def work(ctx: Any) -> dict[str, Any]:
    """What every step and compensator does."""
    with ledger.executing(ctx):
        _take_time(ctx)
        _fail_as_told(ctx)
    return {"did": ctx.unit}


def _take_time(ctx: Any) -> None:
    drawn = crc32(f"{_told(ctx, 'n')} {ctx.unit}".encode()) % 10_000
    is_long = drawn % 100 < LONG_STEPS_OF_100
    time.sleep(LONG_STEP if is_long else SHORT_STEP_AT_MOST * drawn / 10_000)


def _fail_as_told(ctx: Any) -> None:
    if ctx.attempt == 1 and ctx.unit in (_told(ctx, "flaky") or ()):
        raise Declined(ctx.unit)
    if ctx.unit == _told(ctx, "refused"):
        raise GiveUp(f"{ctx.unit} is refused")


def _told(ctx: Any, name: str) -> Any:
    return ctx.input.get(name) if isinstance(ctx.input, Mapping) else None


def work_in_transaction(ctx: Any) -> dict[str, Any]:
    """Its effect commits with the step, or not at all."""
    ctx.session.execute(
        sa.text("INSERT INTO effect (run_id, unit) VALUES (:run_id, :unit)"),
        {"run_id": ctx.run_id, "unit": ctx.unit},
    )
    return work(ctx)


def look_back(ctx: Any) -> dict[str, Any]:
    """Reads what came before."""
    return {**work(ctx), "before": sorted(ctx.results)}


def inspect(ctx: Any) -> dict[str, Any] | Suspend:
    """Asks a question in the middle of its work."""
    done = work(ctx)
    return {**done, "answer": ctx.resume_data} if ctx.is_resumed else Suspend({"asked": ctx.unit})


def define(durable: Durable) -> None:
    """The workflows, in whichever process."""

    def step(name: str, function: Any = work, **options: Any) -> Any:
        return durable.step(name=name, retry=QUICK, **options)(function)

    def undoable(name: str) -> Any:
        made = step(name)
        made.compensate(work, retry=RetryPolicy(max_attempts=5, initial=0.05, maximum=0.2))
        return made

    booked = step("book", work_in_transaction, transactional=True)
    booked.compensate(work_in_transaction, transactional=True)
    order = durable.workflow("order").step(undoable("reserve")).step(undoable("charge"))
    order.step(booked).step(step("ship", look_back))

    packing = durable.workflow("packing").step(undoable("pack")).step(undoable("label"))

    fan = durable.workflow("fan").step(undoable("open"))
    fan.parallel("sides", [undoable("left"), undoable("right"), packing])
    fan.map("lines", over=lambda _: [1, 2, 3, 4, 5], handler=undoable("pick"), max_concurrency=2)
    fan.step(step("close"))

    asking = durable.workflow("asking").sleep("wait", 0.2)
    asking.wait_for_signal("go", timeout=timedelta(minutes=30))
    asking.step(step("inspect", inspect))
    asking.wait_for_signal("never", timeout=0.3, on_timeout="continue")
    asking.step(step("tell"))

    polling = durable.workflow("polling")
    polling.route(
        "rail", lambda ctx: ctx.input["rail"], {"wire": undoable("wire"), "pack": packing}
    )
    polling.loop(
        "poll",
        step("ask"),
        max_iterations=4,
        every=0.05,
        map_input=lambda _: 0,
        feedback=lambda result: result["did"],
    )
    polling.step(step("weigh", timeout=60, compensate=work))
    polling.step(step("settle"))

    family = durable.workflow("family").step(undoable("before"))
    family.child_workflow("packing", packing, compensate="cascade")
    family.map("children", over=lambda _: [{"n": 1}, {"n": 2}], handler=packing)
    family.step(step("after"))


VARIANTS: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "order": (
        {},
        {"flaky": ["charge", "ship"]},
        {"refused": "ship", "flaky": ["reserve#compensate"]},
    ),
    "fan": ({}, {"refused": "sides#right"}, {"refused": "lines#3", "flaky": ["sides#left"]}),
    "asking": ({"signal": "late"}, {"signal": "early"}, {"signal": "late", "refused": "tell"}),
    "polling": (
        {"rail": "wire", "flaky": ["poll#1"]},
        {"rail": "pack"},
        {"rail": "wire", "refused": "settle", "flaky": ["weigh#compensate"]},
    ),
    "family": ({}, {"refused": "after"}),
}
"""The inputs of runs that end in different ways; `n` is added."""

ANSWERS: Mapping[str, Any] = {"go": {"by": "the clerk"}, "inspect": {"verdict": "sound"}}
"""What is sent to whoever waits for a signal of this name."""

app = configure(Celery("chaos"))
app.conf.update(json.loads(os.environ.get(CONF) or "{}"))
app.conf.beat_schedule = {"recover": {"task": "durable.recover", "schedule": 2.0}}
durable = Durable(app)
define(durable)
