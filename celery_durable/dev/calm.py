"""Sets up what the parts log: what happens to runs and tasks, and no line that is always there."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Mapping
from typing import Any

from celery import Celery, signals

from celery_durable.dev.lines import LOG_FORMAT

QUIET_LOGGERS = (
    "celery.apps.worker",
    "celery.beat",
    "celery.worker.consumer.connection",
    "celery.worker.strategy",  # "Task ... received"
    "celery_durable.background.liveness",
)
"""Loggers whose lines of INFO come at each start, or twice for each task."""

_REPORT = re.compile(r"\S+ [0-9a-f-]{36}: .+|\d+ runs of .+", re.DOTALL)
"""What `engine.report` says of a message that has done something."""


def down(app: Celery) -> None:
    """Make this process say little, unless the app sets up logging by itself."""
    app.conf.update(
        worker_log_format=LOG_FORMAT,
        worker_task_log_format=LOG_FORMAT,
        # As a stream that logs, Celery's makes a line of each argument of print().
        worker_redirect_stdouts=False,
    )
    signals.after_setup_logger.connect(_on_setup, weak=False)
    # In a container one often is root.
    warnings.filterwarnings("ignore", message="You're running the worker with superuser")
    # The options of the app are added by each call of Celery's command line in this process.
    warnings.filterwarnings("ignore", message="The parameter .* is used more than once")


def _on_setup(logger: logging.Logger, **_: Any) -> None:
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    for handler in logger.handlers:
        handler.addFilter(_shorten)


def _shorten(record: logging.LogRecord) -> bool:
    """Leave of the end of one of our messages what it has done; False if that is nothing."""
    said = record.args if isinstance(record.args, Mapping) else {}
    result = str(said.get("return_value", ""))
    if _REPORT.fullmatch(result):
        record.msg, record.args = "%s", (result,)
        return True
    return not str(said.get("name", "")).startswith("durable.") and result != "nothing to do"
