"""Log records say which unit logged them, and a worker's lines are of the chosen format."""

from __future__ import annotations

import contextvars
import io
import logging
import threading
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery, current_app
from celery.app.log import TaskFormatter
from celery.utils.log import ColorFormatter

from celery_durable import Durable, RunFilter
from celery_durable.errors import ConfigurationError
from celery_durable.worker.loggers import LogSetup
from tests.unit.executing import executed, workflow
from tests.unit.values import RUN_ID, at

FORMAT = "%(durable_workflow)s %(durable_unit)s %(durable_attempt)s %(durable_run)s: %(message)s"
OUTSIDE = "- - - -: "


@pytest.fixture
def written() -> io.StringIO:
    return io.StringIO()


def logger_with(handler: logging.Handler) -> logging.Logger:
    """A logger that nobody else has."""
    made = logging.getLogger(f"theirs.{uuid4().hex}")
    made.propagate = False
    made.addHandler(handler)
    return made


@pytest.fixture
def logger(written: io.StringIO) -> logging.Logger:
    """A logger that knows nothing of us, with a handler that has the filter."""
    handler = logging.StreamHandler(written)
    handler.addFilter(RunFilter())
    handler.setFormatter(logging.Formatter(FORMAT))
    return logger_with(handler)


def test_a_record_of_a_handler_says_which_unit_logged_it(
    logger: logging.Logger, written: io.StringIO
) -> None:
    executed(workflow(lambda _: logger.warning("charging")), at("charge", attempt=3))
    assert written.getvalue() == f"order charge 3 {RUN_ID}: charging\n"


def test_so_does_that_of_a_coroutine_and_of_a_thread_with_a_copy_of_its_context(
    logger: logging.Logger, written: io.StringIO
) -> None:
    async def charge(_: Any) -> None:
        logger.warning("charging")
        copy = contextvars.copy_context()
        beside = threading.Thread(target=copy.run, args=(logger.warning, "beside"))
        beside.start()
        beside.join()

    executed(workflow(charge), at("charge"))
    assert written.getvalue().splitlines() == [
        f"order charge 1 {RUN_ID}: charging",
        f"order charge 1 {RUN_ID}: beside",
    ]


def test_a_compensator_logs_under_its_own_unit(
    logger: logging.Logger, written: io.StringIO
) -> None:
    made = workflow(lambda _: None, undo=lambda _: logger.warning("undoing"))
    executed(made, at("charge#compensate", rollback="failed"))
    assert written.getvalue().startswith("order charge#compensate 1")


def test_a_record_that_no_unit_has_logged_says_that(
    logger: logging.Logger, written: io.StringIO
) -> None:
    executed(workflow(lambda _: None), at("charge"))
    logger.warning("afterwards")
    assert written.getvalue() == f"{OUTSIDE}afterwards\n"


def test_what_a_record_says_already_stays(logger: logging.Logger, written: io.StringIO) -> None:
    """It may pass several filters, in threads that know nothing of its unit."""
    records: list[logging.LogRecord] = []

    def keep(record: logging.LogRecord) -> bool:
        records.append(record)
        return True

    logger.handlers[0].addFilter(keep)
    executed(workflow(lambda _: logger.warning("charging")), at("charge"))
    (record,) = records
    assert RunFilter().filter(record)
    assert vars(record)["durable_unit"] == "charge"


def celery_handler(stream: io.StringIO, kind: type[ColorFormatter] = ColorFormatter) -> Any:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(kind("celery: %(message)s", use_color=False))
    return handler


def set_up(logger: logging.Logger, chosen: str | None, *, is_current: bool = True) -> None:
    app = Celery("logs", set_as_current=False)
    app.conf.durable_log_format = chosen
    before: Any = current_app
    before = before._get_current_object()
    try:
        if is_current:
            app.set_current()
        LogSetup(app)._on_setup(logger, colorize=False)
    finally:
        before.set_current()


@pytest.mark.parametrize("kind", [ColorFormatter, TaskFormatter])
def test_the_chosen_format_takes_the_place_of_celerys_own(
    written: io.StringIO, kind: type[ColorFormatter]
) -> None:
    logger = logger_with(celery_handler(written, kind))
    set_up(logger, f"%(task_name)s {FORMAT}")
    logger.warning("hello")
    assert written.getvalue() == f"??? {OUTSIDE}hello\n"


def test_without_one_celerys_formats_stay_and_records_have_the_fields(
    written: io.StringIO,
) -> None:
    logger = logger_with(celery_handler(written))
    for _ in range(2):
        set_up(logger, None)
    (handler,) = logger.handlers
    assert len(handler.filters) == 1
    logger.warning("hello")
    assert written.getvalue() == "celery: hello\n"


def test_a_handler_that_the_app_has_made_keeps_its_format(written: io.StringIO) -> None:
    handler = logging.StreamHandler(written)
    handler.setFormatter(logging.Formatter("app %(durable_unit)s: %(message)s"))
    logger = logger_with(handler)
    set_up(logger, FORMAT)
    logger.warning("hello")
    assert written.getvalue() == "app -: hello\n"


def test_the_worker_of_another_app_keeps_its_format(written: io.StringIO) -> None:
    logger = logger_with(celery_handler(written))
    set_up(logger, FORMAT, is_current=False)
    logger.warning("hello")
    assert written.getvalue() == "celery: hello\n"


def test_a_format_that_is_refused_is_refused_with_the_other_settings() -> None:
    app = Celery("logs", set_as_current=False)
    app.conf.update(durable_database_url="postgresql://x/y", durable_log_format="%(durable_x)s")
    with pytest.raises(ConfigurationError, match="durable_x"):
        _ = Durable(app).settings
