"""The web page beside Django in one ASGI application, for the users of the project."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import RedirectResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from celery_durable import Durable
from celery_durable.contrib.django import get_durable
from tests.contrib.projects import DjangoWorld

PASSWORD = "correct horse battery"


@pytest.fixture
def shops(world: DjangoWorld, shop: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Durable]:
    """The Durable of the shop."""
    monkeypatch.setattr("celery_durable.contrib.django.project.current_app", shop.app)
    found: Durable = get_durable()
    world._workers.append(found)
    found.run_factory.forget()
    yield found
    vars(found).pop("engine", None)


@pytest.fixture
def site(shops: Durable, settings_of_django: Any) -> Iterator[TestClient]:
    """A browser at the site: Django, and the page below /durable."""
    from django.core.asgi import get_asgi_application  # noqa: PLC0415

    from celery_durable.contrib.django.login import login  # noqa: PLC0415
    from celery_durable.web import create_app  # noqa: PLC0415

    settings_of_django(
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"], LOGIN_URL="admin:login"
    )
    app = Starlette(
        routes=[
            Mount("/durable", create_app(shops, login=login)),
            Route("/durable", lambda _: RedirectResponse("/durable/")),
            Mount("/", get_asgi_application()),
        ]
    )
    with TestClient(app, base_url="http://localhost", follow_redirects=False) as client:
        yield client


def user(*permissions: str) -> str:
    from django.contrib.auth.models import Permission, User  # noqa: PLC0415

    name = "-".join(permissions) or "nobody"
    found, _ = User.objects.get_or_create(username=name, is_staff=True)
    found.set_password(PASSWORD)
    found.save()
    names = [f"{one}_workflowrun" for one in permissions]
    found.user_permissions.set(Permission.objects.filter(codename__in=names))
    return name


def log_in(site: TestClient, name: str) -> Any:
    form = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', site.get("/admin/login/").text)
    assert form
    fields = {"csrfmiddlewaretoken": form[1], "username": name, "password": PASSWORD}
    return site.post("/admin/login/?next=/durable/runs", data=fields)


def test_who_is_not_logged_in_is_led_to_djangos_login_and_back(site: TestClient) -> None:
    answer = site.get("/durable/runs?status=failed")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/admin/login/?next=/durable/runs%3Fstatus%3Dfailed"
    name = user("view", "change")
    assert log_in(site, name).headers["location"] == "/durable/runs"
    assert name in site.get("/durable/runs").text


def test_who_may_change_runs_acts_as_the_user_of_django(site: TestClient, shops: Durable) -> None:
    name = user("view", "change")
    log_in(site, name)
    run = shops.start("fulfil", {"order": 1})
    path = f"/durable/runs/{run.id}/actions/cancel"
    token = re.search(r'name="csrf_token" value="(\w+)"', site.get(path).text)
    assert token
    answer = site.post(path, data={"csrf_token": token[1]})
    assert answer.headers["location"] == f"/durable/runs/{run.id}"
    (noted,) = shops.actions(run.id)
    assert (noted.name, noted.actor) == ("cancel", name)


def test_who_may_view_runs_looks_and_who_may_nothing_does_not(
    site: TestClient, shops: Durable
) -> None:
    run = shops.start("fulfil", {"order": 1})
    name = user("view")
    log_in(site, name)
    assert "reads only" in site.get(f"/durable/runs/{run.id}").text
    assert site.get(f"/durable/runs/{run.id}/actions/cancel").status_code == 403
    site.cookies.clear()
    log_in(site, user())
    refused = site.get("/durable/runs")
    assert refused.status_code == 403
    assert "nobody lacks the permission" in refused.text


def test_django_has_the_rest_of_the_site(site: TestClient) -> None:
    assert site.get("/admin/login/").status_code == 200
    assert site.get("/runs").status_code == 404
    assert site.get("/durable").headers["location"] == "/durable/"
