"""What a relay publishes: hints that show their runs, and tasks of the user's as `delay` would."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from celery_durable import Durable
from celery_durable.core.status import Status
from celery_durable.worker.publisher import MOST_SHOWN, shown
from celery_durable.workflow.hooks import task_id_of
from tests.integration.driving import World, defining
from tests.integration.relaying import Relays, drain, publishes, taken_from, worker_on
from tests.transports import Broker, RabbitMQBroker


def worker_with_hook(
    world: World, broker: Broker, *, immutable: bool = False, **options: Any
) -> Durable:
    """A worker whose workflow sends the task `tell` at the end of its runs."""

    def define(durable: Durable) -> None:
        done = durable.app.signature("tell", args=("ops",), options=options, immutable=immutable)
        durable.workflow("w", on_completed=done).step(lambda _: None, name="a")

    return worker_on(broker, world, define)


def test_a_hint_shows_its_run_in_place_of_its_token(
    world: World, relays: Relays, rabbitmq_broker: RabbitMQBroker
) -> None:
    durable = worker_on(rabbitmq_broker, world, defining([], "a"))
    run = durable.start("w", {})
    drain(relays.of(durable))
    (message,) = taken_from(rabbitmq_broker, rabbitmq_broker.queue())
    assert (message["shadow"], message["argsrepr"]) == ("w.a", f"(run {run.id})")
    assert UUID(message["args"][0]) == world.token_id(run)


def test_a_bundle_shows_the_runs_of_all_its_tokens(
    world: World, relays: Relays, rabbitmq_broker: RabbitMQBroker
) -> None:
    durable = worker_on(rabbitmq_broker, world, defining([], "a"), bundle=4)
    runs = durable.start_many("w", [None] * 8)
    drain(relays.make(durable, relays.of(durable)._publisher, bundles=True))
    messages = taken_from(rabbitmq_broker, rabbitmq_broker.queue())
    assert [len(message["args"]) for message in messages] == [4, 4]
    named = ", ".join(str(run.id) for run in runs[:4])
    assert messages[0]["argsrepr"] == f"(runs {named})"


def test_of_many_runs_a_message_names_the_first() -> None:
    runs = tuple(UUID(int=number) for number in range(MOST_SHOWN + 5))
    assert shown(runs).endswith(f"{UUID(int=MOST_SHOWN - 1)} and 5 more)")


def test_a_task_is_published_once_with_the_id_that_it_always_has(
    world: World, relays: Relays, rabbitmq_broker: RabbitMQBroker
) -> None:
    durable = worker_with_hook(world, rabbitmq_broker)
    run = durable.start("w", {})
    world.drain(durable)
    drain(relays.of(durable))
    (message,) = taken_from(rabbitmq_broker, rabbitmq_broker.queue())
    assert (message["task"], message["args"]) == ("tell", [str(run.id), "ops"])
    assert message["id"] == task_id_of(run.id, Status.COMPLETED)
    assert "durable_origin" not in message
    assert world.hints() == 0


def test_the_apps_routes_say_where_a_task_goes(
    world: World, relays: Relays, rabbitmq_broker: RabbitMQBroker
) -> None:
    durable = worker_with_hook(world, rabbitmq_broker)
    durable.app.conf.task_routes = {"tell": {"queue": rabbitmq_broker.queue("routed")}}
    durable.start("w", {})
    world.drain(durable)
    drain(relays.of(durable))
    assert len(taken_from(rabbitmq_broker, rabbitmq_broker.queue("routed"))) == 1


def test_the_options_of_a_task_hold_unless_its_signature_has_others(
    world: World, relays: Relays, rabbitmq_broker: RabbitMQBroker
) -> None:
    durable = worker_with_hook(world, rabbitmq_broker, priority=3)

    @durable.app.task(name="tell", shared=False, priority=7, time_limit=60, compression="gzip")
    def tell(*_: Any) -> None:
        """What is sent."""

    durable.start("w", {})
    world.drain(durable)
    drain(relays.of(durable))
    (message,) = taken_from(rabbitmq_broker, rabbitmq_broker.queue())
    assert (message["priority"], message["timelimit"]) == (3, [60, None])
    assert message["compression"] == "application/x-gzip"


@pytest.mark.parametrize(("options", "ignored"), [({}, False), ({"ignore_result": True}, True)])
def test_the_worker_of_a_task_keeps_its_result_where_the_task_says_so(
    world: World,
    relays: Relays,
    rabbitmq_broker: RabbitMQBroker,
    options: dict[str, Any],
    ignored: bool,
) -> None:
    """And the relay subscribes to none: nobody in its process waits for it."""
    durable = worker_with_hook(world, rabbitmq_broker, **options)
    durable.app.conf.result_backend = "redis://127.0.0.1:1/0"  # nobody is there
    durable.start("w", {})
    world.drain(durable)
    drain(relays.of(durable))
    (message,) = taken_from(rabbitmq_broker, rabbitmq_broker.queue())
    assert message["ignore_result"] is ignored


def test_with_the_broker_away_the_task_waits_in_the_outbox(
    world: World, relays: Relays, rabbitmq_broker: RabbitMQBroker
) -> None:
    """P2: the run has ended meanwhile."""
    durable = worker_with_hook(world, rabbitmq_broker)
    run = durable.start("w", {})
    world.drain(durable)
    away = worker_with_hook(world, rabbitmq_broker)
    away.app.conf.broker_url = "amqp://guest:guest@127.0.0.1:1//"
    assert not publishes(relays.of(away))
    assert world.status(run) == "completed"
    assert len(world.sent()) == 1

    drain(relays.of(durable))
    assert len(taken_from(rabbitmq_broker, rabbitmq_broker.queue())) == 1


def test_a_task_that_no_queue_takes_is_kept_and_the_hints_go(
    world: World, relays: Relays, rabbitmq_broker: RabbitMQBroker
) -> None:
    durable = worker_with_hook(world, rabbitmq_broker, exchange="amq.direct", routing_key="nobody")
    durable.start("w", {})
    world.drain(durable)
    durable.start("w", {})
    drain(relays.of(durable))
    (row,) = world.sent()
    assert (row["tries"], "no queue takes it" in row["last_error"]) == (1, True)
    assert len(taken_from(rabbitmq_broker, rabbitmq_broker.queue())) == 1
