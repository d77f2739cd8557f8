"""`make_context` makes what a handler would be given in a run."""

from datetime import timedelta
from typing import Any

import pytest
from celery import Celery

from celery_durable import (
    ConfigurationError,
    Context,
    Durable,
    ErrorRecord,
    NotSerializable,
    RunCancelled,
    Step,
    Workflow,
)
from celery_durable.testing import make_context


def note(ctx: Any) -> str:
    return f"{ctx.unit} of {ctx.workflow}"


def undo(ctx: Any) -> None: ...


def choose(ctx: Any) -> str:
    return "wire"


@pytest.fixture
def charge(durable: Durable) -> Step:
    return durable.step(note, name="charge", compensate=undo)


@pytest.fixture
def order(durable: Durable, charge: Step) -> Workflow:
    return (
        durable.workflow("order")
        .step(charge)
        .parallel("checks", {"fraud": lambda _: 1, "price": note})
        .map("lines", over=lambda _: [], handler=lambda ctx: ctx.item)
        .route("rail", choose, {"wire": lambda _: 1})
        .wait_for_signal("signoff", "founder-signoff")
    )


def test_a_step_is_called_with_a_real_context(charge: Step) -> None:
    ctx = make_context(charge, input={"sku": "A1"}, results={"reserve": (1, timedelta(1))})
    assert isinstance(ctx, Context)
    assert charge(ctx) == "charge of test"
    assert (ctx.input, ctx.step, ctx.attempt) == ({"sku": "A1"}, "charge", 1)
    assert ctx.results["reserve"] == (1, timedelta(1))
    assert (ctx.item, ctx.iteration, ctx.branch, ctx.result, ctx.error) == (None,) * 5
    assert not ctx.is_resumed
    assert not ctx.cancelled
    with pytest.raises(KeyError, match="'ship' has not completed in this run; completed: reserve"):
        ctx.results["ship"]


def test_each_attribute_can_be_chosen(charge: Step) -> None:
    session: Any = object()
    ctx = make_context(
        charge,
        item=7,
        iteration=2,
        attempt=3,
        snapshot={"asked": True},
        resume_data=None,
        signals={"signoff": {"ok": True}},
        idempotency_key="key",
        session=session,
        run_id="01900000-0000-7000-8000-000000000001",
    )
    assert (ctx.item, ctx.iteration, ctx.attempt, ctx.unit) == (7, 2, 3, "charge#2")
    assert (ctx.snapshot, ctx.is_resumed, ctx.resume_data) == ({"asked": True}, True, None)
    assert (ctx.signal("signoff"), ctx.signal("other")) == ({"ok": True}, None)
    assert (ctx.idempotency_key, ctx.session) == ("key", session)
    assert str(ctx.run_id).startswith("01900000")
    assert make_context(charge, branch="fraud").branch == "fraud"


def test_the_key_of_a_unit_is_that_of_its_run(charge: Step) -> None:
    first, again = (make_context(charge, run_id="0" * 31 + "1", attempt=n) for n in (1, 2))
    assert first.idempotency_key == again.idempotency_key
    assert first.idempotency_key != make_context(charge).idempotency_key


def test_a_compensator_sees_what_it_undoes_and_why() -> None:
    ctx = make_context(undo, result={"payment": 7}, error=ValueError("no money"), item=3)
    assert (ctx.result, ctx.item, ctx.unit) == ({"payment": 7}, 3, "undo#compensate")
    assert ctx.error is not None
    assert (ctx.error.type, ctx.error.message) == ("ValueError", "no money")
    record = ErrorRecord("RunTimeout", "late")
    assert make_context(undo, error=record).error == record


def test_what_a_handler_notes_is_kept(charge: Step) -> None:
    ctx = make_context(charge)
    ctx.progress(0.5, "half")
    ctx.heartbeat({"page": 3})
    ctx.heartbeat()
    assert ctx.progressed == ((0.5, "half"),)
    assert ctx.heartbeats == ({"page": 3}, None)
    with pytest.raises(NotSerializable):
        ctx.heartbeat({"page": object()})


def test_tasks_that_a_handler_sends_are_kept() -> None:
    app = Celery("shop", set_as_current=False)

    def confirm(ctx: Context) -> str:
        return ctx.send_task(app.signature("mail", args=["ada"]))

    ctx = make_context(confirm)
    first, second = confirm(ctx), confirm(ctx)
    assert first != second
    assert ctx.sent == (app.signature("mail", args=["ada"]),) * 2


def test_a_run_that_was_cancelled_says_so(charge: Step) -> None:
    ctx = make_context(charge, cancelled=True)
    assert ctx.cancelled
    with pytest.raises(RunCancelled):
        ctx.heartbeat()


def test_a_workflow_knows_where_a_function_stands(order: Workflow, charge: Step) -> None:
    assert note(make_context(charge, workflow=order)) == "charge of order"
    assert make_context("rail", workflow=order).step == "rail"
    assert make_context(choose, workflow=order).step == "rail"
    undoing = make_context(undo, workflow=order, result=1)
    assert (undoing.step, undoing.unit, undoing.result) == ("charge", "charge#compensate", 1)


def test_a_branch_is_found_by_its_function(durable: Durable) -> None:
    def price(ctx: Any) -> None: ...

    work = durable.workflow("w").parallel("checks", [lambda_free, price])
    ctx = make_context(price, workflow=work)
    assert (ctx.step, ctx.branch, ctx.unit) == ("checks", "price", "checks#price")


def lambda_free(ctx: Any) -> None: ...


def test_names_that_the_workflow_does_not_have_are_refused(order: Workflow, charge: Step) -> None:
    with pytest.raises(ConfigurationError, match=r"no node 'chrage'\. Did you mean 'charge'"):
        make_context(charge, workflow=order, results={"chrage": 1})
    with pytest.raises(ConfigurationError, match=r"no signal 'founder-singoff'\. Did you mean"):
        make_context(charge, workflow=order, signals={"founder-singoff": 1})
    assert make_context(charge, workflow=order, signals={"any": 1}).signal("any") == 1
    with pytest.raises(ConfigurationError, match=r"'order' has no step 'chargee'\. Did you mean"):
        make_context("chargee", workflow=order)
    with pytest.raises(TypeError, match="resum_data"):
        make_context(charge, resum_data=1)  # type: ignore[call-arg]


def test_what_is_no_workflow_no_mapping_and_no_branch_is_refused(
    durable: Durable, order: Workflow, charge: Step
) -> None:
    with pytest.raises(ConfigurationError, match="workflow= takes the workflow itself"):
        make_context(charge, workflow="order")  # type: ignore[arg-type]
    for name in ("results", "signals"):
        for odd in ([1], "x", {1: 2}):
            with pytest.raises(ConfigurationError, match=f"{name}= takes a mapping of names"):
                make_context(charge, **{name: odd})  # type: ignore[arg-type]
    both = durable.workflow("both").parallel("p", {"left": note, "right": undo})
    assert make_context("p", workflow=both, branch="left").branch == "left"
    with pytest.raises(ConfigurationError, match=r"has no branch 'lefd'\. Did you mean 'left'"):
        make_context("p", workflow=both, branch="lefd")
    with pytest.raises(ConfigurationError, match="'charge' of workflow 'order' has no branch"):
        make_context(charge, workflow=order, branch="left")


def test_what_could_not_be_stored_is_refused(charge: Step) -> None:
    with pytest.raises(NotSerializable, match="the input"):
        make_context(charge, input=object())
    with pytest.raises(ConfigurationError, match="attempt= takes a whole number"):
        make_context(charge, attempt=0)
    with pytest.raises(ConfigurationError, match="takes a step, a function or the name"):
        make_context(7)  # type: ignore[arg-type]
