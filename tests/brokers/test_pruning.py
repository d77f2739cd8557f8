"""Workers delete runs that ended long ago."""

import pytest

from celery_durable import RunNotFound
from tests.brokers.shop import Shop, on_redis
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("shift")

OLD = (
    "INSERT INTO durable_run (id, workflow, version, status, input, finished_at)"
    " SELECT gen_random_uuid(), 'order', 1, 'completed', '{}', now() - interval '1 year'"
    " FROM generate_series(1, 500)"
)


@on_redis
def test_the_relay_of_a_worker_prunes_and_a_message_does(shop: Shop) -> None:
    shop.query(OLD)
    worker = shop.worker()
    wait_until(
        lambda: shop.query("SELECT count(*) FROM durable_run") == [(0,)],
        message="the old runs to be gone",
    )
    run = shop.start()
    run.result(timeout=30)
    shop.app.send_task("durable.prune", args=[0, "failed"], queue=shop.broker.queue())
    worker.wait_for_log("Task durable.prune[")
    wait_until(lambda: worker.logs().count("succeeded") >= 2, message="the message to be done")
    assert run.status().status == "completed"
    shop.app.send_task("durable.prune", args=[0], queue=shop.broker.queue())

    def is_gone() -> bool:
        try:
            run.status()
        except RunNotFound:
            return True
        return False

    wait_until(is_gone, message="the run to be gone")
    assert "Traceback" not in worker.logs()
