"""What `manage.py check` says of the settings."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Error

from celery_durable.contrib.django.project import get_durable
from celery_durable.errors import ConfigurationError


def check_settings(**passed: Any) -> list[CheckMessage]:
    """Called by `manage.py check`, and before `migrate`, `test` and `runserver`."""
    try:
        get_durable().database  # noqa: B018 - it is made of the settings, which are read for it
    except ConfigurationError as error:
        return [Error(str(error), id="durable.E001")]
    return []
