"""The relay goes from broker to broker of those that the settings name, as Celery does."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from celery_durable import Durable
from celery_durable.errors import BrokerUnavailable
from celery_durable.worker import brokers
from tests.cluster import LocalProcess
from tests.integration.driving import World, defining, spawn
from tests.integration.relaying import Recorder, Relays, drain, publishes, worker_on
from tests.services import free_port, own_redis
from tests.transports import Broker, RedisBroker
from tests.waiting import wait_until

both = pytest.mark.parametrize("broker", ["redis", "rabbitmq"], indirect=True)

GONE = "127.0.0.1:1"
"""Where nobody listens."""


def url_at(place: str, broker: Broker) -> str:
    """The broker's URL with another place in it."""
    scheme, rest = broker.url.split("://")
    _, _, path = rest.partition("/")
    return f"{scheme}://{place}/{path}"


@contextmanager
def a_broker_that_never_answers() -> Iterator[str]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(100)
        host, port = listening.getsockname()
        yield f"{host}:{port}"


def worker_with(broker: Broker, world: World, urls: str | Sequence[str], **conf: object) -> Durable:
    """A worker whose settings name these brokers."""
    durable = worker_on(broker, world, defining([], "a"))
    durable.app.conf.update({"broker_url": urls, **conf})
    return durable


LISTS: dict[str, Callable[..., dict[str, object]]] = {
    "a list": lambda *urls: {"broker_url": list(urls)},
    "semicolons": lambda *urls: {"broker_url": ";".join(urls)},
    "for writing": lambda *urls: {"broker_url": urls[0], "broker_write_url": list(urls)},
    "shuffled": lambda *urls: {"broker_url": list(urls), "broker_failover_strategy": "shuffle"},
}


@both
@pytest.mark.parametrize("said", LISTS)
def test_it_publishes_to_the_first_that_answers(
    said: str, world: World, relays: Relays, broker: Broker
) -> None:
    """P2"""
    urls = url_at(GONE, broker), url_at("127.0.0.1:2", broker), broker.url
    durable = worker_with(broker, world, broker.url, **LISTS[said](*urls))
    durable.start_many("w", [{}] * 5)
    one = relays.of(durable)
    wait_until(lambda: publishes(one), timeout=5, message="the relay to find a broker")
    assert world.hints() == 0
    assert broker.size(broker.queue()) == 5


@both
def test_one_that_accepts_and_never_answers_is_passed_over(
    world: World, relays: Relays, broker: Broker
) -> None:
    with a_broker_that_never_answers() as mute:
        options = {**broker.transport_options, "socket_timeout": 0.2}
        if broker.name == "rabbitmq":
            del options["socket_timeout"]
        durable = worker_with(
            broker,
            world,
            [url_at(mute, broker), broker.url],
            broker_connection_timeout=0.2,
            broker_transport_options=options,
        )
        durable.start("w", {})
        assert spawn(drain, relays.of(durable)).result(10) == 1
    assert world.hints() == 0


@both
def test_one_whose_broker_never_answers_keeps_no_row_from_the_others(
    world: World, relays: Relays, broker: Broker
) -> None:
    """P2"""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        mute.settimeout(20)
        host, port = mute.getsockname()
        durable = worker_with(broker, world, url_at(f"{host}:{port}", broker))
        durable.start("w", {})
        waiting = spawn(drain, relays.of(durable))
        connected, _ = mute.accept()
        with connected:
            assert drain(relays.make(durable, Recorder())) == 1
            assert not waiting.done()
    with pytest.raises(BrokerUnavailable):
        waiting.result(20)


@both
def test_with_all_of_them_away_each_is_tried_and_the_rows_stay(
    world: World, relays: Relays, broker: Broker
) -> None:
    durable = worker_with(broker, world, [url_at(GONE, broker), url_at("127.0.0.1:2", broker)])
    durable.start("w", {})
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:2"):
        drain(relays.of(durable))
    assert world.hints() == 1


@pytest.mark.parametrize("broker", ["rabbitmq"], indirect=True)
def test_one_that_refuses_the_password_is_away_and_no_row_is_to_blame(
    world: World, relays: Relays, broker: Broker
) -> None:
    """Nor is the password in what the log says."""
    wrong = url_at(broker.url.partition("@")[2].partition("/")[0], broker).replace(
        "//", "//x:hush@", 1
    )
    durable = worker_with(broker, world, [wrong])
    durable.start("w", {})
    with pytest.raises(BrokerUnavailable, match="ACCESS_REFUSED") as raised:
        drain(relays.of(durable))
    assert world.one("SELECT max(tries) FROM durable_outbox") == 0
    assert "hush" not in str(raised.value)

    durable.app.conf.broker_url = [wrong, broker.url]
    drain(relays.of(durable))
    assert world.hints() == 0


def test_it_leaves_a_broker_that_goes_and_comes_back_to_it(
    world: World,
    relays: Relays,
    redis_broker: RedisBroker,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """P2: with one line in the log for each way."""
    with a_redis(tmp_path) as first, a_redis(tmp_path) as second:
        durable = worker_with(redis_broker, world, [first.url, second.url])
        one = relays.of(durable)

        def publish_to(chosen: RedisBroker) -> None:
            durable.start("w", {})
            wait_until(lambda: publishes(one), timeout=5, message="the relay to find a broker")
            assert chosen.size(redis_broker.queue()) == 1

        publish_to(first)
        assert "of 2 brokers" in caplog.records[-1].getMessage()
        first.stop()
        publish_to(second)
        first.start()
        second.stop()
        publish_to(first)
    moves = [
        re.findall(r"127\.0\.0\.1:\d+", record.getMessage())
        for record in caplog.records
        if record.name == brokers.__name__
    ]
    places = [chosen.url.partition("//")[2].partition("/")[0] for chosen in (first, second)]
    assert moves == [places[:1], places[::-1], places]


@contextmanager
def a_redis(directory: Path) -> Iterator[RedisBroker]:
    with own_redis(directory) as node:
        yield RedisBroker(node.url, node)


def test_a_sentinel_that_is_away_is_passed_over(
    world: World, relays: Relays, redis_broker: RedisBroker, tmp_path: Path
) -> None:
    """And what it names is published to."""
    with a_broker_that_never_answers() as mute, a_sentinel(redis_broker, tmp_path) as place:
        durable = worker_with(
            redis_broker,
            world,
            f"sentinel://{GONE};sentinel://{mute};sentinel://{place}",
            broker_transport_options={"master_name": "shop", "socket_timeout": 0.2},
        )
        durable.start_many("w", [{}] * 3)
        drain(relays.of(durable))
    assert world.hints() == 0
    assert redis_broker.size(redis_broker.queue()) == 3


@contextmanager
def a_sentinel(broker: RedisBroker, directory: Path) -> Iterator[str]:
    place = broker.url.partition("://")[2].partition("/")[0].replace(":", " ")
    config, port = directory / "sentinel.conf", free_port()
    config.write_text(f"port {port}\nbind 127.0.0.1\nsentinel monitor shop {place} 1\n")
    command = ["redis-server", str(config), "--sentinel"]
    process = LocalProcess(command, name="sentinel", directory=directory)
    try:
        process.start()
        wait_until(lambda: b"+monitor master" in process.logs(), message="the sentinel to watch")
        yield f"127.0.0.1:{port}"
    finally:
        process.end()
