"""The page of a run: why it stands, where, what has ended and failed, what has come."""

from __future__ import annotations

import json
from typing import Any

import pytest

from celery_durable import Durable, RetryPolicy
from celery_durable.run import Run
from celery_durable.store.read import received
from celery_durable.web import Viewer
from tests.integration.driving import ONCE, Gate, World, noting
from tests.web.conftest import Visit
from tests.web.reading import Element, read

NASTY = "</pre><script>alert('&')</script>"


def declining(_: Any) -> None:
    raise ValueError(f"no money {NASTY}")


def third_time_lucky(ctx: Any) -> str:
    if ctx.attempt < 3:
        raise ValueError(f"attempt {ctx.attempt} {NASTY}")
    return "done"


def odd_ones_fail(ctx: Any) -> int:
    if ctx.item % 2:
        raise ValueError(f"{ctx.item} is odd")
    return int(ctx.item)


def define(durable: Durable) -> None:
    durable.workflow("works").step(noting([], "a", {"receipt": NASTY}), name="a")
    durable.workflow("waits").wait_for_signal("signoff", "go").wait_for_signal("more", "more")
    durable.workflow("asks").wait_for_signal("signoff", "ok", assignees=["ann"])
    durable.workflow("fails").step(declining, name="d", retry=ONCE)
    durable.workflow("tries").step(declining, name="d", retry=RetryPolicy(3, initial=3600))
    durable.workflow("lucky").step(third_time_lucky, name="l", retry=RetryPolicy(3, initial=0))
    durable.workflow("has a child").step(durable.workflow("child").wait_for_signal("s", "go"))
    item = durable.step(name="i", retry=ONCE)(odd_ones_fail)
    durable.workflow("forks").map("m", over=lambda ctx: ctx.input, handler=item, tolerate=100)
    undone = durable.step(name="u")(noting([], "u"))
    undone.compensate(declining, retry=ONCE)
    durable.workflow("stays").step(undone).step(declining, name="d", retry=ONCE)


@pytest.fixture
def durable(world: World) -> Durable:
    return world.worker(define)


def page_of(visit: Visit, durable: Durable, run: Run, **options: Any) -> Element:
    return read(visit(durable, **options).see(f"/runs/{run.id}"))


def test_why_is_on_top_with_what_helps(world: World, durable: Durable, visit: Visit) -> None:
    run = durable.start("waits")
    world.drain(durable)
    why = page_of(visit, durable, run).by_id("why")
    assert "signoff waits for the signal go" in why.text
    assert why.link("Answer it") == f"/runs/{run.id}/actions/resume?signal=go"
    form = read(visit(durable).see(why.link("Answer it")))
    assert form.by_id("signal").attributes["value"] == "go"


def test_a_wait_for_a_person_leads_to_its_form(
    world: World, durable: Durable, visit: Visit
) -> None:
    run = durable.start("asks")
    world.drain(durable)
    page = page_of(visit, durable, run)
    form = f"/approvals/{world.token_id(run)}"
    assert page.by_id("why").link("Answer it") == form
    assert page.by_id("current").link("ok") == form


@pytest.mark.parametrize(
    ("workflow", "helps"),
    [
        ("fails", ("Retry it", "/actions/retry")),
        ("tries", ("Try it now", "/actions/retry_now?unit=d")),
    ],
)
def test_what_helps_leads_to_its_form(
    world: World, durable: Durable, visit: Visit, workflow: str, helps: tuple[str, str]
) -> None:
    (title, way), run = helps, durable.start(workflow)
    world.drain(durable)
    assert page_of(visit, durable, run).by_id("why").link(title) == f"/runs/{run.id}{way}"


def test_a_pause_leads_to_where_it_is_ended(world: World, durable: Durable, visit: Visit) -> None:
    """That of a run to a form; that of all runs of a workflow to the list of pauses."""
    run, other = durable.start("waits"), durable.start("works")
    run.pause()
    durable.pause(workflow="works")
    world.drain(durable)
    why = page_of(visit, durable, run).by_id("why")
    assert why.link("Unpause it") == f"/runs/{run.id}/actions/unpause"
    assert page_of(visit, durable, other).by_id("why").link("Unpause it") == "/pauses"


def test_who_only_reads_is_told_the_command(world: World, durable: Durable, visit: Visit) -> None:
    run = durable.start("waits")
    world.drain(durable)
    page = page_of(visit, durable, run, login=lambda _: Viewer("bob", "reader"))
    assert f"celery -A t durable resume {run.id} go" in page.by_id("why").text


def test_what_only_a_shell_can_mend_is_told_as_a_command(
    world: World, durable: Durable, visit: Visit
) -> None:
    run = durable.start("works")
    world.publish()
    world.let_time_pass(60)
    world.rows("UPDATE durable_token SET since = since - interval '1 minute'")
    why = page_of(visit, durable, run).by_id("why")
    assert "a waits in the queue durable, which no live worker consumes" in why.text
    assert "celery -A t worker -Q durable" in why.text


def test_the_reasons_of_a_child_are_told_below(
    world: World, durable: Durable, visit: Visit
) -> None:
    run = durable.start("has a child")
    world.drain(durable)
    page = page_of(visit, durable, run)
    assert "waits for the child run" in page.by_id("why").text
    assert "s waits for the signal go" in page.by_id("why").text
    (child,) = durable.list(workflow="child")
    assert f"/runs/{child.run_id}" == page.by_id("children").link("child")
    assert page.by_id("children").link("All of them") == f"/runs?parent={run.id}"
    assert page.by_id("why").link("Answer it") == f"/runs/{child.run_id}"
    there = page_of(visit, durable, durable.run(child.run_id))
    assert there.by_id("why").link("Answer it").startswith(f"/runs/{child.run_id}/actions/resume")
    assert there.by_id("facts").link(str(run.id)) == f"/runs/{run.id}"


def test_where_a_run_stands(world: World, durable: Durable, visit: Visit) -> None:
    """The unit, its worker, its attempt, what it has reported last."""
    gate = Gate()

    def working(ctx: Any) -> None:
        ctx.progress(0.4, f"page 3 {NASTY}")
        gate()

    worker = world.worker(lambda durable: durable.workflow("w").step(working, name="copy"))
    run = worker.start("w")
    held = gate.hold(worker.engine.advance, world.token_id(run))
    world.rows("UPDATE durable_token SET crashes = 1")
    current = page_of(visit, worker, run).by_id("current")
    assert run.status().units[0].crashes == 1
    gate.finish(held)
    assert "copy ▶ executing on" in current.text
    assert ", pid " in current.text
    assert "attempt 1 of 3 its worker died once" in current.text
    assert f"40% page 3 {NASTY}" in current.text
    assert not page_of(visit, worker, run).has("current")


def test_what_was_skipped_says_so_and_claims_no_time(
    world: World, durable: Durable, visit: Visit
) -> None:
    run = durable.start("tries")
    world.drain(durable)
    run.skip("d", "by hand")
    world.drain(durable)
    someone = visit(durable)
    assert "d » skipped" in read(someone.see(f"/runs/{run.id}")).by_id("units").text
    for page in (f"/runs/{run.id}/unit?unit=d", f"/runs/{run.id}/units"):
        shown = someone.see(page)
        assert "» skipped" in read(shown).by_id("main").text
        assert "✓ completed" not in read(shown).by_id("main").text


def test_what_is_held_is_not_queued(world: World, durable: Durable, visit: Visit) -> None:
    run = durable.start("works")
    run.pause()
    world.drain(durable)
    current = page_of(visit, durable, run).by_id("current")
    assert "paused" in current.text
    assert "queued" not in current.text


def test_a_unit_between_tries_shows_its_error_and_all_attempts(
    world: World, durable: Durable, visit: Visit
) -> None:
    run = durable.start("tries")
    world.drain(durable)
    someone = visit(durable)
    page = read(someone.see(f"/runs/{run.id}"))
    assert f"ValueError: no money {NASTY}" in page.by_id("current").text
    assert "attempt 2 of 3" in page.by_id("current").text
    unit = read(someone.see(page.by_id("trying-d").link("Its failed attempts")))
    assert "Attempt 1" in unit.text
    assert "Traceback (most recent call last)" in unit.text


def test_a_unit_shows_its_attempts_and_its_result(
    world: World, durable: Durable, visit: Visit
) -> None:
    run = durable.start("lucky")
    world.drain(durable)
    someone = visit(durable)
    page = read(someone.see(f"/runs/{run.id}"))
    assert "attempt 3" in page.by_id("unit-l").text
    unit = read(someone.see(page.by_id("unit-l").link("Attempts")))
    assert f"ValueError : attempt 1 {NASTY}" in unit.text
    assert f"ValueError : attempt 2 {NASTY}" in unit.text
    assert '"done"' in unit.text
    part = someone.see(f"/runs/{run.id}/unit?unit=l&part=1")
    assert "<html" not in part
    read(part)


def test_an_error_has_its_traceback_behind_a_fold(
    world: World, durable: Durable, visit: Visit
) -> None:
    run = durable.start("stays")
    world.drain(durable)
    page = page_of(visit, durable, run)
    error = page.by_id("error")
    assert error.text.startswith("Error of d ValueError : no money")
    assert "u#compensate has failed" in error.text
    why = page.by_id("why")
    assert why.text.startswith("How it ended")
    assert "not all undone: u#compensate failed for good" in why.text
    assert why.link("Compensate again") == f"/runs/{run.id}/actions/retry_compensation"
    assert 'class="why good"' not in visit(durable).see(f"/runs/{run.id}")
    (first, second) = error.all("details")
    assert "declining" in first.text
    assert "open" not in first.attributes
    assert "declining" in second.text


def test_items_are_folded_with_counts_and_opened_a_page_at_a_time(
    world: World, durable: Durable, visit: Visit
) -> None:
    run = durable.start("forks", [*range(60)])
    world.drain(durable)
    someone = visit(durable)
    group = read(someone.see(f"/runs/{run.id}")).by_id("group-m-do")
    assert "m#* ✓ completed 30 ✗ failed 30" in group.text
    assert "m#7" not in group.text
    part = someone.see(str(group.attributes["data-src"]))
    assert "<html" not in part
    first = read(part)
    assert len([*first.all("tr")]) == 1 + 25
    whole = read(someone.see(group.link("Each of them")))
    assert len([*whole.all("tr")]) == 1 + 60
    failed = read(someone.see(whole.link("Those that failed")))
    assert len([*failed.all("tr")]) == 1 + 30
    next_ = read(someone.see(first.link("More")))
    shown = [one.text for one in first.all("th")] + [one.text for one in next_.all("th")]
    assert {one for one in shown if one.startswith("m#")} == {f"m#{n}" for n in range(60)}


def test_a_wrong_page_of_units_is_refused_in_words(durable: Durable, visit: Visit) -> None:
    run = durable.start("works")
    someone = visit(durable)
    wrong = someone.get(f"/runs/{run.id}/units?outcome=odd")
    assert (wrong.status_code, "they end" in wrong.text) == (400, True)
    wrong = someone.get(f"/runs/{run.id}/units?undo=odd")
    assert (wrong.status_code, "undo is yes or no" in wrong.text) == (400, True)
    assert someone.get(f"/runs/{run.id}/unit?unit=nothing").status_code == 404
    nobody = "00000000-0000-0000-0000-000000000001"
    for path in ("", "/units", "/unit?unit=a", "/input.json", "/result.json"):
        answer = someone.get(f"/runs/{nobody}{path}")
        assert (answer.status_code, nobody in answer.text) == (404, True)


def test_an_input_is_shown_and_downloaded_in_its_own_letters(
    durable: Durable, visit: Visit
) -> None:
    run = durable.start("works", {"name": "größe 日本"})
    someone = visit(durable)
    assert "größe 日本" in read(someone.see(f"/runs/{run.id}")).by_id("input").text
    assert "größe 日本" in someone.get(f"/runs/{run.id}/input.json").content.decode()


def test_signals_that_have_come_are_listed(world: World, durable: Durable, visit: Visit) -> None:
    run = durable.start("waits")
    run.resume("go", {"by": NASTY}, key="k1")
    world.drain(durable)
    run.resume("late", "x" * 1000)
    someone = visit(durable)
    signals = read(someone.see(f"/runs/{run.id}")).by_id("signals")
    go = next(one for one in signals.all("tr") if one.text.startswith("go"))
    assert "k1 taken" in go.text
    assert NASTY.replace("/", "\\/") in go.text or NASTY in go.text
    late = next(one for one in signals.all("tr") if one.text.startswith("late"))
    assert "not yet" in late.text
    assert "x" * (received.SHOWN - 1) + "…" in late.text
    whole = someone.get(late.link("↓"))
    assert whole.json() == "x" * 1000


def test_input_and_result_are_shown_and_saved(world: World, durable: Durable, visit: Visit) -> None:
    run = durable.start("works", {"order": [1, NASTY]})
    world.drain(durable)
    someone = visit(durable)
    page = read(someone.see(f"/runs/{run.id}"))
    assert NASTY in page.by_id("input").text
    assert '"order"' in page.by_id("input").text
    assert '"receipt"' in page.by_id("result").text
    for path, expected in (
        ("input.json", {"order": [1, NASTY]}),
        ("result.json", {"a": {"receipt": NASTY}}),
        ("unit.json?unit=a", {"receipt": NASTY}),
    ):
        answer = someone.get(f"/runs/{run.id}/{path}")
        assert answer.json() == expected
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["content-disposition"].startswith("attachment; filename=")
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_what_is_large_is_not_shown_and_not_read(
    world: World, durable: Durable, visit: Visit
) -> None:
    """Postgres compresses what repeats itself; random text stays as large as it is."""
    text = "".join(world.one("SELECT gen_random_uuid()::text") for _ in range(300))
    run = durable.start("works", {"text": text})
    someone = visit(durable)
    page = someone.see(f"/runs/{run.id}")
    assert text[:36] not in page
    given = read(page).by_id("input")
    assert "KiB as it is stored" in given.text
    assert someone.get(given.link("Download")).json() == {"text": text}


def test_what_is_long_is_cut(durable: Durable, visit: Visit) -> None:
    run = durable.start("works", ["x" * 20_000])
    given = page_of(visit, durable, run).by_id("input")
    assert len(given.text) < 7_000
    assert given.link("Download the whole") == f"/runs/{run.id}/input.json"


def test_a_run_that_was_tried_again_leads_to_the_next_and_back(
    world: World, durable: Durable, visit: Visit
) -> None:
    run = durable.start("fails", key="k", tags={"shop": "north"})
    world.drain(durable)
    again = run.retry()
    facts = page_of(visit, durable, run).by_id("facts")
    assert facts.link(str(again.id)) == f"/runs/{again.id}"
    assert facts.link("shop=north") == "/runs?tag=shop%3Dnorth"
    assert page_of(visit, durable, again).by_id("facts").link(str(run.id)) == f"/runs/{run.id}"


def test_a_cancel_that_was_asked_for_is_told_with_its_reason(
    world: World, durable: Durable, visit: Visit
) -> None:
    run = durable.start("waits")
    world.drain(durable)
    run.cancel(reason=NASTY)
    page = page_of(visit, durable, run)
    assert NASTY in page.by_id("facts").text
    assert NASTY in page.by_id("why").text


def test_a_run_that_has_ended_is_not_followed(world: World, durable: Durable, visit: Visit) -> None:
    run = durable.start("works")
    someone = visit(durable)
    assert "data-live=" in someone.see(f"/runs/{run.id}")
    world.drain(durable)
    assert "data-live=" not in someone.see(f"/runs/{run.id}")


def test_results_that_are_large_are_not_read_for_a_page(
    world: World, durable: Durable, visit: Visit
) -> None:
    def large(_: Any) -> Any:
        return [world.one("SELECT gen_random_uuid()::text") for _ in range(300)]

    worker = world.worker(lambda durable: durable.workflow("w").step(large, name="large"))
    run = worker.start("w")
    world.drain(worker)
    someone = visit(worker)
    page = read(someone.see(f"/runs/{run.id}"))
    assert "KiB as it is stored" in page.by_id("result").text
    unit = read(someone.see(f"/runs/{run.id}/unit?unit=large"))
    assert "KiB as it is stored" in unit.text
    found = someone.get(unit.link("Download it")).json()
    assert json.dumps(found) == json.dumps(run.status().results["large"])
