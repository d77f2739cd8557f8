"""The Celery app that celery_durable is measured with; its settings are the defaults, but for
`wire.SETTINGS`.
"""

from __future__ import annotations

import time
from typing import Any

from celery import Celery
from celery.signals import worker_ready

from benchmarks.programs.wire import BROKER, DATABASE, QUEUE, READY, SETTINGS, STEPS, TRANSPORT
from celery_durable import Context, Durable

BRANCHES = 100
SLOW_STEPS = 2
"""Steps of a run whose steps take long."""

app = Celery("bench", broker=BROKER)
app.conf.update(
    broker_transport_options=TRANSPORT,
    broker_connection_retry_on_startup=True,
    task_default_queue=QUEUE,
    durable_queue=QUEUE,
    durable_database_url=DATABASE,
    worker_redirect_stdouts=False,
    **{f"durable_{name}": value for name, value in SETTINGS.items()},
)
durable = Durable(app)


def small(ctx: Context) -> dict[str, bool]:  # noqa: ARG001 - a step that does nothing
    return {"ok": True}


linear = durable.workflow("linear")
for number in range(STEPS):
    linear.step(small, name=f"step_{number}")

durable.workflow("parallel").parallel("fan", {f"b{n}": small for n in range(BRANCHES)})
durable.workflow("map").map("fan", over=lambda ctx: [*range(ctx.input["items"])], handler=small)


def sleep(ctx: Context) -> dict[str, bool]:
    """Wait, as for another service."""
    time.sleep(ctx.input["seconds"])
    return {"ok": True}


def compute(ctx: Context) -> dict[str, bool]:
    """Use so many seconds of a processor."""
    ends = time.thread_time() + ctx.input["seconds"]
    while time.thread_time() < ends:
        pass
    return {"ok": True}


for handler in (sleep, compute):
    slow = durable.workflow(handler.__name__)
    for number in range(SLOW_STEPS):
        slow.step(handler, name=f"step_{number}")


@worker_ready.connect
def say_so(**_: Any) -> None:
    print(READY, flush=True)
