"""What a worker says when it starts, of its queues, its configuration and its loggers."""

from __future__ import annotations

import logging
import logging.config
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from celery import Celery
from kombu.serialization import registry

from celery_durable import ConfigurationError, Durable, InvalidWorkflow
from celery_durable.worker import process
from celery_durable.worker.configuration import check_configuration
from celery_durable.worker.loggers import enable_loggers
from celery_durable.worker.queues import consumes_durable, warn_of_missing
from tests.integration.driving import World, warnings
from tests.integration.test_worker_life import Ready

NEED = "The workflows of this app need the queues "


def define(durable: Durable) -> None:
    pay = durable.step(str, name="pay", queue="payments")
    durable.workflow("order").step(str, name="reserve").step(pay)


def consuming(world: World, *queues: str, **settings: Any) -> Durable:
    """A worker that consumes these queues."""
    durable = world.worker(define, **settings)
    durable.app.amqp.queues.select(queues)
    process.remember_worker(Ready(durable.app))
    return durable


@pytest.fixture(autouse=True)
def no_worker_is_left_in_the_environment() -> Iterator[None]:
    yield
    os.environ.pop(process._VARIABLE, None)


def test_a_spawned_child_is_known_by_the_environment_of_its_worker(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = consuming(world, "durable", "payments").app
    here = replace(process.surroundings(app), knows=dict)
    vars(app).pop(process._ATTRIBUTE)
    assert not process.is_worker_of(app)

    monkeypatch.setattr(os, "getppid", os.getpid)
    assert process.is_worker_of(app)
    assert replace(process.surroundings(app), knows=dict) == here
    assert here.queues == ("durable", "payments")
    assert not process.is_worker_of(Celery("another", set_as_current=False))

    process.forget_worker(app)
    assert not process.is_worker_of(app)


def test_queues_that_no_running_worker_consumes_are_warned_of_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    here = consuming(world, "celery")
    warn_of_missing(here, here.app)
    (warning,) = warnings(caplog)
    assert warning.startswith(f"{NEED}durable, payments.")
    assert "-Q celery,durable,payments," in warning
    caplog.clear()

    elsewhere = consuming(world, "durable")
    elsewhere.liveness.worker_id()
    warn_of_missing(here, here.app)
    (warning,) = warnings(caplog)
    assert warning.startswith(f"{NEED}payments.")
    caplog.clear()

    elsewhere.liveness.leave()
    warn_of_missing(here, here.app)
    assert warnings(caplog)[0].startswith(f"{NEED}durable, payments.")


@pytest.mark.parametrize("queues", [["durable", "payments"], ["celery", "durable", "payments"]])
def test_a_worker_that_consumes_all_of_them_says_nothing(
    world: World, caplog: pytest.LogCaptureFixture, queues: list[str]
) -> None:
    here = consuming(world, *queues)
    warn_of_missing(here, here.app)
    assert not warnings(caplog)


def test_a_worker_that_starts_checks_and_freezes_the_workflows(world: World) -> None:
    durable = world.worker(define)
    order = durable.workflow("other").step(str, name="a")
    order.step(str, name="b")
    consumes_durable(durable, durable.app)
    with pytest.raises(InvalidWorkflow, match="'other' is frozen"):
        order.step(str, name="c")
    durable.workflow("empty")
    with pytest.raises(InvalidWorkflow, match="'empty' is empty"):
        consumes_durable(durable, durable.app)


def test_an_app_without_workflows_needs_no_queue(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    durable = world.worker()
    warn_of_missing(durable, durable.app)
    assert not warnings(caplog)


def test_the_queues_are_warned_of_while_postgres_is_away(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = consuming(world, "celery", database_url="postgresql://127.0.0.1:1/none")
    warn_of_missing(nowhere, nowhere.app)
    assert warnings(caplog)[-1].startswith(f"{NEED}durable, payments.")


def test_messages_that_the_worker_would_reject_are_refused_at_its_start(world: World) -> None:
    durable = consuming(world, "durable")
    durable.app.conf.accept_content = []
    with pytest.raises(ConfigurationError, match=r"accept_content is .*Add 'json'"):
        check_configuration(durable, durable.app)


def test_a_form_that_nothing_here_can_write_is_refused_at_a_workers_start(world: World) -> None:
    durable = consuming(world, "durable")
    registry.register("t-morse", None, None, "application/x-morse")
    durable.app.conf.accept_content = ["t-morse"]
    try:
        with pytest.raises(ConfigurationError, match=r"cannot be written: .*Add 'json'"):
            check_configuration(durable, durable.app)
    finally:
        registry.unregister("t-morse")


def test_queues_that_are_not_declared_are_refused_where_none_is_made(world: World) -> None:
    durable = world.worker(define)
    durable.app.conf.update(task_create_missing_queues=False, task_queues={"durable": {}})
    with pytest.raises(ConfigurationError, match=r"need the queues payments\. They are not in"):
        check_configuration(durable, durable.app)
    durable.app.amqp.queues.add("payments")
    check_configuration(durable, durable.app)


@pytest.mark.parametrize(
    ("annotations", "named"),
    [
        ({"durable.recover": {"rate_limit": "1/m"}}, "durable.recover"),
        ([{"durable.start": {"expires": 1}}, {"durable.advance": {}}], "durable.advance, durable."),
        ({"*": {"rate_limit": "1/m"}}, None),
        ({"shop.pay": {"rate_limit": "1/m"}}, None),
        (None, None),
    ],
)
def test_annotations_of_our_tasks_are_warned_of(
    world: World, caplog: pytest.LogCaptureFixture, annotations: Any, named: str | None
) -> None:
    durable = world.worker(define)
    durable.app.conf.task_annotations = annotations
    check_configuration(durable, durable.app)
    told = warnings(caplog)
    assert len(told) == (0 if named is None else 1)
    assert named is None or told[0].startswith(f"task_annotations name {named}")


def test_loggers_that_a_configuration_has_silenced_speak_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    others = [one for one in loggers("") if not one.disabled]
    try:
        logging.config.dictConfig({"version": 1})
        silenced = [one for one in loggers("celery_durable") if one.disabled]
        assert logging.getLogger("celery_durable.background.relay") in silenced

        enable_loggers()
        enable_loggers()

        assert not any(one.disabled for one in loggers("celery_durable"))
    finally:
        for one in others:
            one.disabled = False
    (warning,) = warnings(caplog)
    assert warning.startswith(f"The logging configuration had silenced {len(silenced)} loggers")


def loggers(package: str) -> list[logging.Logger]:
    found = logging.Logger.manager.loggerDict.items()
    return [
        one for name, one in found if name.startswith(package) and isinstance(one, logging.Logger)
    ]


@pytest.mark.parametrize("url", ["redis://localhost", "sentinel://a;sentinel://b", "rediss://h"])
def test_a_broker_whose_package_is_missing_is_refused_with_its_name(
    world: World, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """P12: kombu ends with an AttributeError."""
    durable = consuming(world, "durable")
    check_configuration(durable, durable.app)
    monkeypatch.setitem(sys.modules, "redis", None)
    check_configuration(durable, durable.app)
    durable.app.conf.broker_url = url
    with pytest.raises(ConfigurationError, match="pip install redis"):
        check_configuration(durable, durable.app)


def test_a_worker_whose_broker_needs_a_missing_package_exits_in_one_line() -> None:
    program = (
        "import sys; sys.modules['redis'] = None; from celery import Celery;"
        "from celery_durable import Durable; app = Celery('t', broker='redis://localhost:1');"
        "durable = Durable(app); app.worker_main(['worker', '-Q', 'durable', '-P', 'solo'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().endswith("the package redis is not installed: pip install redis")
