"""Runs in Django's admin, in the shop's own site."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from typing import Any

import pytest

from celery_durable import Durable
from celery_durable.contrib.django import get_durable
from celery_durable.run import Run
from tests.contrib.projects import DjangoWorld

RUNS = "/admin/durable/workflowrun/"


@pytest.fixture
def shops(world: DjangoWorld, shop: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Durable]:
    """The Durable of the shop, which the admin finds."""
    monkeypatch.setattr("celery_durable.contrib.django.project.current_app", shop.app)
    found: Durable = get_durable()
    world._workers.append(found)
    found.run_factory.forget()
    yield found
    vars(found).pop("engine", None)


def user(*permissions: str) -> Any:
    """A client of somebody who may do so much in the admin."""
    from django.contrib.auth.models import Permission, User  # noqa: PLC0415
    from django.test import Client  # noqa: PLC0415

    name = "-".join(permissions) or "nobody"
    found, _ = User.objects.get_or_create(username=name, is_staff=True)
    found.user_permissions.set(
        Permission.objects.filter(codename__in=[f"{one}_workflowrun" for one in permissions])
    )
    client = Client(headers={"host": "testserver"})
    client.force_login(found)
    return client


@pytest.fixture
def operator(shops: Durable, settings_of_django: Any) -> Any:
    settings_of_django(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"])
    return user("view", "change")


@pytest.fixture
def run(shops: Durable, operator: Any) -> Run:
    return shops.start("fulfil", {"order": "<b>1</b>"}, key="order-1")


def test_runs_are_listed_filtered_and_found(shops: Durable, operator: Any, run: Run) -> None:
    other = shops.start("fulfil", {"order": 2}, key="order-2")
    other.cancel()

    def listed(query: str) -> set[str]:
        text = operator.get(f"{RUNS}?{query}").content.decode()
        return {key for key in ("order-1", "order-2") if key in text}

    assert listed("") == {"order-1", "order-2"}
    assert listed("status=cancelled") == {"order-2"}
    assert listed("workflow=fulfil") == {"order-1", "order-2"}
    assert listed("q=order-1") == {"order-1"}
    assert listed(f"q={other.id}") == {"order-2"}
    assert listed("created_at__gte=2001-01-01T00:00:00%2B00:00") == {"order-1", "order-2"}
    assert listed("created_at__gte=2101-01-01T00:00:00%2B00:00") == set()


def test_a_run_is_shown_with_its_units_and_its_error_escaped(
    world: DjangoWorld, shops: Durable, operator: Any, run: Run
) -> None:
    world.drain(shops)

    text = operator.get(f"{RUNS}{run.id}/change/").content.decode()

    assert "&lt;b&gt;1&lt;/b&gt;" in text
    assert "<b>1</b>" not in text
    assert "reserve" in text
    assert "ValueError" in text
    assert "attempt" in text.lower()


def test_a_run_is_cancelled_paused_and_resumed_by_who_may(
    world: DjangoWorld, shops: Durable, operator: Any
) -> None:
    from django.contrib.admin.models import LogEntry  # noqa: PLC0415
    from orders.models import Order, Parcel  # type: ignore[import-not-found]  # noqa: PLC0415

    order = Order.objects.create(item="lamp")
    run = shops.start("fulfil", {"order": order.pk})
    page = f"{RUNS}{run.id}/change/"

    operator.post(page, {"action": "pause", "reason": "<i>an incident</i>"})
    assert run.status().status == "paused"
    text = operator.get(page).content.decode()
    assert "pause by view-change: &lt;i&gt;an incident&lt;/i&gt;" in text
    operator.post(page, {"action": "unpause"})
    world.drain(shops)
    assert 'name="signal"' in operator.get(page).content.decode()
    operator.post(page, {"action": "resume", "signal": "paid", "data": '{"payment": 1}'})
    world.drain(shops)

    assert run.status().status == "completed"
    assert Parcel.objects.get().order == order
    logged = LogEntry.objects.filter(object_id=str(run.id)).order_by("id")
    assert [entry.change_message for entry in logged] == ["Pause", "Unpause", "Send a signal paid"]
    noted = [(one.name, one.actor) for one in reversed(shops.actions(run.id))]
    assert noted == [(name, "view-change") for name in ("pause", "unpause", "resume")]


def told(operator: Any, run: Run, **form: str) -> str:
    """What the admin says of an action."""
    (said,) = messages_of(operator.post(f"{RUNS}{run.id}/change/", form, follow=True))
    return said


def messages_of(answer: Any) -> list[str]:
    """What a page says was done, or not; warnings come before."""
    assert answer.status_code == 200
    found = re.findall(r'<li class="(?:success|error|warning)">(.*?)</li>', answer.content.decode())
    return [unescape(one) for one in found]


def test_where_nothing_was_done_it_is_not_said_to_be_done(
    world: DjangoWorld, shops: Durable, operator: Any, run: Run
) -> None:
    assert "not paused" in told(operator, run, action="unpause")
    run.pause()
    assert "paused already" in told(operator, run, action="pause")
    run.cancel()
    assert "has ended, cancelled" in told(operator, run, action="cancel")
    assert "does not take signals" in told(operator, run, action="resume", signal="paid")
    listed = {"action": "cancel_selected", "_selected_action": [str(run.id)]}
    (said,) = messages_of(operator.post(RUNS, listed, follow=True))
    assert "has ended" in said
    assert [one.actor for one in shops.actions(run.id)] == [None, None]


def test_what_is_no_data_and_a_signal_that_nothing_waits_for_are_said(
    operator: Any, run: Run
) -> None:
    for data in ("[" * 100_000, "{x", "NaN", "9" * 5_000, '"\\u0000\\ud800"'):
        said = told(operator, run, action="resume", signal="paid", data=data)
        assert "done" not in said, data[:9]
    payed = {"action": "resume", "signal": "payed"}
    warning, done = messages_of(operator.post(f"{RUNS}{run.id}/change/", payed, follow=True))
    assert "waits for the signal 'payed' (it waits for 'paid')" in warning
    assert done == "Send a signal: done"


def test_who_a_wait_does_not_name_sends_no_signal_for_it(world: DjangoWorld, operator: Any) -> None:
    def define(durable: Durable) -> None:
        durable.workflow("asks").wait_for_signal("go", assignees=["ann"])
        durable.workflow("asks them").wait_for_signal("go", assignees=["view-change"])

    worker = world.worker(define)
    runs = [worker.start(name) for name in ("asks", "asks them")]
    world.drain(worker)
    said = [told(operator, run, action="resume", signal="go") for run in runs]
    assert "view-change may not send 'go': ann may answer" in said[0]
    assert said[1] == "Send a signal: done"


@pytest.mark.parametrize(
    "query", ["workflow=%00", "status=%00", "q=%00", "key=%00", "key__startswith=a%00", "p=%00"]
)
def test_an_address_with_nul_is_refused(operator: Any, query: str) -> None:
    assert operator.get(f"{RUNS}?{query}").status_code in {302, 400}


def test_every_result_is_shown(world: DjangoWorld, operator: Any) -> None:
    def define(durable: Durable) -> None:
        durable.workflow("maps").step(lambda _: {(1, 2): "größe"}, name="a")

    worker = world.worker(define)
    run = worker.start("maps")
    world.drain(worker)
    text = operator.get(f"{RUNS}{run.id}/change/").content.decode()
    assert "[1, 2]&quot;: &quot;größe" in text


def test_only_what_fits_a_run_is_offered(world: DjangoWorld, shops: Durable, operator: Any) -> None:
    from orders.models import Order  # noqa: PLC0415

    order = Order.objects.create(item="lamp")
    run = shops.start("fulfil", {"order": order.pk})

    def offered() -> set[str]:
        text = operator.get(f"{RUNS}{run.id}/change/").content.decode()
        names = ("retry", "cancel", "pause", "unpause", "resume")
        return {name for name in names if f'name="action" value="{name}"' in text}

    assert offered() == {"cancel", "pause"}
    shops.pause(run.id)
    assert offered() == {"cancel", "unpause"}
    shops.unpause(run.id)
    world.drain(shops)
    assert offered() == {"cancel", "pause", "resume"}
    run.resume("paid", {"payment": 1})
    world.drain(shops)
    assert run.status().status == "completed"
    assert offered() == {"retry"}
    run = shops.start("fulfil", {"order": order.pk})
    run.cancel()
    assert offered() == {"retry"}
    run.retry()
    assert offered() == set()


def test_an_action_is_about_the_step_that_is_chosen(
    world: DjangoWorld, shops: Durable, operator: Any
) -> None:
    from orders.models import Order  # noqa: PLC0415

    run = shops.start("fulfil", {"order": Order.objects.create(item="lamp").pk})
    world.drain(shops)
    page = f"{RUNS}{run.id}/change/"
    first, *_ = run.status().steps
    shops.pause(run.id, step=first)
    text = operator.get(page).content.decode()
    assert f'<option value="{first}">{first}</option>' in text
    operator.post(page, {"action": "unpause", "step": first})
    assert not shops.pauses()
    run.cancel()
    world.drain(shops)
    operator.post(page, {"action": "retry", "from_step": first})
    again = run.status().retried_as
    assert again is not None
    assert shops.status(again).results == {}


def test_chosen_runs_are_cancelled_and_retried(
    world: DjangoWorld, shops: Durable, operator: Any, run: Run
) -> None:
    chosen = {"_selected_action": [str(run.id)]}
    operator.post(RUNS, {"action": "cancel_selected", **chosen})
    world.drain(shops)
    assert run.status().status == "cancelled"

    operator.post(RUNS, {"action": "retry_selected", **chosen})
    assert run.status().retried_as is not None

    again = operator.post(RUNS, {"action": "retry_selected", **chosen}, follow=True)
    assert "tried again" in again.content.decode(), "what is refused is said"


@pytest.mark.parametrize(("permissions", "sees", "acts"), [((), 403, 403), (("view",), 200, 403)])
def test_who_may_only_look_cannot_act(
    run: Run, permissions: tuple[str, ...], sees: int, acts: int
) -> None:
    somebody = user(*permissions)
    page = f"{RUNS}{run.id}/change/"
    assert somebody.get(page).status_code == sees
    assert somebody.post(page, {"action": "cancel"}).status_code == acts
    somebody.post(RUNS, {"action": "cancel_selected", "_selected_action": [str(run.id)]})
    assert run.status().status == "running"


@pytest.mark.parametrize("path", ["add/", "{id}/delete/"])
def test_nobody_adds_or_deletes_runs(operator: Any, run: Run, path: str) -> None:
    assert operator.get(RUNS + path.format(id=run.id)).status_code == 403


@pytest.mark.parametrize("id", ["01a2267b-7b5d-732e-9386-4ef8d06392dc", "no-id"])
def test_a_run_that_does_not_exist_is_not_found(operator: Any, id: str) -> None:
    assert operator.get(f"{RUNS}{id}/change/").status_code == 404
