"""Steps that end their process, in every place where a function of the user's runs.

The run's input names the deadly units and how they kill: ``{"a": "kill"}``. Other units of a run
with ``"slow"`` take a moment. What begins is written into the ledger of `tests.apps.shop`.
"""

import ctypes
import json
import os
import signal
import time
from typing import Any

from celery import Celery

from celery_durable import Durable, GiveUp
from tests.apps import configure
from tests.apps.shop import CONFIG, connected, note
from tests.waiting import wait_until

MOMENT = 0.3
"""Seconds that a slow unit takes."""


def segfault() -> None:
    ctypes.string_at(0)


DEATHS = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "os._exit": lambda: os._exit(0),
    "segfault": segfault,
}


def perform(ctx: Any) -> str:
    with connected() as ledger:
        note(ledger, ctx, "begin")
    if death := ctx.input.get(ctx.unit):
        DEATHS[death]()
    if ctx.input.get("slow"):
        until = time.monotonic() + MOMENT
        wait_until(lambda: time.monotonic() > until)
    return "done"


def decline(ctx: Any) -> None:
    raise GiveUp("declined")


def kill_if_told(result: Any, iterations: int) -> bool:
    """An `until` sees results only: that of `poll` says what to do."""
    return bool(DEATHS[result]())


def define(durable: Durable) -> None:
    a = durable.step(perform, name="a", compensate=perform)
    b = durable.step(perform, name="b")
    durable.workflow("line").step(a).step(b)
    durable.workflow("fork").step(a).parallel("both", {"good": perform, "bad": perform})
    durable.workflow("list").step(a).map("each", over=lambda _: [0, 1, 2], handler=perform)
    durable.workflow("choice").step(a).route("way", perform, {"done": b})
    durable.workflow("round").step(a).loop(
        "poll", lambda ctx: ctx.input["until"], until=kill_if_told, max_iterations=3
    )
    durable.workflow("undo").step(a).step(decline)
    durable.workflow("parent").child_workflow("below", "line", map_input=lambda ctx: ctx.input)


app = configure(Celery("poison"))
app.conf.update(json.loads(os.environ.get(CONFIG) or "{}"))
durable = Durable(app)
define(durable)
