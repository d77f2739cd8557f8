"""Real workers execute tasks that were sent by the outbox, also after an outage (P2, P7)."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from celery import chain
from sqlalchemy.orm import Session

from tests.apps import posting
from tests.brokers.shop import Shop
from tests.cluster import WorkerNode
from tests.waiting import wait_until

APP = "tests.apps.posting:app"
OUTAGE_ENDS_WITHIN = 60.0

pytestmark = pytest.mark.parametrize("shop", ["redis", "own_rabbitmq"], indirect=True)


class Office:
    """A client's process of the office of `tests.apps.posting`, and a session of its own."""

    def __init__(self, shop: Shop, worker: WorkerNode) -> None:
        self.shop = shop
        self.worker = worker
        posting.define(shop.durable)
        self.post = shop.app.tasks["posting.post"]
        self._engine = sa.create_engine(shop.database_url)
        self.session = Session(self._engine)

    def close(self) -> None:
        self.session.close()
        self._engine.dispose()

    def posted(self, *letters: str, timeout: float = 20.0) -> list[tuple[str, str, str]]:
        """Wait until the letters, and nothing else, are posted: each with its task and root."""

        def found() -> list[tuple[Any, ...]]:
            query = "SELECT letter, task_id, root_id FROM posted ORDER BY id"
            return [*self.shop.query(query)]

        wait_until(
            lambda: len(found()) >= len(letters), timeout=timeout, message=lambda: str(found())
        )
        assert [row[0] for row in found()] == [*letters]
        return [(str(row[0]), str(row[1]), str(row[2])) for row in found()]


@pytest.fixture(scope="module")
def opened(shop: Shop) -> Iterator[Office]:
    shop.query(posting.TABLE)
    office = Office(shop, shop.worker(APP, concurrency=1))
    yield office
    office.close()


@pytest.fixture
def office(opened: Office) -> Office:
    opened.shop.query("TRUNCATE posted")
    return opened


def test_tasks_that_were_sent_while_the_broker_was_down_are_executed_in_order(
    office: Office,
) -> None:
    """P2, P7"""
    broker = office.shop.breakable
    broker.stop()
    try:
        with office.shop.durable.joining(office.session):
            office.post.delay("lost")
            office.session.rollback()
            ids = [office.post.delay(letter).id for letter in ("a", "b", "c")]
            office.session.commit()
        ids.append(office.shop.durable.send_task(office.post.s("d")))
        office.worker.wait_for_log("The broker is not available", timeout=OUTAGE_ENDS_WITHIN)
    finally:
        broker.start()
    posted = office.posted("a", "b", "c", "d", timeout=OUTAGE_ENDS_WITHIN)
    assert [task_id for _, task_id, _ in posted] == ids


def test_a_chain_and_a_link_go_on_in_the_workers(office: Office) -> None:
    first = office.post.s("a").set(link=office.post.s("linked"))
    last = office.shop.durable.send_task(chain(office.post.s("first"), office.post.s("last")))
    office.posted("first", "last", timeout=OUTAGE_ENDS_WITHIN)
    office.shop.durable.send_task(first)
    posted = office.posted("first", "last", "a", "linked")
    assert posted[1][1] == last


def test_a_task_that_tries_again_from_within_a_transaction_is_not_lost(office: Office) -> None:
    """P2: what it had sent is rolled back, and its own retry is not."""
    office.shop.durable.send_task(office.shop.app.signature("posting.post_later", ("a",)))
    office.posted("a, try 1", timeout=OUTAGE_ENDS_WITHIN)


def test_what_a_step_sends_is_executed(office: Office) -> None:
    """P1"""
    run = office.shop.durable.start("posting", "a")
    sent = run.result(timeout=OUTAGE_ENDS_WITHIN)["send"]
    assert office.posted("a") == [("a", sent, str(run.id))]
