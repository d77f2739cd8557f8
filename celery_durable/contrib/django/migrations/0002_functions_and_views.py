"""Functions for SQL, and the views that the models show."""

from django.db import migrations, models

from celery_durable.contrib.django.json_field import Payload, StoredJson
from celery_durable.contrib.django.models import STATUSES, name_in_schema
from celery_durable.contrib.django.revision import Revision
from celery_durable.store.read.exposed import RUN_VIEW, UNIT_VIEW


class Migration(migrations.Migration):
    dependencies = [("durable", "0001_first_release")]
    atomic = False  # the library's own migration has a transaction of its own
    operations = [
        Revision("0002"),
        migrations.CreateModel(
            name="WorkflowRun",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("workflow", models.TextField(editable=False)),
                ("version", models.IntegerField(editable=False)),
                ("status", models.TextField(choices=STATUSES, editable=False)),
                ("stored_status", models.TextField(editable=False)),
                ("key", models.TextField(editable=False, null=True)),
                ("tags", models.JSONField(editable=False)),
                ("current", StoredJson(editable=False)),
                ("since", models.DateTimeField(editable=False, null=True)),
                ("awaiting", StoredJson(editable=False)),
                ("wake_at", models.DateTimeField(editable=False, null=True)),
                ("input", Payload(editable=False)),
                ("result", Payload(editable=False, null=True)),
                ("error", StoredJson(editable=False, null=True)),
                ("forked_from", models.UUIDField(editable=False, null=True)),
                ("retried_as", models.UUIDField(editable=False, null=True)),
                ("cancel_requested_at", models.DateTimeField(editable=False, null=True)),
                ("cancel_reason", models.TextField(editable=False, null=True)),
                ("times_out_at", models.DateTimeField(editable=False, null=True)),
                ("expires_at", models.DateTimeField(editable=False, null=True)),
                ("created_at", models.DateTimeField(editable=False)),
                ("started_at", models.DateTimeField(editable=False, null=True)),
                ("updated_at", models.DateTimeField(editable=False)),
                ("finished_at", models.DateTimeField(editable=False, null=True)),
            ],
            options={
                "verbose_name": "run",
                "db_table": name_in_schema(RUN_VIEW),
                "ordering": ("-id",),
                "managed": False,
                "default_permissions": ("view", "change"),
            },
        ),
        migrations.CreateModel(
            name="WorkflowUnit",
            fields=[
                ("seq", models.BigIntegerField(editable=False, primary_key=True, serialize=False)),
                ("unit", models.TextField(editable=False)),
                ("node", models.TextField(editable=False)),
                ("branch", models.TextField(editable=False, null=True)),
                ("position", models.IntegerField(editable=False, null=True)),
                ("outcome", models.TextField(editable=False)),
                ("attempt", models.IntegerField(editable=False)),
                ("result", Payload(editable=False, null=True)),
                ("error", StoredJson(editable=False, null=True)),
                ("failures", StoredJson(editable=False)),
                ("worker", models.UUIDField(editable=False, null=True)),
                ("child_run_id", models.UUIDField(editable=False, null=True)),
                ("started_at", models.DateTimeField(editable=False)),
                ("finished_at", models.DateTimeField(editable=False)),
            ],
            options={
                "verbose_name": "unit",
                "db_table": name_in_schema(UNIT_VIEW),
                "ordering": ("seq",),
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
    ]
