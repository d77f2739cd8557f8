"""A shop whose workers report to Sentry, with the integrations that its SDK has by default."""

import json
import os
from typing import Any

import sentry_sdk
from celery import Celery, shared_task

from celery_durable import Durable, RetryPolicy
from celery_durable.contrib.sentry import DurableIntegration
from tests.apps import configure
from tests.apps.shop import CONFIG, perform

DSN = "TEST_SENTRY_DSN"


@shared_task(name="reported.pay")
def pay(failures: int) -> None:
    raise ConnectionError(f"the bank is away for the {failures}th time")


def charge(ctx: Any) -> Any:
    card = ctx.input["card"]
    if ctx.attempt <= ctx.input.get("failures", 0):
        raise ConnectionError(f"a card of {len(card)} digits")
    return perform(ctx)


def define(durable: Durable) -> None:
    soon = RetryPolicy(2, backoff="fixed", initial=0.1, jitter=False)
    durable.workflow("reported").step(charge, retry=soon)
    durable.workflow("paying").step(pay, args=lambda _: (7,), retry=soon)
    durable.workflow("declined").step(perform, name="charge")


app = configure(Celery("reported"))
app.conf.update(json.loads(os.environ.get(CONFIG) or "{}"))
durable = Durable(app)
define(durable)

if DSN in os.environ:
    sentry_sdk.init(
        dsn=os.environ[DSN], integrations=[DurableIntegration()], traces_sample_rate=1.0
    )
