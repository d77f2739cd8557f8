"""`from_canvas`: names, inputs, options, what is refused; and `Workflow.s`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from celery import chain, chord, group, signature
from celery.canvas import Signature

from celery_durable import Durable, InvalidWorkflow
from celery_durable.core.nodes import ParallelNode, Routing, SleepNode, StepNode
from celery_durable.errors import ConfigurationError, DuplicateWorkflow
from tests.integration.driving import World, make_durable


def with_tasks(durable: Durable) -> Durable:
    """The tasks that canvases here are made of."""

    @durable.app.task(name="shop.add", shared=False)
    def add(x: int, y: int = 0) -> int:
        return x + y

    @durable.app.task(name="shop.tsum", shared=False)
    def tsum(numbers: list[int]) -> int:
        return sum(numbers)

    @durable.app.task(name="shop.fail", shared=False)
    def fail() -> None:
        raise ValueError("no")

    @durable.app.task(name="shop.told", shared=False)
    def told(run_id: str, word: str) -> None: ...

    return durable


@pytest.fixture
def durable() -> Durable:
    return with_tasks(make_durable("postgresql://nowhere"))


def sig(name: str, *args: Any, **kwargs: Any) -> Any:
    """A signature of the task of this name, which no app has looked up."""
    return Signature(f"shop.{name}", args, kwargs)


def fixed(name: str, *args: Any) -> Any:
    return Signature(f"shop.{name}", args, immutable=True)


def nested() -> Any:
    return chain(
        fixed("add", 1, 2),
        group(sig("add", 1), chain(sig("add", 2), sig("add", 3))),
        sig("tsum"),
        sig("add", 4),
    )


def test_steps_are_called_as_their_tasks_and_numbered_where_there_are_several(
    durable: Durable,
) -> None:
    order = durable.from_canvas("order", nested(), version=3)
    assert order.steps == ("add", "group", "tsum", "add-2")
    node = order.plan.find("group")
    assert isinstance(node, ParallelNode)
    assert [body.name for body in node.bodies] == ["add", "add-2"]
    assert sorted(durable.registry.names()) == ["order", "order.group.add-2"]
    child = durable.registry.find("order.group.add-2", 3)
    assert child is not None
    assert child.steps == ("add", "add-2")


def result_of(world: World, canvas: Any, input: object = None) -> Any:
    worker = world.worker(lambda durable: with_tasks(durable).from_canvas("order", canvas))
    run = worker.start("order", input)
    world.drain(worker)
    return run.result(timeout=0)


def test_a_result_is_handed_on_as_the_first_argument_unless_the_signature_is_immutable(
    world: World,
) -> None:
    assert result_of(world, nested()) == (3 + 1) + (3 + 2 + 3) + 4


@pytest.mark.parametrize(
    ("canvas", "input", "result"),
    [
        (sig("add", 1), 5, 6),
        (sig("add", 1), None, 1),
        (fixed("add", 1), 5, 1),
        (sig("add", y=2), 5, 7),
        (chain(sig("add", 1), sig("add", 1)), 5, 7),
        (group(sig("add", 1), chain(sig("add"), sig("add", 2)), fixed("add", 3)), 5, [6, 7, 3]),
        (group(sig("add", 1)), 5, [6]),
        (chord([sig("add", 1), sig("add", 2)], sig("tsum")), 5, 13),
        (group(group(sig("add", 1), sig("add", 2)), sig("add", 3)), 0, [1, 2, 3]),
        (chain(sig("add", 1), sig("add", 1)).set(immutable=True), 5, 2),
        (sig("add").clone((5,), {"y": 3}), None, 8),
    ],
    ids=repr,
)
def test_the_input_of_a_run_is_the_first_argument_of_what_is_first(
    world: World, canvas: Any, input: object, result: object
) -> None:
    assert result_of(world, canvas, input) == result


def test_what_is_mapped_is_one_unit_for_each_item(world: World, durable: Durable) -> None:
    add, tsum = durable.app.tasks["shop.add"], durable.app.tasks["shop.tsum"]
    assert result_of(world, tsum.map([[1, 2], [3]])) == [3, 3]
    assert result_of(world, add.starmap(zip(range(3), range(3), strict=True))) == [0, 2, 4]
    chunked = add.chunks([(n, n) for n in range(5)], 2)
    assert result_of(world, chunked) == [[0, 2], [4, 6], [8]]
    assert result_of(world, chain(tsum.map([[1, 2], [3]]), sig("tsum"), sig("add", 1))) == 7
    units = world.rows("SELECT DISTINCT unit FROM durable_journal WHERE unit LIKE 'tsum#%%'")
    assert sorted(row["unit"] for row in units) == ["tsum#0", "tsum#1"]


def test_a_canvas_that_was_sent_through_json_is_the_same(world: World) -> None:
    assert result_of(world, signature(dict(nested()))) == 16


def test_options_of_a_signature_are_those_of_its_step(durable: Durable) -> None:
    eta = datetime(2030, 1, 1, tzinfo=UTC)
    canvas = chain(
        fixed("add", 1).set(queue="mail", priority=4, countdown=90, time_limit=30),
        sig("add", 2).set(eta=eta, soft_time_limit=10, time_limit=30, serializer="json"),
    )
    order = durable.from_canvas("order", canvas)
    assert order.steps == ("wait", "add", "wait-2", "add-2")
    wait, add, until, again = order.plan.nodes
    assert isinstance(wait, SleepNode)
    assert wait.seconds == 90
    assert isinstance(add, StepNode)
    assert isinstance(again, StepNode)
    assert add.routing == Routing("mail", 4, 30.0)
    assert again.routing == Routing(None, None, 10.0)
    duration = order.functions(until.name).duration
    assert duration is not None
    assert duration(None) == eta


def test_a_call_that_waits_in_a_group_waits_alone(world: World) -> None:
    later = sig("add", 1).set(countdown=100)
    worker = world.worker(lambda d: with_tasks(d).from_canvas("order", group(later, sig("add", 2))))
    run = worker.start("order", 5)
    world.drain(worker)
    assert "group#add-2 completed" in world.units(run)
    world.let_time_pass(100)
    world.drain(worker)
    assert run.result(timeout=0) == [6, 7]


@pytest.mark.parametrize("place", ["task", "chain", "chord"])
def test_link_error_is_sent_with_the_id_of_a_run_that_fails(world: World, place: str) -> None:
    errback = sig("told", "failed")
    match place:
        case "task":
            canvas: Any = chain(fixed("fail"), fixed("add", 1))
            canvas.tasks[0].link_error(errback)
        case "chain":
            canvas = chain(fixed("fail"), fixed("add", 1)).on_error(errback)
        case _:
            canvas = chord([fixed("fail"), fixed("add", 1)], sig("tsum"))
            canvas.body.link_error(errback)
            canvas.tasks[0].link_error(errback.clone(immutable=True))
    worker = world.worker(lambda durable: with_tasks(durable).from_canvas("order", canvas))
    run = worker.start("order")
    world.drain(worker)
    assert world.status(run) == "failed"
    (message,) = world.sent()
    assert (message["task"], message["args"]) == ("shop.told", [str(run.id), "failed"])


def with_option(**options: Any) -> Any:
    return chain(fixed("add", 1).set(**options), sig("add", 1))


def two_errbacks() -> Any:
    canvas = with_option()
    canvas.tasks[0].link_error(sig("told", "a"))
    canvas.tasks[1].link_error(sig("told", "b"))
    return canvas


def test_each_call_has_arguments_of_its_own(world: World) -> None:
    def define(durable: Durable) -> None:
        @durable.app.task(name="shop.pop", shared=False)
        def pop(found: dict[str, int], *, more: list[int]) -> int:
            return found.pop("n") + more.pop()

        said, more = {"n": 1}, [2]
        durable.from_canvas("order", chain(sig("pop", said, more=more), sig("add", 0)))
        said["n"] = more[0] = 70

    def with_pop(durable: Durable) -> None:
        with_tasks(durable)
        define(durable)

    worker = world.worker(with_pop)
    runs = [worker.start("order") for _ in range(2)]
    world.drain(worker)
    assert [run.result(timeout=0) for run in runs] == [3, 3]


def test_chunks_in_a_chain_are_taken_apart_too(world: World) -> None:
    def define(durable: Durable) -> None:
        add = with_tasks(durable).app.tasks["shop.add"]

        @durable.app.task(name="shop.flat", shared=False)
        def flat(found: list[list[int]]) -> list[int]:
            return [one for chunk in found for one in chunk]

        durable.from_canvas("order", chain(add.chunks([(1, 1), (2, 2), (3, 3)], 2), flat.s()))

    worker = world.worker(define)
    run = worker.start("order")
    world.drain(worker)
    assert run.result(timeout=0) == [2, 4, 6]


def chunks_of(size: int) -> Any:
    task = sig("add").clone()
    return Signature("celery.chunks", (), {"task": task, "it": [(1, 1)], "n": size})


@pytest.mark.parametrize(
    ("canvas", "words"),
    [
        (lambda: chunks_of(0), "chunks of 0 items; say how many"),
        (lambda: Signature("celery.group"), "celery.group cannot be taken apart"),
        (lambda: "shop.add", "takes a canvas, such as chain"),
        (group, "a group of its canvas is empty"),
        (chain, "the canvas is empty"),
        (lambda: with_option(link=[sig("add", 1)]), "'link'.*make it the next task of a chain"),
        (lambda: with_option(expires=5), "'expires'.*say expires= of the start"),
        (lambda: with_option(retries=1), "'retries'.*make a step of it with retry="),
        (lambda: with_option(routing_key="a"), "'routing_key'.*say queue= in place of it"),
        (lambda: with_option(task_id="a"), "'task_id'.*make the canvas anew"),
        (lambda: with_option(stamp="a"), "'stamp'.*a step takes queue, priority"),
        (lambda: with_option(eta=datetime(2030, 1, 1)), "eta.*with a time zone"),  # noqa: DTZ001
        (lambda: with_option(queue=5), "queue= takes the name of a Celery queue"),
        (lambda: group(sig("add", 1), sig("add", 2)).set(queue="a"), "say it of each task in it"),
        (two_errbacks, "link_error names several tasks"),
        (lambda: sig("add").on_error(group(sig("told", "a"))), "link_error= takes the signature"),
    ],
)
def test_what_a_workflow_has_no_counterpart_of_is_refused_and_nothing_is_defined(
    durable: Durable, canvas: Callable[[], Any], words: str
) -> None:
    made = canvas()
    with pytest.raises(ConfigurationError, match=f"(?s){words}"):
        durable.from_canvas("order", made)
    assert durable.registry.names() == ()


def test_a_task_that_nobody_knows_is_refused_when_the_workflow_is_frozen(
    durable: Durable,
) -> None:
    order = durable.from_canvas("order", chain(fixed("add", 1), sig("ad", 1)))
    with pytest.raises(InvalidWorkflow, match=r"No task 'shop.ad' .* Did you mean 'shop.add'\?"):
        _ = order.plan


def test_the_same_canvas_may_be_imported_twice(durable: Durable) -> None:
    durable.from_canvas("order", nested())
    second = durable.from_canvas("order", nested())
    assert durable.registry.find("order") is second


@pytest.mark.parametrize(
    "other",
    [
        chain(fixed("add", 1, 2), sig("tsum")),
        chain(fixed("add", 1, 3), sig("add", 1)),
        chain(fixed("add", 1, 2), fixed("add", 1)),
        chain(fixed("add", 1, 2), Signature("other.add", (1,))),
    ],
    ids=repr,
)
def test_another_canvas_of_the_same_name_is_refused(durable: Durable, other: Signature) -> None:
    @durable.app.task(name="other.add", shared=False)
    def other_add(x: int, y: int) -> int:
        return x - y

    durable.from_canvas("order", chain(fixed("add", 1, 2), sig("add", 1)))
    durable.from_canvas("order", other)
    with pytest.raises(DuplicateWorkflow):
        durable.registry.find("order")


def test_a_canvas_may_be_used_again_afterwards(durable: Durable) -> None:
    canvas = nested()
    before = repr(canvas), dict(canvas)
    durable.from_canvas("order", canvas)
    assert (repr(canvas), dict(canvas)) == before


def test_a_signature_of_a_workflow_starts_a_run_of_its_version(world: World) -> None:
    def define(durable: Durable) -> None:
        for version in (1, 2):
            durable.workflow("order", version=version).step(lambda ctx: ctx.input, name="a")

    durable = world.worker(define)
    order = durable.registry.find("order", 1)
    assert order is not None
    started = order.s({"sku": "A1"}, key="k").apply(throw=True).get()
    again = order.s({"sku": "A1"}, key="k").apply(throw=True).get()
    assert started == again == str(order.run(key="k").id)
    world.drain(durable)
    assert order.run(key="k").result(timeout=0) == {"a": {"sku": "A1"}}
    assert world.one("SELECT version FROM durable_run") == 1
    nightly = order.s(schedule="nightly", overlap="skip")
    assert nightly.apply(throw=True).get() is not None
    assert nightly.apply(throw=True).get() is None


def test_in_a_chain_a_signature_of_a_workflow_takes_the_result_before_it_unless_it_has_an_input(
    world: World,
) -> None:
    durable = with_tasks(world.worker())
    order = durable.workflow("order").step(lambda ctx: ctx.input, name="a")
    for start, expected in ((order.s(), 3), (order.s(7), 7)):
        canvas: Any = chain(durable.app.tasks["shop.add"].si(1, 2), start)
        run_id = canvas.apply(throw=True).get()
        world.drain(durable)
        assert durable.run(run_id).result(timeout=0) == {"a": expected}


def test_a_signature_of_a_workflow_refuses_what_a_start_would(durable: Durable) -> None:
    order: Any = durable.workflow("order").step(str, name="a")
    for options in ({"key": ""}, {"overlap": "never"}, {"overlap": "skip"}):
        with pytest.raises(ConfigurationError):
            order.s(**options)
