"""The tables of the first release."""

from django.db import migrations

from celery_durable.contrib.django.revision import Revision


class Migration(migrations.Migration):
    initial = True
    atomic = False  # the library's own migration has a transaction of its own
    operations = [Revision("0001")]
