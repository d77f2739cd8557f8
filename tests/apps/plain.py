"""An ordinary Celery app that knows nothing of durable workflows."""

from celery import Celery
from celery.utils.log import get_task_logger

from tests.apps import configure

app = configure(Celery("plain"))
app.conf.task_acks_late = True
app.conf.task_reject_on_worker_lost = True
app.conf.beat_schedule = {"greet": {"task": "plain.greet", "schedule": 0.2, "args": ["beat"]}}

logger = get_task_logger(__name__)


@app.task(name="plain.greet")
def greet(name: str) -> None:
    """Leave a line in the worker's log."""
    logger.info("hello %s", name)
