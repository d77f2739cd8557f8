"""What people do to runs, who may answer a wait, and the traces that lead to runs and signals."""

from django.db import migrations

from celery_durable.contrib.django.revision import Revision


class Migration(migrations.Migration):
    dependencies = [("durable", "0002_functions_and_views")]
    atomic = False  # the library's own migration has a transaction of its own
    operations = [Revision("0003")]
