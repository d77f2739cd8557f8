"""Joining a Celery app at any time, and what the app's configuration is to our tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery, shared_task
from celery.app.task import Task
from kombu.serialization import dumps

from celery_durable import Durable
from celery_durable.worker.tasks import OWN_OPTIONS

OURS = ("durable.advance", "durable.compensate", "durable.recover", "durable.start")


def new_app(**conf: Any) -> Celery:
    app = Celery("t", broker="memory://", set_as_current=False)
    app.conf.update(conf)
    return app


def queue_of(app: Celery, task: str) -> str:
    """Where a message of the task goes that names no queue."""
    return str(app.amqp.router.route({}, task)["queue"].name)


def untouched(app: Celery) -> None:
    """Nobody has looked at the app."""


def configured(app: Celery) -> None:
    assert app.conf.task_routes is None


def finalized(app: Celery) -> None:
    app.finalize()


def routed(app: Celery) -> None:
    assert queue_of(app, "durable.start") == "celery"


MOMENTS = [untouched, configured, finalized, routed]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("task", OURS)
def test_our_tasks_go_to_our_queue_whenever_the_app_is_joined(
    moment: Callable[[Celery], None], task: str
) -> None:
    app = new_app()
    moment(app)
    durable = Durable()
    app.conf.durable_queue = "engine"
    durable.init_app(app)
    app.finalize()
    assert queue_of(app, task) == "engine"
    assert queue_of(app, "shop.other") == "celery"
    assert task in app.tasks


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("routes", [{"durable.*": "mine"}, [{"durable.start": {"queue": "mine"}}]])
def test_a_route_of_the_users_goes_first(moment: Callable[[Celery], None], routes: Any) -> None:
    app = new_app()
    moment(app)
    app.conf.task_routes = routes
    Durable(app)
    assert queue_of(app, "durable.start") == "mine"


def test_routes_that_are_set_after_joining_leave_ours() -> None:
    app = new_app()
    Durable(app)
    assert app.conf.task_routes is not None
    app.conf.task_routes = {"shop.*": "shop"}
    app.finalize()
    assert queue_of(app, "durable.start") == "durable"
    assert queue_of(app, "shop.pay") == "shop"


def test_a_configuration_that_is_read_again_has_our_route_once() -> None:
    app = new_app()
    Durable(app)
    assert len(app.conf.task_routes) == 1
    app.config_from_object({"durable_queue": "engine"}, force=True)
    app.finalize()
    assert len(app.conf.task_routes) == 1
    assert queue_of(app, "durable.start") == "engine"


def test_a_task_in_the_middle_of_a_chain_freezes_nothing() -> None:
    app = Celery("lazy", broker="memory://")
    durable = Durable(app)

    @shared_task(name="shop.notify")
    def notify(order: str) -> None: ...

    workflow = durable.workflow("order").step(str, name="first")
    workflow.step(notify, args=lambda ctx: (ctx.input,))
    assert not app.finalized
    workflow.step(str, name="last")
    assert workflow.steps == ("first", "notify", "last")


EVERY_DEFAULT: dict[str, Any] = {
    "task_acks_late": False,
    "task_acks_on_failure_or_timeout": False,
    "task_reject_on_worker_lost": False,
    "task_default_rate_limit": "1/m",
    "task_default_priority": 3,
    "task_time_limit": 1,
    "task_soft_time_limit": 1,
    "task_track_started": True,
    "task_ignore_result": False,
    "task_store_eager_result": True,
    "task_store_errors_even_if_ignored": True,
    "task_serializer": "pickle",
}


class EagerToDrop(Task):
    """An app's own base class, with options for the tasks of its users."""

    acks_late = False
    acks_on_failure = acks_on_timeout = acks_on_failure_or_timeout = False
    reject_on_worker_lost = False
    retry_on_worker_lost = True
    ignore_result = False
    store_errors_even_if_ignored = store_eager_result = track_started = True
    max_retries = 1
    autoretry_for = (Exception,)
    throws = (KeyError,)
    rate_limit = "1/m"
    expires = 1
    time_limit = soft_time_limit = 1
    priority = 9
    queue = exchange = routing_key = "elsewhere"
    exchange_type = "topic"
    delivery_mode = 1
    compression = "gzip"
    immediate = mandatory = True
    Strategy = "shop.batches:Strategy"
    Request = "shop.batches:Request"
    serializer = "pickle"

    greeting = "hello"

    def __call__(self, *_: Any, **__: Any) -> Any:
        return self.greeting


def annotated(app: Celery) -> None:
    options = {name: value for name, value in vars(EagerToDrop).items() if name in OWN_OPTIONS}
    app.conf.task_annotations = {"*": options}


def based(app: Celery) -> None:
    app.task_cls = EagerToDrop


def set_up(app: Celery) -> None:
    app.conf.update(EVERY_DEFAULT)


def named(app: Celery) -> None:
    options = {"rate_limit": "1/m", "expires": 1}
    app.conf.task_annotations = dict.fromkeys(OURS, options)


@pytest.mark.parametrize("default", [set_up, based, annotated, named])
@pytest.mark.parametrize("task", OURS)
def test_our_tasks_have_the_options_they_are_made_for_whatever_the_apps_defaults_are(
    default: Callable[[Celery], None], task: str
) -> None:
    app = new_app()
    default(app)
    Durable(app)
    ours = app.tasks[task]
    own = {**OWN_OPTIONS, "serializer": "json", "ignore_result": task != "durable.start"}
    assert {name: getattr(ours, name) for name in own} == own
    sent = {name: value for name, value in ours._get_exec_options().items() if value is not None}
    assert sent == {"serializer": "json"}


def test_every_option_that_celery_takes_from_the_app_is_one_we_have() -> None:
    """A Celery that is newer may know more of them."""
    Durable(app := new_app())
    sent: dict[str, Any] = app.tasks["durable.advance"]._get_exec_options()
    assert {*sent, *(name for name, _ in Task.from_config)} <= {*OWN_OPTIONS, "serializer"}
    assert {name for name in OWN_OPTIONS if not hasattr(EagerToDrop, name)} == set()


@pytest.mark.parametrize("task", ["durable.advance", "durable.compensate"])
@pytest.mark.parametrize("token_id", ["nope", 5, None, [1]])
def test_a_message_that_names_no_token_is_a_line_in_the_log(
    task: str, token_id: object, caplog: pytest.LogCaptureFixture
) -> None:
    Durable(app := new_app())
    app.tasks[task](token_id)
    (record,) = caplog.records
    assert record.getMessage() == f"A message {task} names no token: {token_id!r}; it is dropped"


def test_the_context_of_an_apps_own_base_class_is_around_our_tasks_too() -> None:
    app = new_app()
    app.task_cls = EagerToDrop
    Durable(app)
    assert app.tasks["durable.advance"]("not a token") == "hello"


@pytest.mark.parametrize(
    ("conf", "serializer"),
    [
        ({}, "json"),
        ({"accept_content": ["pickle", "application/json"], "task_serializer": "pickle"}, "json"),
        ({"accept_content": ["pickle"]}, "pickle"),
        ({"accept_content": ["application/x-python-serialize"]}, "pickle"),
        ({"accept_content": ["yaml", "pickle"], "task_serializer": "pickle"}, "pickle"),
        ({"accept_content": None}, "json"),
    ],
)
def test_our_messages_are_of_a_form_that_the_app_accepts(
    conf: dict[str, Any], serializer: str
) -> None:
    app = new_app(**conf)
    Durable(app)
    assert app.tasks["durable.start"].serializer == serializer
    content_type, _, _ = dumps([["a token"], {}, {}], serializer)
    assert app.conf.accept_content is None or {serializer, content_type} & {
        *app.conf.accept_content
    }
