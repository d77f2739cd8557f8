"""The Celery app whose page is asked for; it has neither workers nor a broker."""

from __future__ import annotations

import os

from celery import Celery

from celery_durable import Durable

app = Celery("page", broker="memory://")
app.conf.durable_database_url = os.environ["PAGE_DATABASE_URL"]
app.conf.durable_web_token = os.environ["PAGE_TOKEN"]
durable = Durable(app)
