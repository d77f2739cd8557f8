"""A run on a real worker asks a person, who answers in a browser; and it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from playwright.sync_api import Page, expect

from celery_durable.run import Run
from celery_durable.web import Viewer, callbacks_app, create_app
from tests.apps import approving
from tests.brokers.shop import Shop, open_shop
from tests.browser.conftest import Open, Serve, Violations
from tests.services import PostgresServer, RedisServer
from tests.transports import RedisBroker
from tests.waiting import wait_until

SECRET = "a secret of the tests"
URL = "https://durable.test"
LINKS = {"durable_web_secret": SECRET, "durable_web_url": URL}


@pytest.fixture(scope="module")
def shop(
    postgres: PostgresServer,
    template_database: str,
    redis_server: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Shop]:
    """The company of tests.apps.approving, and a worker."""
    with (
        postgres.database("durable_test_browser", template_database) as name,
        closing(RedisBroker(redis_server.url, redis_server.node)) as broker,
        open_shop(broker, postgres.url(name), tmp_path_factory.mktemp("shop")) as shop,
    ):
        shop.app.conf.update(LINKS)
        approving.define(shop.durable)
        shop.worker("tests.apps.approving:app", conf=LINKS)
        yield shop


def waiting(shop: Shop, workflow: str, key: str) -> Run:
    """A run that waits for a person."""
    run = shop.durable.start(workflow, key=key)
    wait_until(lambda: run.status().status == "suspended", message="the run to wait")
    return run


@pytest.fixture
def page(shop: Shop, serve: Serve, browse: Open) -> Page:
    """The page, opened by an operator called Ann."""
    return browse(serve(create_app(shop.durable, login=lambda _: Viewer("Ann"))))


def fill_in(page: Page, amount: str, remarks: str) -> None:
    page.get_by_label("Approved").select_option(label="yes")
    page.get_by_label("Amount").fill(amount)
    page.get_by_label("By (optional)").select_option(label="card")
    page.get_by_label("Due").fill("2026-05-01")
    page.get_by_label("Remarks").fill(remarks)


def test_a_run_waits_is_approved_in_the_browser_and_ends(shop: Shop, page: Page) -> None:
    run = waiting(shop, "expense", "lunch")
    page.get_by_role("link", name="Approvals").click()
    page.get_by_role("link", name="Mine").click()
    row = page.get_by_role("row").filter(has_text="lunch")
    row.get_by_role("link", name="signoff").click()

    fill_in(page, "1001", "-")
    page.get_by_role("button", name="Answer").click()
    amount = page.get_by_label("Amount")
    expect(amount).to_have_value("1001")
    expect(amount).to_have_accessible_description(
        "In euros, at most 1,000. Input should be less than or equal to 1000"
    )
    expect(page.get_by_label("Remarks")).to_have_accessible_description(
        "One to a line. Value error, a dash says nothing"
    )
    assert run.status().status == "suspended"

    fill_in(page, "7", "it was good\nand cheap")
    page.get_by_role("button", name="Answer").click()
    expect(page.get_by_role("status")).to_have_text("Thank you: this is answered.")
    assert run.result(timeout=30)["pay"] == "7 by card"
    signoff = run.status().results["signoff"]
    assert signoff.remarks == ["it was good", "and cheap"]
    assert str(signoff.due) == "2026-05-01"


def test_it_is_answered_by_keyboard_alone(shop: Shop, page: Page) -> None:
    run = waiting(shop, "expense", "keys")
    page.goto(f"{page.url.rstrip('/')}/approvals/{shop.token(run)}")
    page.get_by_label("Approved").focus()
    for key in ("y", "Tab", "5", "Enter"):
        page.keyboard.press(key)
    expect(page.get_by_role("status")).to_have_text("Thank you: this is answered.")
    assert run.result(timeout=30)["pay"] == "5 by transfer"


def test_a_group_is_opened_by_its_box_without_script(
    shop: Shop, serve: Serve, browse: Open
) -> None:
    run = waiting(shop, "expense", "refund to")
    root = serve(create_app(shop.durable, login=lambda _: Viewer("Ann")))
    page = browse(f"{root}/approvals/{shop.token(run)}", java_script_enabled=False)
    fill_in(page, "7", "")
    iban = page.get_by_label("Iban")
    expect(iban).to_be_hidden()
    page.get_by_label("Account").focus()
    page.keyboard.press("Space")
    expect(iban).to_be_visible()
    page.get_by_role("button", name="Answer").click()
    expect(iban).to_have_accessible_description("Fill in a value.")
    iban.fill("DE00")
    page.get_by_role("button", name="Answer").click()
    expect(page.get_by_role("status")).to_have_text("Thank you: this is answered.")
    run.result(timeout=30)
    assert run.status().results["signoff"].account == approving.Account(iban="DE00")


def test_who_goes_back_to_an_answer_sees_it_again(shop: Shop, page: Page) -> None:
    run = waiting(shop, "expense", "back")
    page.goto(f"{page.url.rstrip('/')}/approvals/{shop.token(run)}")
    fill_in(page, "7", "")
    page.get_by_role("button", name="Answer").click()
    page.get_by_role("link", name="The run", exact=True).click()
    page.go_back()
    expect(page.get_by_role("status")).to_have_text("Thank you: this is answered.")
    run.result(timeout=30)
    page.reload()
    expect(page.get_by_role("status")).to_have_text("Thank you: this is answered.")


def test_what_an_agent_asks_is_answered_as_json(shop: Shop, page: Page) -> None:
    run = waiting(shop, "agent", "refund")
    page.goto(f"{page.url.rstrip('/')}/approvals/{shop.token(run)}")
    expect(page.get_by_text('"tool": "refund"')).to_be_visible()
    page.get_by_label("Data").fill('{"allow": true}')
    page.get_by_role("button", name="Answer").click()
    assert run.result(timeout=30) == {"call_tool": {"allow": True}}


def link_of(run: Run) -> str:
    return str(run.status().results["ask"]).removeprefix(URL)


def test_a_link_is_opened_and_answered_without_a_login(
    shop: Shop, serve: Serve, browse: Open
) -> None:
    run = waiting(shop, "expense", "by mail")
    page = browse(serve(callbacks_app(shop.durable)) + link_of(run))
    fill_in(page, "0", "")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("alert")).to_be_visible()
    fill_in(page, "9", "")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("heading")).to_have_text("Answered")
    assert run.result(timeout=30)["pay"] == "9 by card"
    page.reload()
    expect(page.get_by_role("status")).to_contain_text("answered")


@pytest.fixture
def urls(shop: Shop, page: Page, serve: Serve) -> list[str]:
    """The list, a form of the page, and a link."""
    run = waiting(shop, "expense", f"of {len(shop.durable.list())} runs")
    root, links = page.url.rstrip("/"), serve(callbacks_app(shop.durable))
    return [f"{root}/approvals", f"{root}/approvals/{shop.token(run)}", links + link_of(run)]


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_nothing_is_wrong_with_the_pages(
    urls: list[str], browse: Open, violations: Violations, color_scheme: str
) -> None:
    for url in urls:
        assert violations(browse(url), color_scheme=color_scheme) == [], url


def test_a_phone_shows_it_without_scrolling_to_the_side(urls: list[str], browse: Open) -> None:
    for url in urls:
        opened = browse(url, viewport={"width": 360, "height": 740})
        assert opened.evaluate("document.documentElement.scrollWidth") <= 360, url
