"""The page of workflows: what there is, how many runs, and a form that starts one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest

from celery_durable import Durable
from celery_durable.web import Viewer
from tests.integration.driving import World, make_durable
from tests.web.conftest import Visit


@dataclass
class Strict:
    """Says what is weighed."""

    weight: int

    def __post_init__(self) -> None:
        assert self.weight > 0, "this weighs nothing"


@dataclass
class Order:
    item: str
    amount: int
    gift: bool = False


def define(durable: Durable) -> None:
    @durable.step
    def charge(ctx: Any) -> Any:
        return ctx.input

    durable.workflow("order", input=Order).step(charge).wait_for_signal("signoff")
    durable.workflow("order", version=2, input=Order).step(charge).wait_for_signal("signoff")
    durable.workflow("plain <b>").step(charge)
    durable.workflow("strict", input=Strict).step(charge)


@pytest.fixture
def durable(world: World) -> Durable:
    return world.worker(define)


ORDER = "/workflow?name=order"


def counted(page: str) -> list[tuple[str, str]]:
    """The statuses that a page counts, and how many runs have each."""
    return re.findall(r"status=\w+\">.*?</span> (\w+) (\d+)</a>", page)


def test_every_workflow_of_the_project_is_there(durable: Durable, visit: Visit) -> None:
    page = visit(durable).see("/workflows")
    assert re.search(r'name=order">order</a>', page)
    assert "plain &lt;b&gt;" in page
    assert "1 earlier one" in page


def test_a_workflow_that_only_others_import_is_there(
    world: World, module_database_url: str, visit: Visit
) -> None:
    world.worker(define).start("order", {"item": "lamp", "amount": 7})
    other = make_durable(module_database_url)
    someone = visit(other)
    assert "name=order" in someone.see("/workflows")
    assert 'name="data"' in someone.see(ORDER)
    answer = someone.post(ORDER, {"data": '{"item": "lamp", "amount": 8}'})
    assert answer.status_code == 303
    assert [run.version for run in other.list(workflow="order")] == [2, 2]
    other.database.close()


def test_runs_are_counted_by_version_and_status(
    world: World, durable: Durable, visit: Visit
) -> None:
    for amount in (1, 2):
        durable.start("order", {"item": "lamp", "amount": amount}, version=1)
    durable.start("plain <b>", {})
    durable.cancel(durable.start("order", {"item": "lamp", "amount": 3}).id)
    world.drain(durable)
    durable.start("order", {"item": "lamp", "amount": 4})
    someone = visit(durable)
    expected = [("running", "1"), ("cancelled", "1"), ("suspended", "2")]  # of v2, of v1
    assert counted(someone.see(ORDER)) == expected
    of_all = [("running", "1"), ("suspended", "2"), ("cancelled", "1"), ("completed", "1")]
    assert counted(someone.see("/workflows")) == of_all


def test_the_highest_version_is_shown_and_any_may_be_named(durable: Durable, visit: Visit) -> None:
    someone = visit(durable)
    assert "<title>order" in someone.see(ORDER)
    assert ">v2</span>" in someone.see(ORDER)
    assert ">v1</span>" in someone.see(f"{ORDER}&version=1")


@pytest.mark.parametrize(
    "query", ["name=other", "", "name=order&version=3", "name=order&version=x"]
)
def test_what_is_not_there_is_said_to_be_so(durable: Durable, visit: Visit, query: str) -> None:
    assert visit(durable).get(f"/workflow?{query}").status_code == 404


def test_the_plan_is_drawn(durable: Durable, visit: Visit) -> None:
    plan = visit(durable).see(ORDER).partition('id="plan"')[2].partition("</svg>")[0]
    assert "charge" in plan
    assert "signoff" in plan


def test_a_form_starts_a_run_and_leads_to_it(durable: Durable, visit: Visit) -> None:
    someone = visit(durable)
    fields = {"data.item": "lamp", "data.amount": "7", "data.gift": "yes"}
    fields |= {"key": "order-1", "priority": "5", "tags": "tenant=acme\nlane = fast\n"}
    answer = someone.post(ORDER, fields)
    (run,) = durable.list()
    assert (answer.status_code, answer.headers["location"]) == (303, f"/runs/{run.run_id}")
    assert durable.status(run.run_id).input == Order("lamp", 7, gift=True)
    assert (run.key, run.version) == ("order-1", 2)
    assert run.tags == {"tenant": "acme", "lane": "fast"}


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"data.item": ""}, "data.item"),
        ({"data.amount": "many"}, "data.amount"),
        ({"priority": "1000"}, "priority"),
        ({"priority": "high"}, "priority"),
        ({"priority": "1" * 5_000}, "priority"),
        ({"tags": "acme"}, "tags"),
        ({"key": "k" * 501}, "key"),
    ],
)
def test_what_is_wrong_is_said_beside_its_field_and_nothing_starts(
    durable: Durable, visit: Visit, fields: dict[str, str], name: str
) -> None:
    answer = visit(durable).post(ORDER, {"data.item": "lamp", "data.amount": "7", **fields})
    assert answer.status_code == 400
    control = re.search(rf'<(input|textarea) [^>]*name="{re.escape(name)}"[^>]*>', answer.text)
    assert control is not None
    assert 'aria-invalid="true"' in control[0]
    assert 'class="field-error"' in answer.text
    assert 'value="lamp"' in answer.text or name == "data.item"
    assert not durable.list()


def test_what_a_model_raises_is_said_and_nothing_starts(durable: Durable, visit: Visit) -> None:
    answer = visit(durable).post("/workflow?name=strict", {"data.weight": "0"})
    assert answer.status_code == 400
    assert "AssertionError: this weighs nothing" in answer.text
    assert not durable.list()


def test_a_form_says_what_its_model_says_of_itself(durable: Durable, visit: Visit) -> None:
    assert "Says what is weighed." in visit(durable).see("/workflow?name=strict")


def test_a_key_that_a_run_has_starts_nothing_and_leads_to_that_run(
    durable: Durable, visit: Visit
) -> None:
    run = durable.start("order", {"item": "lamp", "amount": 7}, key="order-1")
    fields = {"data.item": "lamp", "data.amount": "7", "key": "order-1"}
    answer = visit(durable).post(ORDER, fields)
    assert answer.status_code == 400
    assert f'href="/runs/{run.id}"' in answer.text
    assert len(durable.list()) == 1


def test_a_reader_sees_no_form_and_starts_nothing(durable: Durable, visit: Visit) -> None:
    someone = visit(durable, login=lambda _: Viewer("rita", "reader"))
    someone.name = "rita"
    assert "<form" not in someone.see(ORDER).partition('id="start"')[2]
    answer = someone.post(ORDER, {"data.item": "lamp", "data.amount": "7"})
    assert answer.status_code == 403
    assert not durable.list()


def test_a_form_without_its_token_starts_nothing(durable: Durable, visit: Visit) -> None:
    someone = visit(durable)
    someone.see(ORDER)
    fields = {"data.item": "lamp", "data.amount": "7"}
    assert someone.post_as_it_is(ORDER, data=fields).status_code == 403
    assert not durable.list()


def test_a_pause_is_shown_with_its_reason(durable: Durable, visit: Visit) -> None:
    someone = visit(durable)
    assert "/pauses/pause?workflow=order" in someone.see(ORDER)
    durable.pause(workflow="order", reason="<incident>")
    durable.pause(workflow="order", version=2)
    page = someone.see(ORDER)
    assert "The workflow is paused since" in page
    assert "&lt;incident&gt;" in page
    assert "Version 2 is paused since" in page
    assert "/pauses/unpause?workflow=order&amp;version=2" in page
    assert "paused</span>" in someone.see("/workflows")
