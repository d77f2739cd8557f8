"""Trying a run again: another goes on with what it has completed; and failed compensations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from celery_durable import Durable
from celery_durable.errors import ConfigurationError, NotSerializable, RunNotFound, RunRefused
from celery_durable.run import Run
from tests.integration.driving import ONCE, World, all_at_once
from tests.integration.workflows import fail

ANYBODY = "00000000-0000-0000-0000-000000000000"


class Shop:
    """A workflow whose step `c` fails until it is mended; what was called."""

    def __init__(self, *, undo: str = "") -> None:
        self.is_mended = False
        self.log: list[str] = []
        self._undo = undo

    def define(self, durable: Durable) -> None:
        workflow = durable.workflow("w")
        for name in "abcd":
            step = durable.step(self._handler(name), name=name, retry=ONCE)
            if name in self._undo:
                step.compensate(lambda ctx: self.log.append(f"undo {ctx.step} {ctx.result}"))
            workflow.step(step)

    def _handler(self, name: str) -> Callable[[Any], Any]:
        def handler(ctx: Any) -> Any:
            self.log.append(name)
            if name == "c" and not self.is_mended:
                raise ValueError("broken")
            return [name, ctx.input, *(ctx.results[n] for n in ctx.results)][:2]

        return handler


def failed(world: World, shop: Shop, **options: Any) -> tuple[Durable, Run]:
    """A run that has failed at `c`."""
    worker = world.worker(shop.define)
    run = worker.start("w", "in", **options)
    world.drain(worker)
    assert world.status(run) == "failed"
    shop.is_mended = True
    shop.log.clear()
    return worker, run


def test_a_new_run_begins_where_the_old_one_failed(world: World) -> None:
    shop = Shop()
    worker, old = failed(world, shop, key="order-1", tags={"customer": "7"}, priority=3)
    new = old.retry()
    world.drain(worker)

    assert new.created
    assert new.id != old.id
    assert (shop.log, world.status(new)) == (["c", "d"], "completed")
    assert new.result(timeout=5) == {n: [n, "in"] for n in "abcd"}
    found = new.status()
    assert (found.forked_from, found.tags, found.completed_steps) == (old.id, {"customer": "7"}, 4)
    assert worker.run(workflow="w", key="order-1") == new
    assert world.units(old) == ["a completed", "b completed", "c failed"], "the old one stays"


def test_payloads_that_are_inherited_are_read_where_they_are(world: World) -> None:
    _, old = failed(world, Shop())
    new = old.retry()
    query = "SELECT unit FROM durable_journal WHERE run_id = %s AND result IS NOT NULL"
    assert world.rows(query, new.id) == []
    assert [(entry.unit, entry.result) for entry in new.history()] == [
        ("a", ["a", "in"]),
        ("b", ["b", "in"]),
    ]


def test_what_was_compensated_is_executed_again(world: World) -> None:
    shop = Shop(undo="b")
    worker, old = failed(world, shop)
    new = old.retry()
    world.drain(worker)
    assert (shop.log, world.status(new)) == (["b", "c", "d"], "completed")


def test_a_run_begins_at_an_earlier_step_if_it_is_told_to(world: World) -> None:
    shop = Shop()
    worker, old = failed(world, shop)
    new = old.retry(from_step="b")
    world.drain(worker)
    assert (shop.log, world.units(new)[0]) == (["b", "c", "d"], "a completed")


def test_another_input_is_checked_and_used(world: World) -> None:
    shop = Shop()
    worker, old = failed(world, shop)
    with pytest.raises(NotSerializable):
        old.retry(input=object())
    new = old.retry(input="other")
    world.drain(worker)
    assert new.result(timeout=5)["a"] == ["a", "in"]
    assert new.result(timeout=5)["c"] == ["c", "other"]
    assert old.status().status == "failed"


def test_what_is_inherited_is_undone_when_the_new_run_fails(world: World) -> None:
    """P8: a cancelled run leaves its work as it is; the run that goes on with it answers for it."""
    shop = Shop(undo="ab")
    worker = world.worker(shop.define)
    old = worker.start("w", "in")
    worker.pause(step="c")
    world.drain(worker)
    old.cancel()
    worker.unpause(step="c")
    shop.log.clear()

    new = old.retry()
    world.drain(worker)
    assert world.status(new) == "failed"
    assert shop.log == ["c", "undo b ['b', 'in']", "undo a ['a', 'in']"]


def test_a_retry_of_a_retry_inherits_from_the_first(world: World) -> None:
    shop = Shop()
    worker, first = failed(world, shop)
    shop.is_mended = False
    second = first.retry()
    world.drain(worker)
    assert world.status(second) == "failed"
    shop.is_mended = True
    third = second.retry()
    world.drain(worker)
    assert third.result(timeout=5) == {n: [n, "in"] for n in "abcd"}


def test_nodes_of_every_kind_are_inherited(world: World) -> None:
    is_mended = False

    def define(durable: Durable) -> None:
        step = durable.step(lambda ctx: ctx.item or ctx.branch, name="step")

        def last(ctx: Any) -> Any:
            if not is_mended:
                raise ValueError
            return dict(ctx.results)

        durable.workflow("child").step(lambda _: "of the child", name="only")
        (
            durable.workflow("w")
            .parallel("p", {"x": step, "y": step})
            .map("m", over=lambda _: [1, 2], handler=step)
            .route("r", lambda _: "x", {"x": step})
            .loop("l", durable.step(lambda ctx: ctx.iteration, name="it"), max_iterations=2)
            .child_workflow("c", "child")
            .step(last, name="last", retry=ONCE)
        )

    worker = world.worker(define)
    old = worker.start("w")
    world.drain(worker)
    assert world.status(old) == "failed"
    is_mended = True
    new = old.retry()
    world.drain(worker)
    expected = {
        "p": {"x": "x", "y": "y"},
        "m": [1, 2],
        "r": "x",
        "l": 1,
        "c": {"only": "of the child"},
    }
    assert new.result(timeout=5) == {**expected, "last": expected}


@pytest.mark.parametrize("kind", ["map", "loop", "route", "parallel", "signal"])
def test_a_run_begins_again_at_a_node_of_every_kind(world: World, kind: str) -> None:
    is_mended = False

    def define(durable: Durable) -> None:
        def handler(ctx: Any) -> Any:
            if not is_mended:
                raise ValueError
            return ctx.item

        step = durable.step(handler, name="h", retry=ONCE)
        workflow = durable.workflow("w").step(lambda _: None, name="first")
        match kind:
            case "map":
                workflow.map("n", over=lambda _: [1, 2], handler=step)
            case "loop":
                workflow.loop("n", step, max_iterations=2)
            case "route":
                workflow.route("n", lambda _: "x", {"x": step})
            case "parallel":
                workflow.parallel("n", {"x": step})
            case _:
                workflow.wait_for_signal("n").step(step)

    worker = world.worker(define)
    old = worker.start("w")
    world.drain(worker)
    if kind == "signal":
        old.resume("n", 1)
        world.drain(worker)
    assert world.status(old) == "failed"
    is_mended = True
    new = old.retry(from_step="n")
    if kind == "signal":
        new.resume("n", 1)
    world.drain(worker)
    assert world.status(new) == "completed"


def test_a_result_that_could_not_be_made_is_made_again(world: World) -> None:
    is_mended = False

    def define(durable: Durable) -> None:
        def made(ctx: Any) -> Any:
            return ctx.results["a"] if is_mended else object()

        durable.workflow("w").step(lambda _: 7, name="a").returns(made)

    worker = world.worker(define)
    old = worker.start("w")
    world.drain(worker)
    assert world.status(old) == "failed"
    is_mended = True
    new = old.retry()
    world.drain(worker)
    assert new.result(timeout=5) == 7


def test_idempotency_keys_are_new(world: World) -> None:
    keys: list[str] = []

    def define(durable: Durable) -> None:
        def handler(ctx: Any) -> None:
            keys.append(ctx.idempotency_key)
            raise ValueError

        durable.workflow("w").step(handler, name="a", retry=ONCE)

    worker = world.worker(define)
    old = worker.start("w")
    world.drain(worker)
    old.retry()
    world.drain(worker)
    assert len(set(keys)) == 2


# What is refused.


def test_a_run_that_goes_on_is_not_tried_again(world: World) -> None:
    worker = world.worker(Shop().define)
    run = worker.start("w")
    with pytest.raises(RunRefused, match="has not ended: it is running"):
        run.retry()
    with pytest.raises(RunNotFound):
        worker.retry(ANYBODY)


def test_a_completed_run_is_tried_again_only_from_a_named_step(world: World) -> None:
    shop = Shop()
    shop.is_mended = True
    worker = world.worker(shop.define)
    run = worker.start("w")
    world.drain(worker)
    with pytest.raises(RunRefused, match="have completed; name the one to begin with"):
        run.retry()
    new = run.retry(from_step="d")
    world.drain(worker)
    assert world.status(new) == "completed"


def test_a_step_after_one_that_has_not_completed_is_refused(world: World) -> None:
    _, run = failed(world, Shop(undo="a"))
    with pytest.raises(RunRefused, match="cannot go on from c: a has not completed, or has been"):
        run.retry(from_step="c")
    with pytest.raises(ConfigurationError, match="No step of the run is called 'cc'"):
        run.retry(from_step="cc")
    assert world.one("SELECT count(*) FROM durable_run") == 1


def test_of_two_operators_at_once_one_starts_the_run(world: World) -> None:
    worker, run = failed(world, Shop(), key="order-1")

    def retry() -> str:
        try:
            return str(run.retry().id)
        except RunRefused as error:
            return str(error)

    answers = all_at_once([retry, retry])
    refused = [answer for answer in answers if "was tried again as run" in answer]
    assert len(refused) == 1
    assert world.one("SELECT count(*) FROM durable_run") == 2
    world.drain(worker)
    assert worker.run(workflow="w", key="order-1").status().status == "completed"


def test_a_run_is_tried_again_once_and_then_its_retry_is(world: World) -> None:
    """P3, P8: the retry may have undone what it has inherited, and may be deleted before it."""
    shop = Shop()
    worker, run = failed(world, shop)
    shop.is_mended = False
    second = run.retry()
    world.drain(worker)
    assert world.status(second) == "failed"
    assert run.status().retried_as == second.id
    (ended,) = run.why().reasons
    assert ended.text.endswith(f"it was tried again as run {second.id}")

    world.rows("DELETE FROM durable_journal WHERE run_id = %s", second.id)
    world.rows("DELETE FROM durable_run WHERE id = %s", second.id)
    with pytest.raises(RunRefused, match=f"was tried again as run {second.id}; retry that one"):
        run.retry()


def test_a_child_is_not_tried_again_without_its_parent(world: World) -> None:
    """P8: the parent undoes the child, and would not know of another."""

    def define(durable: Durable) -> None:
        durable.workflow("child").step(fail, name="a", retry=ONCE)
        durable.workflow("w").child_workflow("c", "child")

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    (child,) = run.status().children
    with pytest.raises(RunRefused, match=f"is a child of run {run.id}"):
        worker.retry(child.run_id)


def test_what_a_retry_has_inherited_is_compensated_by_nobody_else(world: World) -> None:
    """P8: not twice, by the run that has failed to undo it and by the one that goes on with it."""
    refunds = Refunds()
    worker = world.worker(refunds.define)
    run = worker.start("w")
    world.drain(worker)
    run.retry(from_step="a")
    refunds.is_mended = True
    with pytest.raises(RunRefused, match="which answers for what it has left"):
        run.retry_compensation()


# Compensations.


class Refunds:
    """A run of three steps that fails, and whose second compensation fails until it is mended."""

    def __init__(self) -> None:
        self.is_mended = False
        self.undone: list[str] = []

    def define(self, durable: Durable) -> None:
        workflow = durable.workflow("w")
        for name in "abc":
            step = durable.step(lambda _: None, name=name)
            step.compensate(self._undo, retry=ONCE)
            workflow.step(step)
        workflow.step(self._fails, name="d", retry=ONCE)

    def _undo(self, ctx: Any) -> None:
        self.undone.append(ctx.step)
        if ctx.step == "b" and not self.is_mended:
            raise ValueError("bank closed")

    def _fails(self, _: Any) -> None:
        raise ValueError("d")


def test_failed_compensations_are_tried_again_and_no_others(world: World) -> None:
    refunds = Refunds()
    worker = world.worker(refunds.define)
    run = worker.start("w")
    world.drain(worker)
    assert [*run.status().compensation_errors] == ["b#compensate"]
    refunds.is_mended = True
    refunds.undone.clear()

    run.retry_compensation()
    assert world.status(run) == "compensating"
    world.drain(worker)
    found = run.status()
    assert (refunds.undone, found.status) == (["b"], "failed")
    assert found.compensation_errors == {}
    assert found.error is not None
    assert found.error.message == "d"
    kept = [unit for unit in world.units(run) if unit.startswith("b#compensate")]
    assert len(kept) == 2, "the failure is still in the journal"


def test_a_compensation_that_fails_again_is_tried_once_more(world: World) -> None:
    refunds = Refunds()
    worker = world.worker(refunds.define)
    run = worker.start("w")
    world.drain(worker)
    for _ in range(2):
        run.retry_compensation()
        world.drain(worker)
        assert [*run.status().compensation_errors] == ["b#compensate"]
    refunds.is_mended = True
    run.retry_compensation()
    world.drain(worker)
    assert run.status().compensation_errors == {}


def test_what_has_no_failed_compensation_is_refused(world: World) -> None:
    worker, run = failed(world, Shop())
    with pytest.raises(RunRefused, match=r"No compensation of run .* has failed"):
        run.retry_compensation()
    going = worker.start("w")
    with pytest.raises(RunRefused, match="has not ended: it is running"):
        going.retry_compensation()
    with pytest.raises(RunNotFound):
        worker.retry_compensation(ANYBODY)


def test_of_two_operators_one_reopens_the_run(world: World) -> None:
    refunds = Refunds()
    worker = world.worker(refunds.define)
    run = worker.start("w")
    world.drain(worker)
    refunds.is_mended = True
    refunds.undone.clear()

    def again() -> bool:
        try:
            run.retry_compensation()
        except RunRefused:
            return False
        return True

    assert sorted(all_at_once([again, again])) == [False, True]
    world.drain(worker)
    assert refunds.undone == ["b"]


def test_what_could_not_be_undone_is_not_done_again_unasked(world: World) -> None:
    """What could not be undone stands: `b` was paid for, and is not paid for twice."""
    refunds = Refunds()
    worker = world.worker(refunds.define)
    run = worker.start("w")
    world.drain(worker)
    with pytest.raises(
        RunRefused, match=r"The compensation of b of run .* has failed, so what it did"
    ):
        run.retry()
    with pytest.raises(RunRefused, match="a has not completed, or has been compensated"):
        run.retry(from_step="c")
    refunds.is_mended = True
    run.retry_compensation()
    world.drain(worker)
    new = run.retry()
    world.drain(worker)
    assert world.units(new)[:3] == ["a completed", "b completed", "c completed"]


class Family:
    """A parent that fails after its child, whose only step is undone with it, if it can be."""

    def __init__(self) -> None:
        self.is_mended = False
        self.undone = 0

    def define(self, durable: Durable) -> None:
        step = durable.step(lambda _: None, name="k")
        step.compensate(self._undo, retry=ONCE)
        child = durable.workflow("child").step(step)
        parent = durable.workflow("w").child_workflow("kid", child, compensate="cascade")
        parent.step(self._fails, name="z", retry=ONCE)

    def _undo(self, _: Any) -> None:
        if not self.is_mended:
            raise ValueError("bank closed")
        self.undone += 1

    def _fails(self, _: Any) -> None:
        raise ValueError("z")


@pytest.mark.parametrize("first", ["parent", "child"])
def test_a_child_that_could_not_be_undone_is_undone_when_that_is_tried_again(
    world: World, first: str
) -> None:
    family = Family()
    worker = world.worker(family.define)
    run = worker.start("w")
    world.drain(worker)
    (found,) = run.status().children
    child = worker.run(found.run_id)
    assert [*run.status().compensation_errors] == ["kid#compensate"]
    family.is_mended = True
    if first == "child":
        child.retry_compensation()
        world.drain(worker)
        assert (family.undone, world.status(child)) == (1, "failed")
    run.retry_compensation()
    world.drain(worker)
    assert (family.undone, world.status(run), run.status().compensation_errors) == (1, "failed", {})
    assert child.status().compensation_errors == {}


def test_a_retry_has_the_timeout_that_its_run_was_started_with(world: World) -> None:
    worker, run = failed(world, Shop(), timeout=3600)
    found = worker.status(run.retry().id)
    assert found.times_out_at is not None
    assert found.started_at is not None
    assert 3590 < (found.times_out_at - found.started_at).total_seconds() < 3610


def test_a_child_that_may_be_undone_in_part_is_not_inherited(world: World) -> None:
    family = Family()
    worker = world.worker(family.define)
    run = worker.start("w")
    world.drain(worker)
    with pytest.raises(RunRefused, match="kid has not completed, or has been compensated"):
        run.retry(from_step="z")


def test_a_branch_that_is_called_like_a_compensation_is_inherited(world: World) -> None:
    is_mended = False

    def define(durable: Durable) -> None:
        branch = durable.step(lambda ctx: ctx.branch, name="branch")

        def last(_: Any) -> None:
            if not is_mended:
                raise ValueError

        names = ("compensate", "compensate-card", "other")
        workflow = durable.workflow("w").parallel("p", dict.fromkeys(names, branch))
        workflow.step(last, name="last", retry=ONCE)

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    is_mended = True
    new = run.retry()
    world.drain(worker)
    expected = {name: name for name in ("compensate", "compensate-card", "other")}
    assert new.status().results["p"] == expected


def test_a_failed_branch_that_is_called_compensate_is_no_failed_compensation(world: World) -> None:
    def define(durable: Durable) -> None:
        branch = durable.step(fail, name="branch", retry=ONCE)
        durable.workflow("w").parallel("p", {"compensate": branch})

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    with pytest.raises(RunRefused, match="No compensation"):
        run.retry_compensation()
    assert run.retry().created


def test_the_result_is_no_step_to_begin_with(world: World) -> None:
    _, run = failed(world, Shop())
    with pytest.raises(ConfigurationError, match="No step of the run is called '#returns'"):
        run.retry(from_step="#returns")


def test_a_signal_that_is_inherited_is_the_context_s(world: World) -> None:
    """P12: however often the run is tried again."""
    seen: list[Any] = []

    def charge(ctx: Any) -> None:
        seen.append((ctx.signal("approval"), ctx.signal("another")))
        if len(seen) < 3:
            raise ValueError

    def define(durable: Durable) -> None:
        workflow = durable.workflow("w")
        workflow.wait_for_signal("approved", signal="approval")
        workflow.step(durable.step(charge, retry=ONCE))

    worker = world.worker(define)
    run = worker.start("w")
    run.resume("approval", {"by": "Ann"})
    world.drain(worker)
    for _ in range(2):
        run = run.retry()
        world.drain(worker)
    assert world.status(run) == "completed"
    assert seen == [({"by": "Ann"}, None)] * 3
    assert world.rows("SELECT * FROM durable_inbox") == []
