"""What becomes of a message of ours when the process that executes it ends."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery import Celery
from celery.concurrency.thread import TaskPool
from kombu.simple import SimpleQueue

from celery_durable import Durable
from celery_durable.worker.request import LastingRequest

NAME = "durable.advance"


@pytest.fixture
def app() -> Celery:
    app = Celery("t", broker="memory://", set_as_current=False)
    Durable(app)
    app.finalize()
    return app


@pytest.fixture
def queue(app: Celery) -> Iterator[SimpleQueue]:
    with app.connection_for_write() as connection:
        app.send_task(NAME, args=["x"], connection=connection)
        with connection.SimpleQueue("durable") as queue:
            yield queue
            queue.clear()


@pytest.fixture
def request_in_hand(app: Celery, queue: SimpleQueue) -> LastingRequest:
    message = queue.get(timeout=5)
    return LastingRequest(
        message,
        app=app,
        task=app.tasks[NAME],
        on_ack=message.ack_log_error,
        on_reject=message.reject_log_error,
        connection_errors=(OSError,),
    )


def raised(error: BaseException) -> Any:
    """The error as the pool hands it over."""
    try:
        raise error  # noqa: TRY301 - a traceback is wanted
    except BaseException:  # noqa: BLE001 - of every kind
        return ExceptionInfo()


@pytest.mark.parametrize(
    "error", [WorkerLostError("signal 9 (SIGKILL)"), SystemExit(1)], ids=["killed", "exits"]
)
def test_a_process_that_ends_costs_one_line_of_warning_and_its_message_comes_again(
    queue: SimpleQueue,
    request_in_hand: LastingRequest,
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
) -> None:
    request_in_hand.on_failure(raised(error))

    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"{NAME}[{request_in_hand.id}]" in record.getMessage()
    assert record.exc_info is None
    assert queue.get(timeout=5).headers["id"] == request_in_hand.id


def test_what_a_message_raises_otherwise_is_an_error_with_its_traceback(
    request_in_hand: LastingRequest, caplog: pytest.LogCaptureFixture
) -> None:
    request_in_hand.on_failure(raised(ValueError("a bug")))

    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info


def test_an_acknowledgement_that_a_lost_connection_takes_is_no_alarm(
    request_in_hand: LastingRequest, caplog: pytest.LogCaptureFixture
) -> None:
    def close(*_: object, **__: object) -> None:
        raise ConnectionResetError

    request_in_hand.message.channel.basic_ack = close
    with caplog.at_level(logging.INFO, logger="celery_durable"):
        request_in_hand.acknowledge()

    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.exc_info is None
    assert "comes again" in record.getMessage()


def test_a_cold_shutdown_of_threads_is_no_unrecoverable_error(
    request_in_hand: LastingRequest,
) -> None:
    """Celery would say so, with a traceback, of what its thread pool cannot do."""
    request_in_hand.on_accepted(0, 0.0)
    with pytest.raises(SystemExit):
        request_in_hand.cancel(TaskPool(1), emit_retry=False)
