"""What is measured is what has happened, whoever did it: counters and gauges on a real Postgres."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from celery_durable import Durable, RetryPolicy, Workflow, errors
from celery_durable.background.counting import write_counts
from celery_durable.background.recovery import recover
from celery_durable.background.relay import Published
from celery_durable.core.status import FINISHED, Status
from celery_durable.store.due import DueMessage
from celery_durable.store.read import gauges
from celery_durable.view import metrics as view
from celery_durable.view.metrics import exposition, read, text_of
from tests.faults.proxy import Moment, Proxy
from tests.integration.driving import (
    LONG,
    ONCE,
    Gate,
    World,
    defining,
    end,
    make_durable,
    noting,
    spawn,
    worker_id,
)
from tests.integration.relaying import Recorder, Relays
from tests.integration.test_look_for_lost import let_time_pass, look, registered
from tests.integration.watching import Meter
from tests.integration.workflows import asking, fail, waiting
from tests.waiting import wait_until

Measured = Mapping[str, Mapping[tuple[str, ...], float]]


def measured(durable: Durable) -> Measured:
    """All values now, by the values of their labels; nothing is kept from an earlier look."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text_of(read(durable))):
        for sample in family.samples:
            found.setdefault(sample.name, {})[*sample.labels.values(),] = sample.value
    return found


def written(durable: Durable) -> Measured:
    """The same, once this process has written what it has counted."""
    write_counts(durable.database)
    return measured(durable)


def in_all(found: Measured, name: str) -> dict[tuple[str, ...], float]:
    """The series of a metric that are not 0."""
    return {labels: value for labels, value in found.get(name, {}).items() if value}


FIRST: Mapping[str, Callable[[Durable, Workflow], object]] = {
    "step": lambda _, w: w.step(noting([], "a")),
    "parallel": lambda _, w: w.parallel("p", {"a": noting([], "a"), "b": noting([], "b")}),
    "map": lambda _, w: w.map("m", over=lambda _: [1, 2], handler=noting([], "i")),
    "an empty map": lambda _, w: w.map("m", over=lambda _: [], handler=noting([], "i")),
    "sleep": lambda _, w: w.sleep("s", 0.001),
    "wait": lambda _, w: w.wait_for_signal("s"),
    "child": lambda d, w: w.child_workflow("c", d.workflow("kid").step(noting([], "a"))),
}


def test_a_run_and_its_units_are_counted(world: World) -> None:
    worker = world.worker(defining([], "a", "b"))
    worker.start_many("w", [{}] * 3)
    world.drain(worker)
    found = written(worker)
    assert in_all(found, "durable_runs_started_total") == {("w",): 3}
    assert in_all(found, "durable_runs_ended_total") == {("w", "completed"): 3}
    assert in_all(found, "durable_unit_seconds_count") == {
        ("w", "a", "completed"): 3,
        ("w", "b", "completed"): 3,
    }
    assert found["durable_unit_seconds_sum"]["w", "a", "completed"] > 0


def test_runs_of_a_bundle_are_counted_like_others(world: World, relays: Relays) -> None:
    worker = world.worker(defining([], "a", "b"))
    worker.start_many("w", [{}] * 5)
    worker.engine.advance_together(world.publish())
    found = written(worker)
    assert in_all(found, "durable_runs_started_total") == {("w",): 5}
    assert in_all(found, "durable_runs_ended_total") == {("w", "completed"): 5}
    assert found["durable_unit_seconds_count"]["w", "b", "completed"] == 5


def test_a_transactional_step_is_counted(world: World) -> None:
    worker = world.worker(defining([], "a", transactional=True))
    worker.start("w")
    world.drain(worker)
    found = written(worker)
    assert in_all(found, "durable_runs_started_total") == {("w",): 1}
    assert in_all(found, "durable_unit_seconds_count") == {("w", "a", "completed"): 1}


@pytest.mark.parametrize("bundle", [False, True])
@pytest.mark.parametrize("first", sorted(FIRST))
def test_a_run_is_counted_whatever_it_begins_with(world: World, first: str, bundle: bool) -> None:
    worker = world.worker(lambda durable: FIRST[first](durable, durable.workflow("w")))
    worker.start_many("w", [{}] * 2)
    if bundle:
        worker.engine.advance_together(world.publish())
    world.drain(worker)
    assert in_all(written(worker), "durable_runs_started_total")["w",] == 2


def test_a_delayed_run_is_counted_once(world: World) -> None:
    worker = world.worker(defining([], "a"))
    worker.start("w", delay=60)
    world.drain(worker)
    assert in_all(written(worker), "durable_runs_started_total") == {}
    world.let_time_pass(120)
    world.drain(worker)
    assert in_all(written(worker), "durable_runs_started_total") == {("w",): 1}


def test_attempts_that_fail_and_units_that_do(world: World) -> None:
    def define(durable: Durable) -> None:
        retry = RetryPolicy(max_attempts=3, initial=0.001, jitter=False)
        durable.workflow("w").step(durable.step(name="a", retry=retry)(fail))

    worker = world.worker(define)
    run = worker.start("w")
    while not world.has_ended(run):
        world.let_time_pass(LONG)
        world.drain(worker)
    found = written(worker)
    assert in_all(found, "durable_unit_retries_total") == {("w", "a"): 2}
    assert in_all(found, "durable_unit_failures_total") == {("w", "a"): 1}
    assert in_all(found, "durable_unit_seconds_count") == {("w", "a", "failed"): 3}
    assert in_all(found, "durable_runs_ended_total") == {("w", "failed"): 1}
    assert in_all(found, "durable_compensation_failures_total") == {}


def undo_fails(durable: Durable) -> None:
    charge = durable.step(name="charge")(noting([], "charge"))
    charge.compensate(fail, retry=ONCE)
    durable.workflow("w").step(charge).step(durable.step(name="ship", retry=ONCE)(fail))


def test_a_compensation_that_fails_is_counted_once_and_shown_until_it_is_tried_again(
    world: World,
) -> None:
    worker = world.worker(undo_fails)
    run = worker.start("w")
    world.drain(worker)
    found = written(worker)
    assert in_all(found, "durable_compensation_failures_total") == {("w", "charge#compensate"): 1}
    assert in_all(found, "durable_unit_failures_total") == {("w", "ship"): 1}
    assert in_all(found, "durable_runs_not_compensated") == {(): 1}
    assert in_all(written(worker), "durable_compensation_failures_total") == {
        ("w", "charge#compensate"): 1
    }, "writing again counts nothing again"
    run.retry_compensation()
    assert in_all(measured(worker), "durable_runs_not_compensated") == {}


def test_items_and_branches_are_counted_under_their_nodes(world: World) -> None:
    def define(durable: Durable) -> None:
        workflow = durable.workflow("w").map("m", handler=noting([], "x"), over=lambda _: [1, 2, 3])
        workflow.parallel("p", {"a": noting([], "x"), "b": noting([], "y")})
        workflow.route("r", lambda _: "card", {"card": noting([], "x")})

    worker = world.worker(define)
    worker.start("w")
    world.drain(worker)
    found = in_all(written(worker), "durable_unit_seconds_count")
    assert found == {
        ("w", "m", "completed"): 3,
        ("w", "p#a", "completed"): 1,
        ("w", "p#b", "completed"): 1,
        ("w", "r#card", "completed"): 1,
    }


@pytest.mark.parametrize("fails", [False, True])
def test_functions_between_steps_are_no_attempts(world: World, fails: bool) -> None:
    """One that fails is a failure of its unit all the same."""

    def over(_: object) -> list[int]:
        if fails:
            raise ValueError("no list")
        return [1, 2]

    def define(durable: Durable) -> None:
        durable.workflow("w").map("m", over=over, handler=noting([], "x"))
        durable.workflow("v").route(
            "r", fail if fails else lambda _: "card", {"card": noting([], "y")}
        )

    worker = world.worker(define)
    worker.start("w")
    worker.start("v")
    world.drain(worker)
    found = written(worker)
    ended = {} if fails else {("w", "m", "completed"): 2, ("v", "r#card", "completed"): 1}
    assert in_all(found, "durable_unit_seconds_count") == ended
    failures = {("w", "m"): 1, ("v", "r#route"): 1} if fails else {}
    assert in_all(found, "durable_unit_failures_total") == failures


def test_branches_with_numbers_for_names_are_not_one(world: World) -> None:
    def define(durable: Durable) -> None:
        branches = {"1": noting([], "x"), "3ds": noting([], "y")}
        durable.workflow("w").parallel("p", branches)

    worker = world.worker(define)
    worker.start("w")
    world.drain(worker)
    assert in_all(written(worker), "durable_unit_seconds_count") == {
        ("w", "p#1", "completed"): 1,
        ("w", "p#3ds", "completed"): 1,
    }


def test_a_child_run_is_counted_by_its_own_name(world: World) -> None:
    def define(durable: Durable) -> None:
        child = durable.workflow("kid").step(noting([], "a"))
        durable.workflow("w").child_workflow("c", child)

    worker = world.worker(define)
    worker.start("w")
    world.drain(worker)
    found = written(worker)
    assert in_all(found, "durable_runs_started_total") == {("kid",): 1, ("w",): 1}
    assert in_all(found, "durable_runs_ended_total") == {
        ("kid", "completed"): 1,
        ("w", "completed"): 1,
    }


def test_a_run_begins_once_whatever_becomes_of_its_first_unit(world: World) -> None:
    """It suspends and goes on; it is claimed and given back; its worker dies."""

    def define(durable: Durable) -> None:
        durable.workflow("w").step(asking(), name="ask", suspends=True)

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    run.resume("go", 1)
    world.drain(worker)
    found = written(worker)
    assert in_all(found, "durable_runs_started_total") == {("w",): 1}
    assert in_all(found, "durable_unit_seconds_count") == {
        ("w", "ask", "suspended"): 1,
        ("w", "ask", "completed"): 1,
    }


def test_a_cancel_is_counted_by_whoever_applies_it(world: World) -> None:
    """A client has no lease and no relay: it writes at once."""
    worker = world.worker(waiting)
    runs = worker.start_many("w", [{}] * 3)
    world.drain(worker)
    client = world.worker(waiting)
    for run in runs:
        client.cancel(run.id)
    assert in_all(measured(worker), "durable_runs_ended_total") == {("w", "cancelled"): 3}


def test_a_takeover_is_counted_once_with_its_cause(world: World) -> None:
    gate = Gate()
    define = defining([], "a", gate=gate)
    doomed, other = world.worker(define), world.worker(define)
    doomed.start("w")
    held = gate.hold(doomed.engine.advance, *world.publish())
    world.kill(doomed)
    recover(other.database)
    recover(other.database)
    assert in_all(measured(other), "durable_takeovers_total") == {("crash",): 1}
    gate.finish(held)
    world.drain(other)
    found = written(other)
    assert in_all(found, "durable_runs_ended_total") == {("w", "completed"): 1}


def test_a_unit_whose_worker_stops_is_no_crash(world: World) -> None:
    gate = Gate()
    define = defining([], "a", gate=gate)
    doomed, other = world.worker(define), world.worker(define)
    doomed.start("w")
    held = gate.hold(doomed.engine.advance, *world.publish())
    world.rows("UPDATE durable_worker SET draining = true WHERE id = %s", worker_id(doomed))
    world.kill(doomed)
    recover(other.database)
    assert in_all(measured(other), "durable_takeovers_total") == {("shutdown",): 1}
    gate.finish(held)


def test_a_worker_writes_with_its_lease(world: World) -> None:
    worker = world.worker(defining([], "a"), worker_ttl=0.6)
    worker.start("w")
    world.drain(worker)

    def ended() -> Any:
        return in_all(measured(worker), "durable_runs_ended_total")

    wait_until(lambda: ended() == {("w", "completed"): 1}, message="the counts to be written")


def test_a_worker_that_stops_writes_what_it_has_counted(world: World) -> None:
    worker, other = world.worker(defining([], "a")), world.worker()
    worker.start("w")
    world.drain(worker)
    worker.liveness.leave()
    assert in_all(measured(other), "durable_runs_ended_total") == {("w", "completed"): 1}


def test_a_relay_counts_what_it_publishes_and_what_is_refused(world: World, relays: Relays) -> None:
    def refuse_the_first(messages: Sequence[DueMessage]) -> Published:
        first, *rest = messages
        return Published([message.id for message in rest], {first.id: "no"})

    worker = world.worker(defining([], "a", queue="x"))
    worker.start_many("w", [{}] * 3)
    relay = relays.make(worker, Recorder(refuse_the_first))
    relay._publish_batch(relay._connection())
    found = written(worker)
    assert in_all(found, "durable_messages_published_total") == {("x",): 2}
    assert in_all(found, "durable_messages_refused_total") == {("x",): 1}
    assert in_all(found, "durable_messages_postponed") == {("x",): 1}


def test_a_relay_that_runs_writes_its_counts(
    world: World, relays: Relays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celery_durable.background.relay.WRITES_EVERY", 0.05)
    worker = world.worker(defining([], "a"))
    relays.run(worker, Recorder())
    worker.start("w")

    def published() -> Any:
        return in_all(measured(worker), "durable_messages_published_total")

    wait_until(lambda: published() == {("durable",): 1}, message="the count")


def test_what_cannot_be_written_stays_counted(world: World) -> None:
    worker = world.worker(defining([], "a"))
    worker.start("w")
    world.drain(worker)
    row = "INSERT INTO durable_metric VALUES ('durable_runs_ended_total', %s, 0)"
    with world.connect() as other, other.transaction():
        other.execute(row, ('["w", "completed"]',))
        write_counts(worker.database)  # the row is locked, and nobody waits for it
        assert in_all(measured(worker), "durable_runs_ended_total") == {}
    assert in_all(written(worker), "durable_runs_ended_total") == {("w", "completed"): 1}


def test_a_count_whose_commit_was_not_answered_is_not_written_twice(
    world: World, proxy: Proxy
) -> None:
    worker = make_durable(proxy.url, defining([], "a"))
    worker.start("w")
    world.drain(worker)
    adding = False

    def judge(statement: str) -> Moment | None:
        nonlocal adding
        adding = adding or "INSERT INTO public.durable_metric" in statement
        return Moment.AFTER if adding and statement == "COMMIT" else None

    proxy.judge(judge)
    with pytest.raises(errors.DatabaseUnavailable):
        write_counts(worker.database)
    proxy.judge(None)
    assert in_all(written(worker), "durable_runs_ended_total") == {("w", "completed"): 1}
    end(worker)


def test_a_forked_child_does_not_count_what_its_parent_has(world: World) -> None:
    worker = world.worker(defining([], "a"))
    worker.start("w")
    world.drain(worker)
    child = os.fork()
    if child == 0:
        try:
            worker.database.autocommit().__enter__()
            os._exit(0 if worker.database.tally.take() == {} else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert in_all(written(worker), "durable_runs_ended_total") == {("w", "completed"): 1}


def test_counters_do_not_fall_when_runs_are_pruned(world: World) -> None:
    worker = world.worker(defining([], "a"))
    worker.start("w")
    world.drain(worker)
    before = written(worker)
    assert worker.prune(older_than=timedelta(0)) == 1
    assert measured(worker)["durable_runs_ended_total"] == before["durable_runs_ended_total"]


# Gauges.


def by_status(durable: Durable) -> dict[str, int]:
    """How many unfinished runs have each status, as lists say it."""
    unfinished = [status for status in Status if status not in FINISHED]
    return {str(status): len(durable.list(status=status, limit=100)) for status in unfinished}


def test_unfinished_runs_have_the_status_that_lists_say(world: World) -> None:
    def define(durable: Durable) -> None:
        durable.workflow("ready").step(noting([], "a"))
        durable.workflow("asks").wait_for_signal("s", "go")
        durable.workflow("sleeps").sleep("z", 1000)
        kid = durable.workflow("kid").wait_for_signal("s", "go")
        durable.workflow("parent").child_workflow("c", kid)
        durable.workflow("both").parallel("p", {"a": kid, "b": noting([], "b")})
        pausing = RetryPolicy(max_attempts=1, on_exhausted="pause")
        durable.workflow("exhausted").step(durable.step(name="a", retry=pausing)(fail))
        later = RetryPolicy(max_attempts=2, initial=1000)
        again = durable.step(name="first")(noting([], "first"))
        again.compensate(fail, retry=later)
        durable.workflow("undoes").step(again).step(durable.step(name="b", retry=ONCE)(fail))
        durable.workflow("tries").step(durable.step(name="a", retry=later)(fail))

    worker = world.worker(define)
    for name in ("asks", "sleeps", "parent", "both", "exhausted", "undoes", "tries"):
        worker.start(name)
    world.drain(worker)
    worker.start_many("ready", [{}] * 3)
    worker.start("ready", delay=1000)
    paused_later = worker.start("ready", delay=1000)
    worker.pause(paused_later.id)
    worker.pause(worker.start("ready").id)
    worker.pause(worker.list(workflow="asks")[0].run_id)
    found = measured(worker)["durable_runs_unfinished"]
    assert {status: int(n) for (status,), n in found.items()} == by_status(worker)
    assert all(n > 0 for n in found.values()), found


def test_beyond_the_bound_a_count_stops(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gauges, "MOST_RUNS", 3)
    worker = world.worker(defining([], "a"))
    worker.start_many("w", [{}] * 5)
    assert measured(worker)["durable_runs_unfinished"]["running",] == 3


def ages(durable: Durable, queue: str = "durable") -> dict[str, float]:
    """The ages of what waits longest for a queue, by what it waits for."""
    found = measured(durable)
    return {
        what: found[f"durable_oldest_{what}_seconds"][queue,]
        for what in ("runnable_token", "unpublished_message", "untaken_message")
    }


HOUR = pytest.approx(3600, abs=60)


def test_the_oldest_of_each_kind_is_told(world: World) -> None:
    worker = world.worker(defining([], "a"))
    worker.start("w")
    let_time_pass(world, 3600)
    waits_for_a_relay = {"runnable_token": HOUR, "unpublished_message": HOUR, "untaken_message": 0}
    assert ages(worker) == waits_for_a_relay
    (token_id,) = world.publish()
    waits_for_a_worker = {"runnable_token": HOUR, "unpublished_message": 0, "untaken_message": HOUR}
    assert ages(worker) == waits_for_a_worker
    let_recovery_hint_again(world, worker)
    assert ages(worker)["runnable_token"] == HOUR, "however often its message is sent again"
    worker.engine.advance(token_id)
    assert "durable_messages_untaken" not in measured(worker), "the queue holds nothing"


def let_recovery_hint_again(world: World, worker: Durable) -> None:
    assert look(worker).hinted == 1
    world.publish()


def test_what_wakes_is_as_old_as_its_waking(world: World) -> None:
    def define(durable: Durable) -> None:
        durable.workflow("w").sleep("z", 3000)
        durable.workflow("v").wait_for_signal("s", "go")

    worker = world.worker(define)
    worker.start("w")
    run = worker.start("v")
    world.drain(worker)
    let_time_pass(world, 3600)
    world.rows("UPDATE durable_token SET since = since - interval '1 hour'")
    assert ages(worker)["runnable_token"] == pytest.approx(600, abs=60)
    world.publish()
    assert ages(worker)["untaken_message"] == pytest.approx(600, abs=60)
    world.rows("DELETE FROM durable_token WHERE awaits IS NULL")
    run.resume("go")
    found = ages(worker)
    assert 0 <= found["unpublished_message"] < 60, "and a signal's as old as the signal"


def test_a_message_to_a_queue_that_nobody_consumes_stays_in_sight(world: World) -> None:
    worker = world.worker(defining([], "a"))
    registered(worker, world, "other")
    worker.start("w")
    world.publish()
    let_time_pass(world, 3600)
    look(worker)
    assert ages(worker)["untaken_message"] == HOUR
    found = measured(worker)
    assert found["durable_messages_untaken"]["durable",] == 1
    assert found["durable_queue_workers"]["durable",] == 0
    assert found["durable_queue_workers"]["other",] == 1
    assert [(one.queue, one.published) for one in worker.queues()] == [("durable", 1), ("other", 0)]


def test_workers_and_relays_by_their_state(world: World, relays: Relays) -> None:
    worker = world.worker(defining([], "a"))
    worker_id(worker)
    relays.run(worker, Recorder())
    wait_until(lambda: world.rows("SELECT FROM durable_relay"), message="the relay's row")
    found = measured(worker)
    assert in_all(found, "durable_workers") == {("alive",): 1}
    assert in_all(found, "durable_relays") == {("publishing",): 1}
    world.rows("UPDATE durable_relay SET outage = 'away', outage_since = now()")
    assert in_all(measured(worker), "durable_relays") == {("hindered",): 1}
    world.rows("UPDATE durable_relay SET seen_at = now() - interval '1 hour'")
    assert in_all(measured(worker), "durable_relays") == {}


# How it is asked for.


def test_whoever_asks_again_at_once_costs_postgres_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[Durable] = []

    def counting_read(durable: Durable) -> Any:
        times.append(durable)
        return read(durable)

    monkeypatch.setattr(view, "read", counting_read)
    worker, other = world.worker(), world.worker()
    first = exposition(worker)
    assert [exposition(worker) for _ in range(3)] == [first] * 3
    assert times == [worker]
    exposition(other)
    assert times == [worker, other]


def test_those_who_ask_at_once_share_one_look(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, times = Gate(), [0]

    def slow_read(durable: Durable) -> Any:
        times[0] += 1
        gate()
        return read(durable)

    monkeypatch.setattr(view, "read", slow_read)
    worker = world.worker()
    held = [gate.hold(exposition, worker), *(spawn(exposition, worker) for _ in range(3))]
    gate.open()
    assert len({one.result(10) for one in held}) == 1
    assert times == [1]


def test_an_error_is_not_kept(proxy: Proxy) -> None:
    broken = make_durable(proxy.url)
    proxy.refuse()
    with pytest.raises(errors.DatabaseUnavailable):
        exposition(broken)
    proxy.accept()
    assert "durable_workers" in exposition(broken)
    end(broken)


def test_who_has_counted_nothing_writes_nothing(world: World, meter: Meter) -> None:
    write_counts(world.worker().database)
    assert meter.statements == 0
