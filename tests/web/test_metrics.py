"""Who may read the metrics of the page, and what they get."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from celery_durable.web import patience
from tests.integration.driving import World, defining
from tests.web.conftest import Visit

OWN, TOKEN = "o" * 16, "t" * 16


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_DELAY", 0.01)


def bearer(token: str) -> dict[str, Any]:
    return {"headers": {"Authorization": f"Bearer {token}"}}


def test_a_scraper_with_the_token_gets_what_prometheus_reads(world: World, visit: Visit) -> None:
    durable = world.worker(defining([], "a"), web_metrics_token=OWN)
    page = visit(durable, token=TOKEN)
    for token in (OWN, TOKEN):
        answer = page.get("/metrics", **bearer(token))
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        names = {family.name for family in text_string_to_metric_families(answer.text)}
        assert {"durable_workers", "durable_runs_started"} <= names


def test_without_a_token_nobody_reads_them(world: World, visit: Visit) -> None:
    answer = visit(world.worker(), token=TOKEN).get("/metrics")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "durable_workers" not in answer.text
    assert "durable_web_metrics_token" in answer.text


def test_a_wrong_token_is_refused_and_logged(
    world: World, visit: Visit, caplog: pytest.LogCaptureFixture
) -> None:
    page = visit(world.worker(web_metrics_token=OWN), token=TOKEN)
    caplog.set_level(logging.WARNING)
    answers = {page.get("/metrics", **bearer("wrong")).status_code for _ in range(3)}
    assert answers == {401}
    assert "A wrong token for the web page" in caplog.text
    assert page.get("/metrics", **bearer(OWN)).status_code == 200, "others of its address may read"


def test_an_address_that_keeps_trying_is_not_heard(
    world: World, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "LONGEST_QUEUE", -1.0)
    page = visit(world.worker(), token=TOKEN)
    assert page.get("/metrics", **bearer("wrong")).status_code == 401
    assert page.get("/metrics", **bearer("wrong")).status_code == 429


def test_the_token_of_the_metrics_opens_nothing_else(world: World, visit: Visit) -> None:
    page = visit(world.worker(web_metrics_token=OWN), token=TOKEN)
    assert page.get("/runs", **bearer(OWN)).status_code == 403
    assert page.get(f"/login?token={OWN}").status_code == 403


def test_who_has_opened_the_page_reads_them(world: World, visit: Visit) -> None:
    page = visit(world.worker())
    assert "durable_workers" in page.see("/metrics")
    assert page.get("/metrics", **bearer("of a proxy")).status_code == 200


def test_everybody_reads_them_where_that_is_said(world: World, visit: Visit) -> None:
    page = visit(world.worker(web_metrics_open=True), token=TOKEN)
    assert "durable_workers" in page.see("/metrics")
    assert page.get("/metrics", **bearer("of a proxy")).status_code == 200
    assert page.get("/runs").status_code == 303


def test_a_login_that_lets_nobody_in_lets_nobody_read(world: World, visit: Visit) -> None:
    page = visit(world.worker(web_metrics_token=OWN), login=lambda _: None)
    assert page.get("/metrics").status_code == 401
    assert page.get("/metrics", **bearer(OWN)).status_code == 200
