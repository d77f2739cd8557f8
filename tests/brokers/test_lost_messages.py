"""A broker that loses what it has, or is away (P2, P7)."""

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from celery_durable import RunNotFound
from tests.brokers.shop import Shop, on_redis
from tests.transports import RedisBroker
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("shift")


def test_runs_whose_messages_were_lost_finish_through_recover(shop: Shop) -> None:
    shop.worker(concurrency=1, options=["--prefetch-multiplier", "1"])
    queue = shop.broker.queue()
    held = shop.start(charge="hold")
    shop.wait_for(held, "charge")
    waiting = shop.durable.start_many("order", [{}] * 10, version=1)
    all_sent = "SELECT FROM durable_outbox"
    wait_until(lambda: shop.query(all_sent) == [], message="messages in the broker")
    shop.broker.purge(queue)
    assert shop.broker.size(queue) == 0
    shop.finish(held, timeout=30)
    assert [shop.ledger(run) for run in waiting] == [[]] * len(waiting)
    shop.let_pass("10 minutes")
    shop.durable.recover()
    for run in waiting:
        run.result(timeout=30)
        assert len(shop.ledger(run)) == 6


@on_redis
def test_a_run_started_while_the_broker_is_down_starts_when_it_is_back(shop: Shop) -> None:
    broker = shop.broker
    assert isinstance(broker, RedisBroker)
    if broker.node is None:
        pytest.skip("a Redis given as REDIS_URL is not ours to stop")
    worker = shop.worker()
    shop.start().result(timeout=30)
    broker.stop()
    engine = sa.create_engine(shop.database_url)
    with Session(engine) as session:
        rolled_back = shop.durable.start("order", {}, version=1, session=session)
        session.rollback()
    with Session(engine) as session:
        run = shop.durable.start("order", {}, version=1, session=session)
        with pytest.raises(RunNotFound):
            run.status()
        session.commit()
    engine.dispose()
    worker.wait_for_log("The broker is not available")
    assert shop.ledger(run) == []
    broker.start()
    run.result(timeout=60)
    assert len(shop.ledger(run)) == 6
    assert shop.ledger(rolled_back) == []
    assert shop.durable.list(limit=1)[0].run_id == run.id
