"""Celery apps that worker processes under test import by name.

`configure` gives each of them the broker of the test, which the test hands over in the environment.
"""

import json
import os
from collections.abc import Mapping

from celery import Celery

TRANSPORT_OPTIONS = "TEST_TRANSPORT_OPTIONS"
QUEUE = "TEST_QUEUE"


def configure(app: Celery, environ: Mapping[str, str] = os.environ) -> Celery:
    """Set the app up as `tests.transports.Broker.env` says.

    The broker's URL needs no line here: Celery reads ``CELERY_BROKER_URL`` itself.
    """
    queue = environ.get(QUEUE, "celery")
    app.conf.update(
        broker_transport_options=json.loads(environ.get(TRANSPORT_OPTIONS, "{}")),
        broker_connection_retry_on_startup=True,
        task_default_queue=queue,
        durable_queue=queue,
    )
    return app
