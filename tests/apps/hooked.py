"""A shop that is told what becomes of its orders: signals, hooks, and lines of a log.

The run's input says how often `charge` fails: ``{"failures": 1}``. What tasks are called with is
written into the ledger of `tests.apps.shop`, under the id of the run.
"""

import asyncio
import json
import logging
import os
from typing import Any

from celery import Celery, shared_task

from celery_durable import Durable, RetryPolicy, signals
from tests.apps import configure
from tests.apps.shop import CONFIG, connected

logger = logging.getLogger("hooked")


@shared_task(name="hooked.tell", ignore_result=False)
def tell(run_id: str, how: str) -> str:
    with connected() as ledger:
        ledger.execute(
            "INSERT INTO ledger (run_id, unit, event, pid) VALUES (%s, %s, %s, %s)",
            (run_id, "tell", how, os.getpid()),
        )
    return how


async def reserve(ctx: Any) -> None:
    await asyncio.sleep(0)
    logger.warning("reserving")


def charge(ctx: Any) -> None:
    logger.warning("charging")
    if ctx.attempt <= (ctx.input or {}).get("failures", 0):
        raise ValueError("no money")


def define(durable: Durable) -> None:
    policy = RetryPolicy(2, backoff="fixed", initial=0.2, jitter=False)
    (
        durable.workflow("told", on_completed=tell.s("completed"), on_failed=tell.s("failed"))
        .step(reserve)
        .step(charge, retry=policy)
    )


app = configure(Celery("hooked"))
app.conf.update(json.loads(os.environ.get(CONFIG) or "{}"))
durable = Durable(app)
define(durable)


@signals.run_completed.connect(sender="told")
def on_completed(run_id: Any, **_: Any) -> None:
    logger.warning("heard that %s has completed", run_id)


@signals.unit_retried.connect
def on_retried(run_id: Any, unit: str, attempt: int, **_: Any) -> None:
    logger.warning("heard that %s of %s is tried again after %d", unit, run_id, attempt)
