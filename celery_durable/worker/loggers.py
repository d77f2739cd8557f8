"""What a worker's log has of ours: our loggers, the unit that logged a line, the format."""

from __future__ import annotations

import logging
from typing import Any

from celery import Celery, current_app, signals
from celery.app.log import TaskFormatter
from celery.utils.log import ColorFormatter

from celery_durable.settings import log_format
from celery_durable.workflow.logs import RunFilter

logger = logging.getLogger(__name__)

PACKAGE = "celery_durable"


class LogSetup:
    """Handles the signals by which Celery says that it has set up the handlers of a worker.

    It sends none where the app configures logging itself (`setup_logging`); there `RunFilter` is
    for the app to add. The signals do not say whose worker it is: it has made its app the current
    one.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app

    def connect(self) -> None:
        """Connect the handlers for as long as the process lives."""
        signals.after_setup_logger.connect(self._on_setup, weak=False)
        signals.after_setup_task_logger.connect(self._on_setup, weak=False)

    def _on_setup(self, logger: logging.Logger, colorize: bool | None = None, **_: Any) -> None:
        """Called with the logger whose handlers Celery has made."""
        is_ours = current_app == self._app
        chosen = log_format(self._app.conf) if is_ours else None
        for handler in logger.handlers:
            if not any(isinstance(one, RunFilter) for one in handler.filters):
                handler.addFilter(RunFilter())
            if chosen is not None and isinstance(handler.formatter, ColorFormatter):
                dates = handler.formatter.datefmt
                handler.setFormatter(TaskFormatter(chosen, use_color=bool(colorize)))
                handler.formatter.datefmt = dates


def enable_loggers() -> None:
    """Enable the library's loggers again, with one warning.

    `dictConfig` and `fileConfig` disable every logger that exists and is not named in them, unless
    `disable_existing_loggers` is False. Nobody silences a library on purpose this way.
    """
    silenced = [
        found
        for name, found in logging.Logger.manager.loggerDict.items()
        if isinstance(found, logging.Logger) and f"{name}.".startswith(f"{PACKAGE}.")
        if found.disabled
    ]
    for found in silenced:
        found.disabled = False
    if silenced:
        logger.warning(
            "The logging configuration had silenced %d loggers of %s, which are enabled again: set"
            " disable_existing_loggers to False in it",
            len(silenced),
            PACKAGE,
        )
