"""The view of signed links in Django."""

from __future__ import annotations

from urllib.parse import urljoin

import pytest
from django.test import Client, override_settings
from django.urls import include, path
from pydantic import BaseModel

from celery_durable import Durable
from tests.contrib.projects import DjangoWorld

FORM = "application/x-www-form-urlencoded"
URL = "https://shop.example.com/durable"

urlpatterns = [path("durable/", include("celery_durable.contrib.django.urls"))]


class Approval(BaseModel):
    ok: bool


@pytest.fixture
def durable(world: DjangoWorld, monkeypatch: pytest.MonkeyPatch) -> Durable:
    """The Durable of the project."""

    def define(durable: Durable) -> None:
        workflow = durable.workflow("order")
        workflow.step(lambda ctx: ctx.callback_url("signoff"), name="ask")
        workflow.wait_for_signal("signoff", schema=Approval)

    found = world.worker(define, web_secret="a secret of the tests", web_url=URL)
    monkeypatch.setattr("celery_durable.contrib.django.links.get_durable", lambda: found)
    return found


@pytest.fixture
def client() -> Client:
    return Client(enforce_csrf_checks=True)


@override_settings(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"])
def test_a_link_asks_and_is_answered_without_a_cookie(
    world: DjangoWorld, durable: Durable, client: Client
) -> None:
    run = durable.start("order")
    world.drain(durable)
    link = str(run.status().results["ask"]).removeprefix("https://shop.example.com")
    opened = client.get(link)
    assert opened.status_code == 200
    assert "style-src 'sha256-" in opened.headers["Content-Security-Policy"]
    assert world.counts()["inbox"] == 0
    sent = client.post(link, "sent=1&data.ok=yes", content_type=FORM)
    assert sent.status_code == 303
    thanked = client.get(urljoin(link, sent.headers["Location"]))
    assert "Thank you: this is answered." in thanked.content.decode()
    again = client.post(link, "sent=1&data.ok=yes", content_type=FORM)
    assert "This was answered already." in again.content.decode()
    assert client.post(link, '{"ok": true}', content_type="application/json").status_code == 415
    assert client.put(link).status_code == 405
    world.drain(durable)
    assert run.result(0)["signoff"] == Approval(ok=True)


@override_settings(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"])
def test_a_wrong_link_is_refused(durable: Durable, client: Client) -> None:
    assert client.get("/durable/callback/a.b").status_code == 404
