"""The Django app `celery_durable.contrib.django`."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks
from django.db import connections
from django.db.models.signals import post_migrate
from django.utils.module_loading import autodiscover_modules

from celery_durable.contrib.django.checks import check_settings
from celery_durable.contrib.django.connections import project_names
from celery_durable.contrib.django.emptying import empty_if_flushed, let_go_before_destroyed
from celery_durable.contrib.django.framework import framework_of
from celery_durable.worker.host import finders


class DurableConfig(AppConfig):
    """Makes Durables at home in Django, and imports the module `workflows` of every app."""

    name = "celery_durable.contrib.django"
    label = "durable"
    verbose_name = "Durable workflows"

    def ready(self) -> None:
        """Called once, when Django is set up and all models are loaded."""
        project_names.update(
            {alias: connections[alias].settings_dict["NAME"] for alias in connections}
        )
        if framework_of not in finders:
            finders.append(framework_of)
        checks.register(check_settings, checks.Tags.database)
        post_migrate.connect(empty_if_flushed, sender=self)
        for alias in connections:
            let_go_before_destroyed(connections[alias].creation)
        autodiscover_modules("workflows")
