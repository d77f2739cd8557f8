"""Being told what becomes of runs: signals, hooks, log records."""

import logging
from typing import Any, assert_type
from uuid import UUID

from celery import Celery

from celery_durable import Durable, ErrorRecord, RunFilter
from celery_durable.signals import Signal, run_failed, run_started, unit_retried

app = Celery("shop")
durable = Durable(app)

notify = app.signature("notify", args=("ops",))
order = durable.workflow("order", on_completed=notify, on_failed=notify)


@run_failed.connect(sender="order")
def page_someone(run_id: UUID, error: ErrorRecord, **_: Any) -> None: ...


@unit_retried.connect
def count(unit: str, delay: float, **_: Any) -> None: ...


run_started.connect(count, weak=False)
assert_type(run_started, Signal)
assert_type(run_started.disconnect(count), bool)
run_started.connect("count")  # type: ignore[call-overload]
run_started.connect(sender=order)  # type: ignore[call-overload]

handler = logging.StreamHandler()
handler.addFilter(RunFilter())
page_someone(UUID(int=1), ErrorRecord("ValueError", "no"))
