"""Tests of a user's, with the test kit."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, assert_type

from celery_durable import Context, Durable, Run, Step, Workflow
from celery_durable.testing import Executed, Harness, RecordingContext, Report, make_context
from celery_durable.testing.messages import SentTask


def a_step_alone(charge: Step, order: Workflow) -> None:
    ctx = make_context(charge, workflow=order, input={"sku": "A1"}, results={"reserve": 1}, item=7)
    assert_type(ctx, RecordingContext)
    as_a_handler_takes_it: Context = ctx
    assert_type(ctx.progressed, Sequence[tuple[float, str]])
    make_context(charge, resum_data=1)  # type: ignore[call-arg]
    make_context(charge, attempt="2")  # type: ignore[arg-type]
    charge(as_a_handler_takes_it)


def a_whole_run(durable: Durable, order: Workflow) -> None:
    with Harness(durable, skip_backoffs=False) as harness:
        run = harness.run(order, {"sku": "A1"}, key="order-42", tags={"shop": "b"})
        assert_type(run, Run)
        assert_type(run.result(), Any)
        assert_type(harness.drain(), int)
        assert_type(harness.handle(run.id), Run)
        assert_type(harness.sent(), Sequence[SentTask])
        harness.advance(timedelta(days=1))
        harness.advance("1d")  # type: ignore[arg-type]
        harness.run(order, kye="order-42")  # type: ignore[call-arg]
        assert_type(harness.step_by_step("order"), Iterator[Executed])
    durable.reset()


def crashes(harness: Harness, order: Workflow) -> None:
    report = harness.crash_everywhere(order, {}, signals={"signoff": 1}, check=lambda run: run.id)
    assert_type(report, Report)
    assert_type(report.ok, bool)
    report.raise_if_found()
