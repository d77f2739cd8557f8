"""`ctx.send_task`: a task is in the outbox if, and only if, the unit commits that has sent it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from celery_durable import Durable, RetryPolicy, Suspend
from celery_durable.errors import ConfigurationError, PayloadError
from celery_durable.run import Run
from tests.integration.driving import ONCE, Define, Gate, World, error_of, noting
from tests.integration.sending import with_tasks
from tests.integration.watching import lose_the_answer
from tests.integration.workflows import fail

Handler = Callable[[Any], Any]

AT_ONCE = RetryPolicy(2, initial=0.001, jitter=False)


def told(app: Any, *args: Any, **options: Any) -> Any:
    """A signature of the task `tell`."""
    return app.signature("tell", args=args, options=options)


def telling(*words: str, then: Handler | None = None) -> Callable[[Durable], Handler]:
    """A handler that sends `tell` with each of the words, and then does what `then` does."""

    def of(durable: Durable) -> Handler:
        def handler(ctx: Any) -> Any:
            ids = [ctx.send_task(told(durable.app, word)) for word in words]
            return ids if then is None else then(ctx)

        return handler

    return of


def workflow_of(make: Callable[[Durable], Handler], **options: Any) -> Define:
    """A workflow whose step `a` is this handler, and a step `b` after it."""

    def define(durable: Durable) -> None:
        step = durable.step(make(durable), name="a", **{"retry": ONCE, **options})
        durable.workflow("w").step(step).step(noting([], "b"))

    return define


def words(world: World) -> list[str]:
    return [sent["args"][0] for sent in world.sent()]


def ended(world: World, define: Define, input: object = None) -> Run:
    worker = world.worker(define)
    run = worker.start("w", input)
    world.drain(worker)
    return run


@pytest.mark.parametrize("transactional", [False, True])
def test_a_unit_sends_its_tasks_in_order_when_it_commits(world: World, transactional: bool) -> None:
    """P1"""
    run = ended(world, workflow_of(telling("x", "y", "z"), transactional=transactional))
    assert world.status(run) == "completed"
    assert words(world) == ["x", "y", "z"]
    sent = world.sent()
    assert run.status().results["a"] == [one["options"]["task_id"] for one in sent]
    assert {one["run_id"] for one in sent} == {run.id}


@pytest.mark.parametrize("transactional", [False, True])
def test_a_unit_that_fails_sends_nothing(world: World, transactional: bool) -> None:
    """P1"""
    run = ended(world, workflow_of(telling("x", then=fail), transactional=transactional))
    assert world.status(run) == "failed"
    assert words(world) == []


@pytest.mark.parametrize("transactional", [False, True])
def test_of_a_unit_that_is_tried_again_only_the_last_attempt_sends(
    world: World, transactional: bool
) -> None:
    """P1"""

    def make(durable: Durable) -> Handler:
        def handler(ctx: Any) -> None:
            ctx.send_task(told(durable.app, f"attempt {ctx.attempt}"))
            if ctx.attempt == 1:
                raise ValueError("not yet")

        return handler

    worker = world.worker(workflow_of(make, transactional=transactional, retry=AT_ONCE))
    run = worker.start("w", {})
    world.drain(worker)
    world.let_time_pass(60)
    world.drain(worker)
    assert world.status(run) == "completed"
    assert words(world) == ["attempt 2"]


def test_an_async_handler_sends_too(world: World) -> None:
    def make(durable: Durable) -> Handler:
        async def handler(ctx: Any) -> None:
            ctx.send_task(told(durable.app, "x"))

        return handler

    ended(world, workflow_of(make))
    assert words(world) == ["x"]


def test_what_was_sent_before_a_suspension_goes_and_the_rest_when_it_is_resumed(
    world: World,
) -> None:
    """A request for an approval is sent by the step that waits for the answer."""

    def make(durable: Durable) -> Handler:
        def handler(ctx: Any) -> Any:
            ctx.send_task(told(durable.app, "answered" if ctx.is_resumed else "please answer"))
            return None if ctx.is_resumed else Suspend()

        return handler

    worker = world.worker(workflow_of(make))
    run = worker.start("w", {})
    world.drain(worker)
    assert words(world) == ["please answer"]
    run.resume("a", True)
    world.drain(worker)
    assert words(world) == ["please answer", "answered"]


@pytest.mark.parametrize("transactional", [False, True])
def test_a_unit_whose_run_is_cancelled_meanwhile_sends_nothing(
    world: World, transactional: bool
) -> None:
    """P1: its result is dropped, and so is what it has sent."""
    gate = Gate()
    make = telling("x", then=lambda _: gate())
    worker = world.worker(workflow_of(make, transactional=transactional))
    run = worker.start("w", {})
    (hint,) = world.publish()
    held = gate.hold(worker.engine.advance, hint)
    world.worker().cancel(run.id)
    gate.finish(held)
    world.drain(worker)
    assert world.status(run) == "cancelled"
    assert words(world) == []


def test_a_unit_that_was_taken_over_sends_once(world: World) -> None:
    """P4: the result of the worker that was declared dead is dropped with its tasks."""
    gate = Gate()
    attempts: list[int] = []

    def make(durable: Durable) -> Handler:
        def handler(ctx: Any) -> None:
            attempts.append(len(attempts))
            ctx.send_task(told(durable.app, f"worker {len(attempts)}"))
            if len(attempts) == 1:
                gate()

        return handler

    run = world.take_over(workflow_of(make), gate)
    assert world.status(run) == "completed"
    assert words(world) == ["worker 2"]


def test_compensators_send_too(world: World) -> None:
    def define(durable: Durable) -> None:
        undo = telling("undone")(durable)
        step = durable.step(telling("done")(durable), name="a", compensate=undo)
        durable.workflow("w").step(step).step(fail, name="b", retry=ONCE)

    run = ended(world, define)
    assert world.units(run)[-1] == "a#compensate completed"
    assert words(world) == ["done", "undone"]


def test_branches_items_and_iterations_send_too(world: World) -> None:
    def define(durable: Durable) -> None:
        (
            durable.workflow("w")
            .parallel("p", {"left": telling("left")(durable), "right": telling("right")(durable)})
            .map("m", over=lambda _: [1, 2], handler=telling("item")(durable))
            .loop("l", telling("turn")(durable), max_iterations=2)
        )

    run = ended(world, define)
    assert world.status(run) == "completed"
    assert words(world) == ["left", "right", "item", "item", "turn", "turn"]


def test_the_tokens_of_a_bundle_send_their_tasks_each(world: World) -> None:
    """A unit that sends is committed by itself; others of its bundle are committed together."""

    def make(durable: Durable) -> Handler:
        def handler(ctx: Any) -> None:
            if ctx.input % 2:
                ctx.send_task(told(durable.app, f"run {ctx.input}"))

        return handler

    worker = world.worker(workflow_of(make))
    runs = worker.start_many("w", list(range(6)))
    worker.engine.advance_together(world.publish())
    world.drain(worker)  # a slow machine gives some of them back
    assert {world.status(run) for run in runs} == {"completed"}
    assert sorted(words(world)) == ["run 1", "run 3", "run 5"]


def test_the_hook_of_a_run_is_sent_after_what_its_last_unit_has_sent(world: World) -> None:
    def define(durable: Durable) -> None:
        done = told(durable.app, "done").set(immutable=True)
        durable.workflow("w", on_completed=done).step(telling("x")(durable), name="a")

    ended(world, define)
    assert words(world) == ["x", "done"]


def test_a_unit_records_and_sends_or_does_neither(world: World) -> None:
    """P1"""
    worker = world.worker(workflow_of(telling("x")))
    run = worker.start("w", {})
    (hint,) = world.publish()
    world.trigger(
        "BEFORE INSERT ON durable_outbox", "RAISE EXCEPTION 'not yet';", "NEW.token_id IS NULL"
    )
    with pytest.raises(psycopg.Error, match="not yet"):
        worker.engine.advance(hint)
    assert world.units(run) == []
    assert words(world) == []

    world.drop_trigger("durable_outbox")
    world.drain(worker)
    assert world.units(run) == ["a completed", "b completed"]
    assert words(world) == ["x"]


def test_a_commit_whose_answer_was_lost_sends_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P1"""
    worker = world.worker(workflow_of(telling("x")))
    run = worker.start("w", {})
    lost = lose_the_answer(
        monkeypatch, lambda executed: "INSERT INTO" in executed.text and "sent" in executed.text
    )
    world.drain(worker)
    assert lost
    assert world.status(run) == "completed"
    assert words(world) == ["x"]


def test_a_relay_is_woken_for_what_a_unit_has_sent_though_its_worker_goes_straight_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = world.worker(workflow_of(telling("x")))
    woken: list[float] = []
    monkeypatch.setattr(worker.engine._claims, "notify_of", woken.append)
    worker.start("w", {})
    world.drain(worker)
    assert woken == [0.0]


def test_a_function_that_commits_nothing_must_not_send(world: World) -> None:
    """P12: of a map, a route, a loop; and of `.returns`, which only names the result."""

    def define(durable: Durable) -> None:
        tell = telling("x")(durable)
        durable.workflow("over").map("m", over=tell, handler=noting([], "a"))
        durable.workflow("selector").route("r", tell, {"a": noting([], "a")})
        durable.workflow("duration").sleep("s", tell)
        durable.workflow("map_input").loop("l", noting([], "a"), max_iterations=1, map_input=tell)
        durable.workflow("returns").step(noting([], "a")).returns(tell)

    worker = world.worker(define)
    for name in ("over", "selector", "duration", "map_input", "returns"):
        run = worker.start(name, {})
        world.drain(worker)
        assert "ctx.send_task is for the handlers of steps" in error_of(run).message
    assert words(world) == []


@pytest.mark.parametrize(
    ("signature", "error"),
    [
        (lambda _: "tell", ConfigurationError),
        (lambda app: told(app, object()), PayloadError),
        (lambda app: told(app, "x" * 2_000_000), PayloadError),
    ],
)
def test_what_cannot_be_sent_is_refused_in_the_handler(
    world: World, signature: Any, error: type[Exception]
) -> None:
    """P12: the step may do something else instead."""

    def make(durable: Durable) -> Handler:
        def handler(ctx: Any) -> None:
            with pytest.raises(error):
                ctx.send_task(signature(durable.app))
            ctx.send_task(told(durable.app, "instead"))

        return handler

    run = ended(world, workflow_of(make))
    assert world.status(run) == "completed"
    assert words(world) == ["instead"]


def test_a_task_knows_its_run_and_its_unit(world: World) -> None:
    """Flower and logs show it below the run."""
    keys: list[str] = []

    def then(ctx: Any) -> None:
        keys.append(ctx.idempotency_key)

    run = ended(world, workflow_of(telling("x", then=then)))
    (sent,) = world.sent()
    headers = sent["options"]["message"]["headers"]
    assert (headers["root_id"], headers["parent_id"]) == (str(run.id), keys[0])


@pytest.mark.parametrize("fails", [False, True])
def test_delay_joins_the_session_of_a_transactional_step_where_that_is_bound(
    world: World, fails: bool
) -> None:
    """P6"""

    def make(durable: Durable) -> Handler:
        tell = with_tasks(durable)

        def handler(ctx: Any) -> None:
            with durable.joining(ctx.session):
                tell.delay("x")
            if fails:
                raise ValueError("no")

        return handler

    run = ended(world, workflow_of(make, transactional=True))
    assert world.status(run) == ("failed" if fails else "completed")
    assert words(world) == ([] if fails else ["x"])
