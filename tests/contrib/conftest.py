"""Django in the process of the tests: the project of examples/django_shop, on a database of ours.

Django is set up once for a process. The variable by which Celery knows a Django project is not left
behind: other tests make apps of their own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from celery import _state

from tests.contrib.projects import SHOP, DjangoWorld, database_of
from tests.services import PostgresServer

pytest.importorskip("django")


@pytest.fixture(scope="session")
def shop() -> Any:
    """The package `shop`, with Django set up and nothing connected."""
    before = _state.default_app, _state.get_current_app()
    sys.path.insert(0, str(SHOP))
    os.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"
    try:
        import django  # noqa: PLC0415 - it may be missing

        django.setup()
        import shop.celery as found  # type: ignore[import-not-found]  # noqa: PLC0415
    finally:
        del os.environ["DJANGO_SETTINGS_MODULE"]
        sys.path.remove(str(SHOP))
        _state.default_app = before[0]
        _state._set_current_app(before[1])
    found.app.conf.broker_url = "memory://"
    return found


@pytest.fixture(scope="module")
def django_database_url(
    shop: Any, postgres: PostgresServer, template_database: str
) -> Iterator[str]:
    """One database for the tests of a module, with the tables of the shop and of the library."""
    from django.core.management import call_command  # noqa: PLC0415
    from django.db import connections  # noqa: PLC0415

    with postgres.database("durable_test_django", template_database) as name:
        connections.close_all()  # what another module has left leads elsewhere
        settings = connections["default"].settings_dict
        settings.update(database_of(postgres.url(name)))
        with pytest.MonkeyPatch.context() as patch:
            # Another test may have made an app the current one.
            patch.setattr("celery_durable.contrib.django.project.current_app", shop.app)
            call_command("migrate", verbosity=0)
        yield postgres.url(name)
        connections.close_all()


@pytest.fixture
def world(shop: Any, django_database_url: str) -> Iterator[DjangoWorld]:
    """The database of Django, empty, and the workers on it."""
    with closing(DjangoWorld(django_database_url)) as world:
        yield world


@pytest.fixture
def settings_of_django(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets settings of Django for the time of the test."""
    from django.conf import settings  # noqa: PLC0415
    from django.db import connections  # noqa: PLC0415

    def set_them(**chosen: Any) -> None:
        for name, value in chosen.items():
            monkeypatch.setattr(settings, name, value, raising=False)
        if "USE_TZ" in chosen:
            vars(connections["default"]).pop("timezone", None)
            monkeypatch.setitem(vars(connections["default"]), "timezone", None)

    return set_them
