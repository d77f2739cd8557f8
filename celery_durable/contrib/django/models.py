"""`WorkflowRun` and `WorkflowUnit`: models over the views, to query and to join; and for the admin.

Django neither makes nor changes what is behind them. What is done to a run is done through
`Durable`.
"""

from __future__ import annotations

from typing import Any, NoReturn
from uuid import UUID

from django.conf import settings
from django.db import models

from celery_durable.contrib.django.json_field import Payload, StoredJson
from celery_durable.core.status import Status
from celery_durable.errors import ConfigurationError
from celery_durable.store.read.exposed import RUN_VIEW, UNIT_VIEW

STATUSES = [(str(one), str(one)) for one in Status]


def name_in_schema(view: str) -> str:
    """Return the name of a view, with the schema of `durable_schema` if that is not `public`."""
    spelled = [name for name in dir(settings) if name.endswith("DURABLE_SCHEMA")]
    schema = next((str(getattr(settings, name)) for name in spelled), "public")
    # Django puts quotes around the whole.
    return view if schema == "public" else f'{schema}"."{view}'


def refuse_to_write(*_: object, **__: object) -> NoReturn:
    """Raise `ConfigurationError`: who writes is told what to call instead."""
    raise ConfigurationError(
        "WorkflowRun and WorkflowUnit are there to read. Start a run with workflow.start(); change"
        " one with durable.cancel(), resume(), retry() or skip(); prune() deletes runs."
    )


class ReadOnly(models.QuerySet):
    """Rows of a view: nothing of what writes does."""

    create = update = delete = bulk_create = bulk_update = refuse_to_write
    get_or_create = update_or_create = refuse_to_write


class Exposed(models.Manager):
    """Finds rows in the database that has the tables, whatever routers say."""

    def get_queryset(self) -> Any:
        """Return all rows. The result of a run is put together when it is asked for."""
        # Models are imported while apps are still being set up.
        from celery_durable.contrib.django.project import alias_of_project  # noqa: PLC0415

        rows = ReadOnly(self.model, using=alias_of_project())
        return rows.defer("result") if self.model is WorkflowRun else rows


class WorkflowRun(models.Model):
    """A run, as `durable.status()` shows it.

    `stored_status` is `running` for suspended, sleeping and paused runs, and the same as `status`
    for others. It has an index: filter by both.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    workflow = models.TextField(editable=False)
    version = models.IntegerField(editable=False)
    status = models.TextField(editable=False, choices=STATUSES)
    stored_status = models.TextField(editable=False)
    key = models.TextField(null=True, editable=False)
    tags = models.JSONField(editable=False)
    current = StoredJson(editable=False)
    since = models.DateTimeField(null=True, editable=False)
    awaiting = StoredJson(editable=False)
    wake_at = models.DateTimeField(null=True, editable=False)
    input = Payload(editable=False)
    result = Payload(null=True, editable=False)
    error = StoredJson(null=True, editable=False)
    parent = models.ForeignKey(
        "self",
        on_delete=models.DO_NOTHING,
        related_name="children",
        db_column="parent_run_id",
        db_constraint=False,
        null=True,
        editable=False,
    )
    forked_from = models.UUIDField(null=True, editable=False)
    retried_as = models.UUIDField(null=True, editable=False)
    cancel_requested_at = models.DateTimeField(null=True, editable=False)
    cancel_reason = models.TextField(null=True, editable=False)
    times_out_at = models.DateTimeField(null=True, editable=False)
    expires_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(editable=False)
    started_at = models.DateTimeField(null=True, editable=False)
    updated_at = models.DateTimeField(editable=False)
    finished_at = models.DateTimeField(null=True, editable=False)

    objects = Exposed()
    save = delete = refuse_to_write

    class Meta:
        """A view that is not Django's; `view` looks at runs, and `change` acts on them."""

        managed = False
        db_table = name_in_schema(RUN_VIEW)
        default_permissions = ("view", "change")
        ordering = ("-id",)
        verbose_name = "run"

    def __str__(self) -> str:
        return f"{self.workflow} {self.key or self.id}"


class WorkflowUnit(models.Model):
    """A unit that has ended, as `durable.history()` shows it."""

    seq = models.BigIntegerField(primary_key=True, editable=False)
    run = models.ForeignKey(
        WorkflowRun,
        on_delete=models.DO_NOTHING,
        related_name="units",
        db_constraint=False,
        editable=False,
    )
    run_id: UUID  # the column of `run`
    unit = models.TextField(editable=False)
    node = models.TextField(editable=False)
    branch = models.TextField(null=True, editable=False)
    position = models.IntegerField(null=True, editable=False)
    outcome = models.TextField(editable=False)
    attempt = models.IntegerField(editable=False)
    result = Payload(null=True, editable=False)
    error = StoredJson(null=True, editable=False)
    failures = StoredJson(editable=False)
    worker = models.UUIDField(null=True, editable=False)
    child_run_id = models.UUIDField(null=True, editable=False)
    started_at = models.DateTimeField(editable=False)
    finished_at = models.DateTimeField(editable=False)

    objects = Exposed()
    save = delete = refuse_to_write

    class Meta:
        """A view that is not Django's."""

        managed = False
        db_table = name_in_schema(UNIT_VIEW)
        default_permissions = ("view",)
        ordering = ("seq",)
        verbose_name = "unit"

    def __str__(self) -> str:
        return f"{self.unit} of {self.run_id}"
