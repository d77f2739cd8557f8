"""What a Celery task says of its execution, as the options of a step."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from kombu.entity import Queue

from celery_durable import InvalidWorkflow, RetryPolicy, StepTimeout
from celery_durable.core.retry import UNLIMITED
from celery_durable.ordinary.task_options import options_of
from celery_durable.workflow.options import Options


class Busy(Exception):
    pass


class VeryBusy(Busy):
    pass


def options(conf: dict[str, Any] | None = None, **said: Any) -> Options:
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.update(conf or {})

    priority = said.pop("priority", None)

    @app.task(name="shop.mail", shared=False, **said)
    def mail() -> None: ...

    task = app.tasks["shop.mail"]
    if priority is not None:
        task.priority = priority  # Celery deprecates it among the options
    return options_of(task)


def fixed(attempts: int, wait: float) -> RetryPolicy:
    return RetryPolicy(
        attempts, "fixed", initial=wait, maximum=wait, jitter=False, retry_on=(Busy,)
    )


@pytest.mark.parametrize(
    ("said", "policy"),
    [
        ({}, RetryPolicy(1)),
        ({"max_retries": 7}, RetryPolicy(1)),
        ({"autoretry_for": (Busy,)}, fixed(4, 180)),
        ({"autoretry_for": (Busy,), "max_retries": 0}, fixed(1, 180)),
        ({"autoretry_for": [Busy], "max_retries": None}, fixed(UNLIMITED, 180)),
        ({"autoretry_for": (Busy,), "default_retry_delay": 5}, fixed(4, 5)),
        (
            {"autoretry_for": (Busy,), "retry_kwargs": {"max_retries": 9, "countdown": 2}},
            fixed(10, 2),
        ),
        (
            {"autoretry_for": (Busy,), "dont_autoretry_for": (VeryBusy,), "retry_backoff": True},
            RetryPolicy(4, maximum=600, retry_on=(Busy,), give_up_on=(VeryBusy,)),
        ),
        (
            {
                "autoretry_for": (Busy,),
                "retry_backoff": 5,
                "retry_backoff_max": 70,
                "retry_jitter": False,
            },
            RetryPolicy(4, initial=5, maximum=70, jitter=False, retry_on=(Busy,)),
        ),
    ],
)
def test_autoretry_and_its_options_are_a_retry_policy(
    said: dict[str, Any], policy: RetryPolicy
) -> None:
    assert options(**said).retry == policy


def test_a_time_limit_that_is_retried_is_ours() -> None:
    retry = options(autoretry_for=(SoftTimeLimitExceeded,)).retry
    assert retry is not None
    assert retry.retries(StepTimeout())
    assert not retry.retries(Busy())


@pytest.mark.parametrize(
    ("conf", "said", "expected"),
    [
        ({}, {}, (None, None, None)),
        ({}, {"time_limit": 30}, (30, None, None)),
        ({}, {"soft_time_limit": 20, "time_limit": 30}, (20, None, None)),
        ({"task_soft_time_limit": 9}, {}, (9, None, None)),
        ({"task_routes": {"shop.*": "mail"}}, {}, (None, "mail", None)),
        ({"task_routes": {"shop.*": {"queue": Queue("mail")}}}, {}, (None, "mail", None)),
        ({"task_routes": ({"a.*": "a"}, lambda *_, **__: "mail")}, {}, (None, "mail", None)),
        ({"task_default_priority": 3}, {}, (None, None, 3)),
        ({"task_default_priority": 3}, {"priority": 5}, (None, None, 5)),
    ],
)
def test_limits_routes_and_priorities_are_those_under_which_the_task_is_sent(
    conf: dict[str, Any], said: dict[str, Any], expected: tuple[Any, Any, Any]
) -> None:
    found = options(conf, **said)
    assert (found.timeout, found.queue, found.priority) == expected


@pytest.mark.parametrize(
    ("conf", "said", "words"),
    [
        ({"task_routes": {"shop.*": {"exchange": "news"}}}, {}, "exchange 'news'.*say queue="),
        ({}, {"priority": 999}, "task shop.mail: priority= takes .* say another for the step"),
    ],
)
def test_an_option_that_a_step_cannot_have_is_refused(
    conf: dict[str, Any], said: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidWorkflow, match=words):
        options(conf, **said)
