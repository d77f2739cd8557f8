"""The page of approvals: what waits for a person, who may answer, and the answer."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import BaseModel, Field

from celery_durable import Durable, Suspend
from celery_durable.run import Run
from celery_durable.web import Viewer
from tests.integration.driving import World, all_at_once
from tests.web.conftest import Visit
from tests.web.viewing import SomeoneAt


class Approval(BaseModel):
    """Says whether the order may go out."""

    ok: bool
    amount: int = Field(ge=1)


RIGHT = {"data.ok": "yes", "data.amount": "7"}


def ask(ctx: Any) -> Any:
    if ctx.is_resumed:
        return ctx.resume_data
    return Suspend({"tool": "<refund>"}, assignees=ctx.input or ())


def define(durable: Durable) -> None:
    durable.workflow("open").wait_for_signal("signoff", schema=Approval)
    durable.workflow("named").wait_for_signal("signoff", assignees=["ann", "bob"])
    durable.workflow("others").wait_for_signal("signoff", assignees=["bob"], schema=Approval)
    durable.workflow("agent").step(ask)
    durable.workflow("machine").wait_for_signal("webhook")


@pytest.fixture
def worker(world: World) -> Durable:
    return world.worker(define)


def started(world: World, worker: Durable, workflow: str, **options: Any) -> Run:
    """A run that waits."""
    run = worker.start(workflow, **options)
    world.drain(worker)
    return run


def path_of(world: World, run: Run) -> str:
    return f"/approvals/{world.token_id(run)}"


def as_shown(page: SomeoneAt, path: str) -> dict[str, str]:
    """The hidden fields of the form."""
    return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page.see(path)))


def answer(page: SomeoneAt, path: str, fields: dict[str, str]) -> Any:
    """Fill in the form, send it, and go where it leads."""
    sent = page.post(path, {**as_shown(page, path), **fields})
    return page.get(sent.headers["location"]) if sent.status_code == 303 else sent


def test_every_wait_for_a_person_is_listed_the_oldest_first(
    world: World, worker: Durable, visit: Visit
) -> None:
    for workflow in ("open", "machine", "agent", "named"):
        started(world, worker, workflow, key=f"{workflow}-1")
    text = visit(worker).see("/approvals")
    assert re.findall(r"(\w+)-1</a>", text) == ["open", "agent", "named"]
    assert "ann, bob" in text
    assert "any operator" in text
    assert "for ever" in text


def test_mine_are_those_that_name_me(world: World, worker: Durable, visit: Visit) -> None:
    for workflow in ("open", "named", "others"):
        started(world, worker, workflow, key=f"{workflow}-1")
    started(world, worker, "agent", input=["ann"], key="agent-1")
    text = visit(worker).see("/approvals?mine=1")
    assert re.findall(r"(\w+)-1</a>", text) == ["named", "agent"]


def test_nothing_waits(worker: Durable, visit: Visit) -> None:
    page = visit(worker)
    assert "Nothing waits for a person." in page.see("/approvals")
    assert "Nothing waits for ann." in page.see("/approvals?mine=1")


def test_a_list_of_many_has_pages(
    world: World, worker: Durable, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celery_durable.web.approvals.PAGE", 2)
    for n in range(5):
        started(world, worker, "open", key=f"order-{n}")
    page, path, seen = visit(worker), "/approvals", []
    for _ in range(3):
        text = page.see(path)
        seen.append(re.findall(r">order-(\d)<", text))
        found = re.search(r'rel="next" href="([^"]*)"', text)
        path = found[1].replace("&amp;", "&") if found else ""
    assert seen == [["0", "1"], ["2", "3"], ["4"]]
    assert path == ""


@pytest.mark.parametrize("after", ["x", "2026-01-01_x", "2026-01-01T00:00:00_" + "0" * 32, ""])
def test_a_wrong_place_in_the_list_is_refused(worker: Durable, visit: Visit, after: str) -> None:
    assert visit(worker).get(f"/approvals?after={after}").status_code == 400


def test_an_answer_moves_the_run_on_and_is_noted(
    world: World, worker: Durable, visit: Visit
) -> None:
    run = started(world, worker, "open")
    page = visit(worker)
    path = path_of(world, run)
    text = page.see(path)
    assert "Says whether the order may go out." in text
    sent = answer(page, path, RIGHT)
    assert sent.status_code == 200
    assert "Thank you: this is answered." in sent.text
    assert "answered, a worker takes it up" in page.see("/approvals")
    world.drain(worker)
    assert run.result(0)["signoff"] == Approval(ok=True, amount=7)
    (noted,) = world.rows("SELECT name, actor, what FROM durable_action")
    assert noted == {"name": "resume", "actor": "ann", "what": "signoff"}


def test_what_is_wrong_stands_beside_its_field_and_what_was_typed_stays(
    world: World, worker: Durable, visit: Visit
) -> None:
    run = started(world, worker, "open")
    page = visit(worker)
    sent = answer(page, path_of(world, run), {**RIGHT, "data.amount": "many"})
    assert sent.status_code == 400
    assert 'id="data.amount-error">This is no whole number.</p>' in sent.text
    assert 'value="many"' in sent.text
    assert 'aria-invalid="true"' in sent.text
    sent = answer(page, path_of(world, run), {**RIGHT, "data.amount": "0"})
    assert 'id="data.amount-error">Input should be greater than or equal to 1</p>' in sent.text
    assert world.counts()["inbox"] == 0


def test_who_is_not_named_sees_who_may_and_cannot_answer(
    world: World, worker: Durable, visit: Visit
) -> None:
    run = started(world, worker, "others")
    page = visit(worker)
    text = page.see(path_of(world, run))
    assert "bob may answer this." in text
    assert "disabled" in text
    assert "<button" not in text.partition("<main")[2]
    sent = answer(page, path_of(world, run), RIGHT)
    assert sent.status_code == 403
    assert "ann may not answer this: bob may." in sent.text
    assert world.counts()["inbox"] == 0


def test_who_is_named_answers(world: World, worker: Durable, visit: Visit) -> None:
    run = started(world, worker, "named")
    sent = answer(visit(worker), path_of(world, run), {"data": '"fine"'})
    assert sent.status_code == 200
    world.drain(worker)
    assert run.result(0) == {"signoff": "fine"}


def test_a_reader_only_looks(world: World, worker: Durable, visit: Visit) -> None:
    run = started(world, worker, "named")
    page = visit(worker, login=lambda _: Viewer("ann", "reader"))
    assert "disabled" in page.see(path_of(world, run))
    assert page.post(path_of(world, run), {"data": "1"}).status_code == 403
    assert world.counts()["inbox"] == 0


def test_the_form_needs_its_token(world: World, worker: Durable, visit: Visit) -> None:
    run = started(world, worker, "open")
    page = visit(worker)
    page.see("/approvals")
    assert page.client.post(path_of(world, run), data=RIGHT).status_code == 403
    assert world.counts()["inbox"] == 0


def test_what_an_agent_asks_is_shown_as_text(world: World, worker: Durable, visit: Visit) -> None:
    run = started(world, worker, "agent")
    text = visit(worker).see(path_of(world, run))
    assert "&lt;refund&gt;" in text
    assert "<refund>" not in text
    answer(visit(worker), path_of(world, run), {"data": '{"allow": true}'})
    world.drain(worker)
    assert run.result(0) == {"ask": {"allow": True}}


def test_a_second_answer_says_who_has_answered_and_when(
    world: World, worker: Durable, visit: Visit
) -> None:
    run = started(world, worker, "open")
    path = path_of(world, run)
    ann, bob = visit(worker), visit(worker, login=lambda _: Viewer("bob"))
    bob.name = "bob"
    late = as_shown(bob, path)
    answer(ann, path, RIGHT)
    at = world.one("SELECT created_at FROM durable_inbox")
    for is_taken in (False, True):
        if is_taken:
            world.drain(worker)
        sent = bob.post(path, {**late, **RIGHT, "data.amount": "8"})
        assert sent.status_code == 200
        assert "This was answered already." in sent.text
        assert "by ann" in sent.text
        assert f"{at:%Y-%m-%dT%H:%M}" in sent.text
    assert run.result(0)["signoff"] == Approval(ok=True, amount=7)
    assert bob.get(path).status_code == 410


def test_of_answers_at_once_one_counts(world: World, worker: Durable, visit: Visit) -> None:
    run = started(world, worker, "open")
    path, page = path_of(world, run), visit(worker)
    fields = {**as_shown(page, path), **RIGHT}
    sent = all_at_once(
        [lambda: page.client.post(path, data=fields, follow_redirects=True) for _ in range(6)]
    )
    assert sum("Thank you" in one.text for one in sent) == 1
    assert sum("answered already" in one.text for one in sent) == 5
    assert world.counts()["inbox"] == 1


def test_a_form_for_an_earlier_wait_answers_no_later_one(world: World, visit: Visit) -> None:
    """A loop, or an agent, asks again while the old form is open in another window."""

    def ask_twice(ctx: Any) -> Any:
        answers = [*(ctx.snapshot or []), *([ctx.resume_data] if ctx.is_resumed else [])]
        return Suspend(answers) if len(answers) < 2 else answers

    worker = world.worker(lambda durable: durable.workflow("w").step(ask_twice))
    run = started(world, worker, "w")
    page, path = visit(worker), path_of(world, run)
    old = as_shown(page, path)
    answer(page, path, {"data": "1"})
    world.drain(worker)
    assert run.status().awaiting_signal == "ask_twice"
    assert "answered already" in page.post(path, {**old, "data": "9"}).text
    answer(page, path, {"data": "2"})
    world.drain(worker)
    assert run.result(0) == {"ask_twice": [1, 2]}


def test_a_run_that_was_cancelled_is_not_answered(
    world: World, worker: Durable, visit: Visit
) -> None:
    run = started(world, worker, "open")
    page, path = visit(worker), path_of(world, run)
    fields = as_shown(page, path)
    run.cancel()
    sent = page.post(path, {**fields, **RIGHT})
    assert sent.status_code == 410
    assert "The run has ended, cancelled." in sent.text


def test_what_became_of_an_answer_may_be_looked_at_again(
    world: World, worker: Durable, visit: Visit
) -> None:
    """The browser comes back to it, and sends nothing again."""
    run = started(world, worker, "open")
    page, path = visit(worker), path_of(world, run)
    sent = page.post(path, {**as_shown(page, path), **RIGHT})
    assert sent.status_code == 303
    bob = visit(worker, login=lambda _: Viewer("bob"))
    for is_taken in (False, True):
        if is_taken:
            world.drain(worker)
        assert "Thank you: this is answered." in page.see(sent.headers["location"])
        assert "This was answered already." in bob.see(sent.headers["location"])
    assert f'href="/runs/{run.id}"' in page.see(sent.headers["location"])


def test_a_form_that_names_what_cannot_be_is_refused(
    world: World, worker: Durable, visit: Visit
) -> None:
    run = started(world, worker, "open")
    page, unknown = visit(worker), f"/approvals/{run.id}"
    said = {"run": str(run.id), "wait": "0", "signal": "signoff", "unit": "signoff"}
    for wrong in ({"wait": "1" * 5_000}, {"run": "x"}):
        assert page.post(unknown, {**said, **wrong}).status_code == 410
        assert page.get(unknown, params={**said, **wrong}).status_code == 410
    for nul in ({"signal": "\0"}, {"unit": "\0"}):
        assert page.post(unknown, {**said, **nul}).status_code == 400
        assert page.get(unknown, params={**said, **nul}).status_code == 400


def test_who_answers_late_is_told_that_the_deadline_has_passed(world: World, visit: Visit) -> None:
    worker = world.worker(
        lambda durable: durable.workflow("w").wait_for_signal("go", schema=Approval, timeout=60)
    )
    run = started(world, worker, "w")
    page, path = visit(worker), path_of(world, run)
    fields = as_shown(page, path)
    world.let_time_pass(61)
    world.drain(worker)
    sent = page.post(path, {**fields, **RIGHT})
    assert sent.status_code == 410
    assert "The deadline has passed: nobody answered in time." in sent.text
