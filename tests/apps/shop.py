"""A shop on durable workflows whose handlers write down what they do.

The table they write to, `ledger`, is the shop's own; the engine does not know it, so that tests can
hold the engine's journal against it. A run's input says what shall become of its units:
``{"charge": "hold"}`` keeps `charge` busy until the test opens the run's gate, ``"die"`` kills the
process, ``"fail"`` fails for good, ``"later"`` fails and is tried again in an hour.
"""

import json
import logging.config
import os
import signal
from typing import Any

import psycopg
import sqlalchemy as sa
from celery import Celery
from celery.signals import setup_logging

from celery_durable import Durable, GiveUp, RetryLater
from tests.addresses import conninfo
from tests.apps import configure
from tests.waiting import wait_until

TABLES = """
    CREATE TABLE ledger (
        id bigserial PRIMARY KEY, run_id uuid NOT NULL, unit text NOT NULL, event text NOT NULL,
        pid integer NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
    CREATE TABLE gate (run_id uuid PRIMARY KEY)
"""
CONFIG = "TEST_SHOP_CONFIG"
VERSION = "TEST_SHOP_VERSION"
EDITED = "TEST_SHOP_EDITED"
LOGGING = "TEST_SHOP_LOGGING"
PAYMENTS_QUEUE = "TEST_PAYMENTS_QUEUE"
HELD_AT_MOST = 60.0
STOCKTAKING_STEPS = 60

_WRITE = "INSERT INTO ledger (run_id, unit, event, pid) VALUES (:run_id, :unit, :event, :pid)"


def connected() -> psycopg.Connection[Any]:
    return psycopg.connect(conninfo(os.environ["DURABLE_DATABASE_URL"]), autocommit=True)


def perform(ctx: Any) -> dict[str, str]:
    """What every step and compensator of the shop does."""
    with connected() as ledger:
        note(ledger, ctx, "begin")
        match (ctx.input or {}).get(ctx.unit):
            case "hold":
                wait_until(lambda: is_open(ledger, ctx), timeout=HELD_AT_MOST, message="the gate")
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "fail":
                raise GiveUp(f"{ctx.unit} is declined")
            case "later":
                raise RetryLater(3600, counts=True, reason=f"{ctx.unit} is busy")
            case _:
                pass
        note(ledger, ctx, "end")
    return {"done": ctx.unit}


def note(ledger: psycopg.Connection[Any], ctx: Any, event: str) -> None:
    ledger.execute(
        "INSERT INTO ledger (run_id, unit, event, pid) VALUES (%s, %s, %s, %s)",
        (ctx.run_id, ctx.unit, event, os.getpid()),
    )


def is_open(ledger: psycopg.Connection[Any], ctx: Any) -> bool:
    return bool(ledger.execute("SELECT FROM gate WHERE run_id = %s", (ctx.run_id,)).rowcount)


def book(ctx: Any) -> dict[str, str]:
    """A transactional step: its row in the ledger commits with the step, or not at all."""
    with connected() as ledger:
        note(ledger, ctx, "begin")
        row = {"run_id": ctx.run_id, "unit": ctx.unit, "event": "booked", "pid": os.getpid()}
        ctx.session.execute(sa.text(_WRITE), row)
        if (ctx.input or {}).get(ctx.unit) == "hold":
            wait_until(lambda: is_open(ledger, ctx), timeout=HELD_AT_MOST, message="the gate")
    return {"done": ctx.unit}


def define(
    durable: Durable, *, version: int = 1, payments: str | None = None, edited: bool = False
) -> None:
    """The shop's workflows, in whichever process; `edited`: `order` has one step more."""
    reserve = durable.step(name="reserve", compensate=perform)(perform)
    charge = durable.step(name="charge", queue=payments, compensate=perform)(perform)
    ship = durable.step(name="ship")(perform)
    for known in range(1, version + 1):
        order = durable.workflow("order", version=known).step(reserve)
        if edited:
            order.step(perform, name="check")
        order.step(charge).step(ship)
    durable.workflow("booking").step(book, transactional=True).step(perform, name="tell")
    durable.workflow("approval").wait_for_signal("signoff").step(ship)
    stocktaking = durable.workflow("stocktaking")
    for number in range(1, STOCKTAKING_STEPS + 1):
        stocktaking.step(perform, name=f"shelf{number}")


app = configure(Celery("shop"))
app.conf.beat_schedule = {
    "recover": {"task": "durable.recover", "schedule": 0.5},
    "nightly": {
        "task": "durable.start",
        "schedule": 0.3,
        "args": [{"charge": "hold"}],
        "kwargs": {"workflow": "order", "schedule": "nightly", "overlap": "skip"},
    },
}
app.conf.update(json.loads(os.environ.get(CONFIG) or "{}"))
if app.conf.task_serializer == "auth":
    app.setup_security()
if LOGGING in os.environ:

    @setup_logging.connect
    def configure_logging(**_: Any) -> None:
        logging.config.dictConfig(json.loads(os.environ[LOGGING]))


durable = Durable(app)
define(
    durable,
    version=int(os.environ.get(VERSION, "1")),
    payments=os.environ.get(PAYMENTS_QUEUE),
    edited=EDITED in os.environ,
)
