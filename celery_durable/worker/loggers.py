"""Enables our loggers where a logging configuration has disabled them by mistake."""

from __future__ import annotations

import logging

logger = logging.getLogger(__name__)

PACKAGE = "celery_durable"


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
