"""Finds the Durable of the project."""

from __future__ import annotations

from typing import Any

from celery import current_app
from celery.app.utils import find_app
from django.conf import settings

from celery_durable.durable import Durable
from celery_durable.errors import ConfigurationError


def get_durable() -> Durable:
    """Return the `Durable` of the project's Celery app.

    That is the current app; where none is imported yet, that of `celery.py` beside Django's
    settings. Raises `ConfigurationError` if neither has a Durable.
    """
    found = getattr(current_app, "durable", None)
    if found is None:
        found = getattr(_app_beside_the_settings(), "durable", None)
    if not isinstance(found, Durable):
        raise ConfigurationError(
            "No Celery app with durable workflows is found. Import yours in the __init__.py of the"
            " project, as Celery's documentation has it, and where the app is made, add:"
            " durable = Durable(app)"
        )
    return found


def _app_beside_the_settings() -> Any:
    """Return the Celery app of the package that Django's settings are in; None without one."""
    package = str(getattr(settings, "SETTINGS_MODULE", "")).partition(".")[0]
    if not package:
        return None
    try:
        return find_app(package)
    except (ImportError, AttributeError):
        return None


def alias_of_project() -> str:
    """Return the alias of the database that has the tables of the project.

    Raises `ConfigurationError` if the project's Durable has a URL of its own.
    """
    alias = getattr(get_durable().framework, "alias", None)
    if not isinstance(alias, str):
        raise ConfigurationError(
            "The Durable of this project has a durable_database_url of its own, which Django does"
            " not know. Remove the setting, or take celery_durable.contrib.django out of"
            " INSTALLED_APPS."
        )
    return alias
