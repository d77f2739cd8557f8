"""Messages that come three times, in any order, or long after their time (P3, P4)."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from celery_durable.background.relay import Published, Relay
from celery_durable.store.due import DueMessage
from celery_durable.worker.publisher import KombuPublisher
from tests.brokers.shop import UNITS, Shop
from tests.integration.driving import spawn
from tests.waiting import wait_until

pytestmark = pytest.mark.parametrize("shop", ["redis", "rabbitmq"], indirect=True)

Choose = Callable[[list[DueMessage]], Sequence[DueMessage]]

RUNS = 20


@pytest.fixture(scope="module")
def workers(shop: Shop) -> None:
    shop.workers({"pool": "prefork"}, {"pool": "threads"}, options=["--no-durable-relay"])


class Unfaithful:
    """A way into the broker that keeps a copy of all it is given, for `choose` to send again."""

    def __init__(self, shop: Shop, choose: Choose = lambda _: ()) -> None:
        self._publisher = KombuPublisher(shop.app)
        self._choose = choose
        self.kept: list[DueMessage] = []
        self.lowest_first = self._publisher.lowest_first

    def connect(self) -> None:
        self._publisher.connect()

    def publish(self, messages: Sequence[DueMessage]) -> Published:
        published = self._publisher.publish(messages)
        self.kept += messages
        self.send_again(self._choose(self.kept))
        return published

    def send_again(self, messages: Sequence[DueMessage]) -> None:
        if messages:
            self._publisher.publish(messages)

    def close(self) -> None:
        self._publisher.close()


@contextmanager
def relaying(shop: Shop, publisher: Unfaithful) -> Iterator[None]:
    """The only relay of the shop, in this process."""
    relay = Relay(shop.durable.database, publisher, shop.durable.settings)
    running = spawn(relay.run)
    yield
    relay.stop()
    running.result(30)


def test_every_step_runs_once_though_every_message_comes_three_times(
    shop: Shop, workers: None
) -> None:
    """At once, and again with later ones."""

    def thrice(kept: list[DueMessage]) -> Sequence[DueMessage]:
        newest, older = kept[-RUNS:], random.sample(kept, min(RUNS, len(kept)))
        again = [*newest, *older]
        random.shuffle(again)
        return again

    unfaithful = Unfaithful(shop, thrice)
    with relaying(shop, unfaithful):
        held = [shop.start(charge="hold") for _ in range(2)]
        for run in held:
            shop.wait_for(run, "charge")
        runs = [*held, *shop.durable.start_many("order", [{}] * RUNS, version=1)]
        shop.open_gate(*held)
        for run in runs:
            run.result(timeout=60)
    for run in runs:
        assert [entry.unit for entry in shop.ledger(run, event="begin")] == UNITS


def test_messages_that_were_held_back_change_nothing(shop: Shop, workers: None) -> None:
    """Neither while a later step is in hand, nor when the run has ended."""
    unfaithful = Unfaithful(shop)
    with relaying(shop, unfaithful):
        moved_on, ended = shop.start(ship="hold"), shop.start()
        shop.wait_for(moved_on, "ship")
        ended.result(timeout=30)
    before = [(run.history(), shop.ledger(run)) for run in (moved_on, ended)]
    late = 3 * unfaithful.kept
    unfaithful.send_again(late)
    queue = shop.broker.queue()
    wait_until(lambda: shop.broker.size(queue) == 0, message="the late messages to be taken")
    shop.wait_until_followed(shop.hint(shop.token(moved_on)))
    assert [(run.history(), shop.ledger(run)) for run in (moved_on, ended)] == before
    unfaithful.close()
    shop.open_gate(moved_on)
    with relaying(shop, Unfaithful(shop)):
        moved_on.result(timeout=30)
    assert [entry.unit for entry in shop.ledger(moved_on, event="begin")] == UNITS
