"""Each action end to end: in a browser, on a real worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from playwright.sync_api import Page, expect

from celery_durable.run import Run
from celery_durable.web import Viewer, create_app
from tests.brokers.shop import Shop, open_shop
from tests.browser.conftest import Open, Serve
from tests.services import PostgresServer, RedisServer
from tests.transports import RedisBroker
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def shop(
    postgres: PostgresServer,
    template_database: str,
    redis_server: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Shop]:
    """The shop of tests.brokers, and a worker."""
    with (
        postgres.database("durable_test_browser", template_database) as name,
        closing(RedisBroker(redis_server.url, redis_server.node)) as broker,
        open_shop(broker, postgres.url(name), tmp_path_factory.mktemp("shop")) as shop,
    ):
        shop.worker()
        yield shop


@pytest.fixture
def page(shop: Shop, serve: Serve, browse: Open) -> Page:
    """The page, opened by an operator called Ann."""
    return browse(serve(create_app(shop.durable, login=lambda _: Viewer("Ann"))))


def look_at(page: Page, run: Run) -> None:
    """Go to the run's page, whatever page is open."""
    root = page.url.split("/runs/")[0].rstrip("/")
    page.goto(f"{root}/runs/{run.id}")


def act(page: Page, run: Run, name: str, **fields: str) -> None:
    """Click the action, fill in its form, and confirm."""
    look_at(page, run)
    page.get_by_role("link", name=name, exact=True).click()
    for label, text in {**fields, "Why": "an incident"}.items():
        field = page.get_by_label(label, exact=True)
        if field.evaluate("one => one.nodeName") == "SELECT":
            field.select_option(text)
        else:
            field.fill(text)
    page.get_by_role("button", name=name, exact=True).click()
    page.get_by_role("heading", name=name, exact=True).wait_for(state="detached")


def ends_as(run: Run, status: str) -> None:
    wait_until(lambda: run.status().status == status, message=f"the run to be {status}")


def who_did(shop: Shop, run: Run) -> list[tuple[str, str | None, str | None]]:
    return [(one.name, one.actor, one.reason) for one in reversed(shop.durable.actions(run.id))]


def test_a_signal_is_sent_and_the_run_goes_on(shop: Shop, page: Page) -> None:
    run = shop.start("approval")
    ends_as(run, "suspended")
    act(page, run, "Send a signal", Signal="signoff", Data='{"ok": true}')
    assert run.result(timeout=30)["signoff"] == {"ok": True}
    assert who_did(shop, run) == [("resume", "Ann", "an incident")]


def test_a_run_is_cancelled_and_says_who_did_it(shop: Shop, page: Page) -> None:
    run = shop.start("approval")
    ends_as(run, "suspended")
    act(page, run, "Cancel")
    ends_as(run, "cancelled")
    row = page.get_by_role("row").filter(has_text="an incident")
    expect(row).to_contain_text("Ann")
    expect(row).to_contain_text("cancel")


def test_a_run_is_cancelled_with_the_keyboard_alone(shop: Shop, page: Page) -> None:
    run = shop.start("approval")
    ends_as(run, "suspended")
    look_at(page, run)
    reach(page, "Cancel")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Cancel").wait_for()
    reach(page, "Undo what has completed")
    page.keyboard.press("Space")
    reach(page, "Why")
    page.keyboard.type("too late")
    reach(page, "Cancel")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/runs/{run.id}")
    ends_as(run, "cancelled")
    assert who_did(shop, run) == [("cancel", "Ann", "too late")]


def reach(page: Page, name: str) -> None:
    """Press Tab until what has this name has the focus."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if focused(page) == name:
            return
    raise AssertionError(f"Tab does not lead to {name!r}")


def focused(page: Page) -> str:
    """The name of what has the focus, which has to be seen there."""
    said: str = page.evaluate(
        "() => { const one = document.activeElement;"
        " return ((one.labels && one.labels[0]) || one).textContent.trim() }"
    )
    return said


def test_a_failed_run_is_retried_from_a_step_and_the_new_one_is_shown(
    shop: Shop, page: Page
) -> None:
    run = shop.start("order", charge="fail")
    ends_as(run, "failed")
    act(page, run, "Retry", **{"Begin with": "reserve"})
    new = run.status().retried_as
    assert new is not None
    page.wait_for_url(f"**/runs/{new}")
    ends_as(shop.durable.run(new), "failed")
    assert len(shop.ledger(shop.durable.run(new), "reserve", "end")) == 1


def test_a_unit_is_tried_now_and_skipped(shop: Shop, page: Page) -> None:
    run = shop.start("order", charge="later")
    shop.wait_for(run, "charge")
    wait_until(lambda: run.status().wake_at, message="charge to wait for its next try")
    act(page, run, "Try again now", Unit="charge")
    shop.wait_for(run, "charge", times=2)
    wait_until(lambda: run.status().attempt == 3 and run.status().wake_at, message="the third try")
    act(page, run, "Skip", Unit="charge", Result='{"paid": "by hand"}')
    assert run.result(timeout=30)["charge"] == {"paid": "by hand"}
    assert [one[0] for one in who_did(shop, run)] == ["retry_now", "skip"]


def test_a_run_is_paused_and_goes_on_when_it_is_unpaused(shop: Shop, page: Page) -> None:
    run = shop.start("order", reserve="hold")
    shop.wait_for(run, "reserve")
    act(page, run, "Pause")
    shop.open_gate(run)
    ends_as(run, "paused")
    assert shop.ledger(run, "charge") == []
    act(page, run, "Unpause")
    run.result(timeout=30)


def test_failed_compensations_are_tried_again(shop: Shop, page: Page) -> None:
    run = shop.start("order", **{"charge": "fail", "reserve#compensate": "fail"})
    ends_as(run, "failed")
    act(page, run, "Retry compensation")
    shop.wait_for(run, "reserve#compensate", times=2)
    ends_as(run, "failed")


def test_a_workflow_is_paused_and_unpaused(shop: Shop, page: Page) -> None:
    page.goto(f"{page.url}pauses")
    page.get_by_role("link", name="Pause a workflow or a step").click()
    page.get_by_label("Workflow").fill("booking")
    page.get_by_label("Why").fill("an incident")
    page.get_by_role("button", name="Pause").click()
    row = page.get_by_role("row").filter(has_text="workflow booking")
    expect(row).to_contain_text("Ann")
    run = shop.start("booking")
    ends_as(run, "paused")
    row.get_by_role("link", name="Unpause").click()
    page.get_by_role("button", name="Unpause").click()
    page.get_by_text("Nothing is paused.").wait_for()
    run.result(timeout=30)


def test_all_of_it_works_without_script(shop: Shop, serve: Serve, browse: Open) -> None:
    url = serve(create_app(shop.durable, login=lambda _: Viewer("Ann")))
    page = browse(url, java_script_enabled=False)
    run = shop.start("approval")
    ends_as(run, "suspended")
    page.goto(f"{url}/runs/{run.id}")
    page.get_by_role("link", name="Send a signal").click()
    page.get_by_label("Signal").fill("signoff")
    page.get_by_role("button", name="Send a signal").click()
    run.result(timeout=30)
    assert "UTC" in page.locator("time").first.inner_text()
