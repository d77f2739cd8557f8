"""An app with a workflow that waits, whose page is served by `durable web`."""

import os

from celery import Celery

from celery_durable import Durable

DATABASE_URL = "TEST_PAGE_DATABASE_URL"
TOKEN = "TEST_PAGE_TOKEN"

app = Celery("paged", broker="memory://")
app.conf.update(
    durable_database_url=os.environ.get(DATABASE_URL),
    durable_web_token=os.environ.get(TOKEN),
)
durable = Durable(app)


def define(durable: Durable) -> None:
    """One workflow, for the app and for the test."""
    durable.workflow("waits").wait_for_signal("signoff", "go")


define(durable)
