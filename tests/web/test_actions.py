"""What an operator does in the page: offered where it fits, asked once, done once, noted."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest

from celery_durable import Durable, RetryPolicy, Run, Suspend
from celery_durable.core.status import Status
from celery_durable.view.run import read_run
from celery_durable.web import Viewer
from celery_durable.web.actions import offered
from celery_durable.web.deeds import DEEDS
from tests.integration.driving import ONCE, World
from tests.web.conftest import Visit
from tests.web.viewing import SomeoneAt


def define(durable: Durable) -> None:
    """`fails` fails at charge, as does undoing its first step; `stops` is paused there instead."""

    def charge(ctx: Any) -> None:
        raise ValueError("no money")

    def release(ctx: Any) -> None:
        raise ValueError("no key")

    reserve = durable.step(lambda _: 1, name="reserve")
    reserve.compensate(release, retry=ONCE)
    stop = RetryPolicy(max_attempts=1, on_exhausted="pause")
    later = RetryPolicy(max_attempts=3, initial=3600)
    durable.workflow("fails").step(reserve).step(charge, retry=ONCE, name="charge")
    durable.workflow("stops").step(lambda _: 1, name="reserve").step(
        charge, retry=stop, name="charge"
    ).step(lambda ctx: ctx.results["charge"], name="book")
    durable.workflow("tries").step(charge, retry=later, name="charge")
    durable.workflow("waits").wait_for_signal("signoff")
    durable.workflow("ends").step(lambda _: 1, name="a").step(lambda _: 2, name="b")


@pytest.fixture
def durable(world: World) -> Durable:
    return world.worker(define)


@pytest.fixture
def ann(durable: Durable, visit: Visit) -> SomeoneAt:
    return visit(durable)


def begun(world: World, durable: Durable, workflow: str) -> Run:
    run = durable.start(workflow, key="k")
    world.drain(durable)
    return run


def names(durable: Durable, run: Run) -> list[str]:
    return [one.name for one in offered(durable, read_run(durable, run, with_results=False))]


OFFERED = {
    "fails": ["retry", "retry_compensation"],
    "stops": ["retry_now", "resume", "skip", "pause", "cancel"],
    "tries": ["retry_now", "resume", "skip", "pause", "cancel"],
    "waits": ["resume", "pause", "cancel"],
    "ends": ["retry"],
}


@pytest.mark.parametrize("workflow", OFFERED)
def test_only_what_fits_how_the_run_stands_is_offered(
    world: World, durable: Durable, ann: SomeoneAt, workflow: str
) -> None:
    run = begun(world, durable, workflow)
    assert names(durable, run) == OFFERED[workflow]
    page = ann.see(f"/runs/{run.id}")
    linked = re.findall(rf'id="action-(\w+)".* href="/runs/{run.id}/actions/\1"', page)
    assert linked == OFFERED[workflow]


def test_a_paused_run_may_be_unpaused_and_a_retried_one_is_left_alone(
    world: World, durable: Durable
) -> None:
    run = begun(world, durable, "waits")
    run.pause()
    assert names(durable, run) == ["resume", "unpause", "cancel"]
    durable.pause(run.id, step="signoff")
    durable.unpause(run.id)
    assert names(durable, run) == ["resume", "pause", "unpause", "cancel"]
    ended = durable.start("fails")
    world.drain(durable)
    ended.retry(from_step="reserve")
    assert names(durable, ended) == []


def noted(durable: Durable, run: Run) -> tuple[str, str | None, str | None, str | None]:
    (one,) = durable.actions(run.id)
    return one.name, one.actor, one.reason, one.what


def done(ann: SomeoneAt, run: Run, name: str, **fields: str) -> str:
    """Do it; where it leads."""
    path = f"/runs/{run.id}/actions/{name}"
    assert f'action="{path}"' in ann.see(path)
    answer = ann.post(path, {"reason": "an incident", **fields})
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


@pytest.mark.parametrize("compensate", [False, True])
def test_a_run_is_cancelled(
    world: World, durable: Durable, ann: SomeoneAt, compensate: bool
) -> None:
    run = begun(world, durable, "waits")
    assert done(ann, run, "cancel", **({"compensate": "yes"} if compensate else {})) == (
        f"/runs/{run.id}"
    )
    world.drain(durable)
    snapshot = run.status()
    assert (snapshot.status, snapshot.cancel_reason) == (Status.CANCELLED, "an incident")
    assert noted(durable, run) == ("cancel", "ann", "an incident", None)
    page = ann.see(f"/runs/{run.id}")
    assert all(said in page for said in ("ann", "an incident", "cancel"))


def test_a_run_is_retried_from_a_step_and_the_new_one_is_shown(
    world: World, durable: Durable, ann: SomeoneAt
) -> None:
    run = begun(world, durable, "ends")
    path = f"/runs/{run.id}/actions/retry"
    assert '<option value="b">' in ann.see(path)
    new = UUID(done(ann, run, "retry", from_step="b").rpartition("/")[2])
    assert run.status().retried_as == new
    assert noted(durable, run) == ("retry", "ann", "an incident", "b")
    world.drain(durable)
    assert [one.unit for one in durable.history(new)][-1] == "b"


def test_a_unit_is_tried_now(world: World, durable: Durable, ann: SomeoneAt) -> None:
    run = begun(world, durable, "tries")
    assert run.status().attempt == 2
    done(ann, run, "retry_now", unit="charge")
    world.drain(durable)
    assert run.status().attempt == 3
    assert noted(durable, run) == ("retry_now", "ann", "an incident", "charge")


def test_a_unit_is_skipped_with_a_result(world: World, durable: Durable, ann: SomeoneAt) -> None:
    run = begun(world, durable, "stops")
    done(ann, run, "skip", unit="charge", result='{"paid": "by hand"}')
    world.drain(durable)
    assert run.result(timeout=0)["book"] == {"paid": "by hand"}
    assert noted(durable, run) == ("skip", "ann", "an incident", "charge")


def test_a_run_is_paused_and_unpaused(world: World, durable: Durable, ann: SomeoneAt) -> None:
    run = begun(world, durable, "waits")
    done(ann, run, "pause", step="")
    assert [(one.pause.run_id, one.reason) for one in durable.pauses()] == [(run.id, "an incident")]
    done(ann, run, "unpause", step="")
    assert durable.pauses() == []
    assert [one.name for one in durable.actions(run.id)] == ["unpause", "pause"]


def test_a_step_of_a_run_is_paused(world: World, durable: Durable, ann: SomeoneAt) -> None:
    run = begun(world, durable, "waits")
    done(ann, run, "pause", step="signoff")
    assert noted(durable, run) == ("pause", "ann", "an incident", "signoff")


def test_a_signal_is_sent(world: World, durable: Durable, ann: SomeoneAt) -> None:
    run = begun(world, durable, "waits")
    assert '<option value="signoff">' in ann.see(f"/runs/{run.id}/actions/resume")
    done(ann, run, "resume", signal="signoff", data='{"ok": true}')
    world.drain(durable)
    assert run.result(timeout=0) == {"signoff": {"ok": True}}
    assert noted(durable, run) == ("resume", "ann", "an incident", "signoff")


def test_a_signal_that_nothing_waits_for_is_sent_by_who_insists(
    world: World, durable: Durable, ann: SomeoneAt
) -> None:
    run = begun(world, durable, "waits")
    path, fields = f"/runs/{run.id}/actions/resume", {"signal": "sign"}
    assert 'name="anyway"' not in ann.see(path)
    assert 'name="anyway"' in ann.post(path, fields).text
    assert durable.actions(run.id) == []
    done(ann, run, "resume", **fields, anyway="yes")
    assert noted(durable, run) == ("resume", "ann", "an incident", "sign")


def define_asking(durable: Durable) -> None:
    """Waits that name who may answer, the later ones by a function, which names bob."""

    def ask(ctx: Any) -> Any:
        return ctx.resume_data if ctx.is_resumed else Suspend({}, assignees=["bob"])

    durable.workflow("named").wait_for_signal("go", assignees=["bob", "cy", "dee"])
    durable.workflow("later").wait_for_signal("first").wait_for_signal("go", assignees=["bob"])
    durable.workflow("found").wait_for_signal("first").wait_for_signal(
        "go", assignees=lambda _: ["bob"]
    )
    durable.workflow("asks").step(ask, name="go")


@pytest.mark.parametrize(
    ("workflow", "words"),
    [
        ("named", "ann may not send &#39;go&#39;: bob, cy or dee may answer"),
        ("later", "ann may not send &#39;go&#39;: bob may answer"),
        ("found", "Who may send &#39;go&#39; is asked when the run comes to the wait"),
        ("asks", "ann may not send &#39;go&#39;: bob may answer"),
    ],
)
def test_who_a_wait_does_not_name_sends_no_signal_for_it(
    world: World, visit: Visit, workflow: str, words: str
) -> None:
    """Nor before the run waits for it: the signal would be kept."""
    run = begun(world, durable := world.worker(define_asking), workflow)
    path, before = f"/runs/{run.id}/actions/resume", world.counts()
    answer = visit(durable).post(path, {"signal": "go", "anyway": "yes"})
    assert answer.status_code == 409
    assert words in answer.text
    assert world.counts() == before
    assert run.resume("go").accepted, "code may send whatever it likes"


def test_who_a_wait_names_sends_the_signal(world: World, visit: Visit) -> None:
    """Also one whom a function has named, once it is called; and one more is another's again."""
    durable = world.worker(define_asking)
    bob = visit(durable, login=lambda _: Viewer("bob"))
    bob.name = "bob"
    for workflow in ("named", "later", "found", "asks"):
        run = begun(world, durable, workflow)
        if workflow in ("later", "found"):
            run.resume("first")
            world.drain(durable)
        path = f"/runs/{run.id}/actions/resume"
        assert bob.post(path, {"signal": "go"}).status_code == 303
        again = bob.post(path, {"signal": "go"}).status_code
        assert again == (409 if workflow == "found" else 303)
        world.drain(durable)
        assert run.status().status == Status.COMPLETED


def test_compensations_are_tried_again(world: World, durable: Durable, ann: SomeoneAt) -> None:
    run = begun(world, durable, "fails")
    done(ann, run, "retry_compensation")
    assert run.status().status == Status.COMPENSATING
    assert noted(durable, run) == ("retry_compensation", "ann", "an incident", None)


REFUSED = [
    ("ends", "retry", {}, "All steps of run"),
    ("ends", "retry_now", {}, "has ended, completed"),
    ("waits", "skip", {"unit": "signoff"}, "executes no step"),
    ("waits", "skip", {}, "unit= takes a string"),
    ("waits", "resume", {"signal": "signoff", "data": "{ok: true}"}, "The data is not JSON"),
    ("waits", "resume", {"signal": "signoff", "data": "NaN"}, "NaN is no JSON"),
    ("waits", "resume", {"signal": "signoff", "data": "[" * 100_000}, "nested too deep"),
    ("waits", "resume", {"signal": ""}, "signal= takes a string"),
    ("waits", "resume", {"signal": "sign"}, "it waits for &#39;signoff&#39;"),
    ("ends", "resume", {"signal": "signoff"}, "does not take signals"),
    ("waits", "pause", {"step": "nothing"}, "No step of workflow"),
    ("waits", "retry_compensation", {}, "has not ended"),
    ("waits", "cancel", {"reason": "a" * 5_000}, "reason= takes a string"),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case[1]}: {case[3]}")
def test_what_is_refused_is_said_in_place_in_the_librarys_words(
    world: World, durable: Durable, ann: SomeoneAt, case: tuple[str, str, dict[str, str], str]
) -> None:
    workflow, name, fields, words = case
    run = begun(world, durable, workflow)
    before = world.counts(), run.status()
    answer = ann.post(f"/runs/{run.id}/actions/{name}", fields)
    assert answer.status_code == 409
    assert words in answer.text
    assert 'role="alert"' in answer.text
    assert (world.counts(), run.status()) == before
    assert durable.actions(run.id) == []


def test_cancelling_a_run_that_has_ended_leads_back_to_it(
    world: World, durable: Durable, ann: SomeoneAt
) -> None:
    run = begun(world, durable, "ends")
    assert ann.post(f"/runs/{run.id}/actions/cancel").status_code == 303
    assert durable.actions(run.id) == []


def test_what_was_typed_is_still_there_after_a_refusal(
    world: World, durable: Durable, ann: SomeoneAt
) -> None:
    run = begun(world, durable, "waits")
    fields = {"signal": "signoff", "data": "{<b>", "reason": 'she "said" so'}
    text = ann.post(f"/runs/{run.id}/actions/resume", fields).text
    assert "{&lt;b&gt;</textarea>" in text
    assert 'value="she &#34;said&#34; so"' in text
    assert 'value="signoff"' in text


def test_who_comes_late_is_told_that_the_run_has_moved_on(
    world: World, durable: Durable, ann: SomeoneAt
) -> None:
    run = begun(world, durable, "waits")
    run.cancel()
    assert "it has moved on" in ann.see(f"/runs/{run.id}/actions/pause")


def test_what_no_action_is_called_and_a_run_that_is_not_there_are_not_found(
    world: World, durable: Durable, ann: SomeoneAt
) -> None:
    run = begun(world, durable, "waits")
    nowhere = "00000000-0000-0000-0000-000000000001"
    for path in (f"/runs/{run.id}/actions/explode", "/pauses/explode"):
        assert ann.get(path).status_code == 404
        assert ann.post(path).status_code == 404
    for name in DEEDS.keys() - {"unpause"}:  # nothing is paused there: so be it
        assert ann.get(f"/runs/{nowhere}/actions/{name}").status_code == 404
        fields = {"unit": "a", "signal": "s"}
        assert ann.post(f"/runs/{nowhere}/actions/{name}", fields).status_code == 404


def test_a_workflow_and_a_step_are_paused_and_unpaused(durable: Durable, ann: SomeoneAt) -> None:
    assert '<option value="waits">' in ann.see("/pauses/pause?workflow=ends")
    assert 'value="ends"' in ann.see("/pauses/pause?workflow=ends")
    what = {"workflow": "ends", "version": "1", "step": "a"}
    answer = ann.post("/pauses/pause", {**what, "reason": "an incident"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/pauses")
    page = ann.see("/pauses")
    assert "step a of workflow ends version 1" in page
    assert "an incident" in page
    assert "/pauses/unpause?workflow=ends&amp;version=1&amp;step=a" in page
    assert ann.post("/pauses/unpause", what).status_code == 303
    assert durable.pauses() == []
    assert [(one.name, one.actor) for one in durable.actions()] == [
        ("unpause", "ann"),
        ("pause", "ann"),
    ]
    acts = ann.see("/actions")
    assert all(said in acts for said in ("ann", "an incident", "ends version 1", "unpause"))


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"workflow": "nothing"}, "nothing"),
        ({"workflow": "ends", "version": "one"}, "version takes a whole number"),
        ({"workflow": "ends", "version": "9" * 5_000}, "at most 9 digits, not &#39;999"),
        ({"workflow": "ends", "version": "9" * 10}, "at most 9 digits"),
        ({"workflow": "ends", "step": "z"}, "No step of workflow"),
        ({}, "Name a run, a workflow or a step"),
    ],
)
def test_what_cannot_be_paused_is_said_in_place(
    durable: Durable, ann: SomeoneAt, what: dict[str, str], words: str
) -> None:
    answer = ann.post("/pauses/pause", what)
    assert answer.status_code == 409
    assert words in answer.text
    assert durable.pauses() == []
