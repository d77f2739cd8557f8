"""celery beat schedules `durable.recover` and `durable.start`."""

from uuid import UUID

import pytest
from sqlalchemy.engine import make_url

from tests.brokers.shop import SHOP, Shop, on_redis
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("shift")


def test_beat_recovers_and_starts_one_run_of_a_schedule_at_a_time(shop: Shop) -> None:
    worker = shop.worker()
    shop.start().result(timeout=30)  # the worker has stored the plans by now
    shop.cluster.beat(SHOP)
    wait_until(lambda: runs_of(shop, "nightly"), message="the first run of the schedule")
    wait_until(
        lambda: worker.logs().count("Task durable.start[") >= 6, message="the schedule to go on"
    )
    worker.wait_for_log("Task durable.recover[")
    (only,) = runs_of(shop, "nightly")
    run = shop.durable.run(only)
    shop.wait_for(run, "charge")
    shop.finish(run, timeout=30)
    wait_until(lambda: len(runs_of(shop, "nightly")) == 2, message="the next run of the schedule")
    assert "Traceback" not in worker.logs()


@on_redis
def test_a_start_that_is_delivered_twice_starts_one_run(shop: Shop) -> None:
    worker = shop.worker()
    shop.start().result(timeout=30)
    shop.query("DELETE FROM durable_run")
    for _ in range(3):
        shop.app.send_task(
            "durable.start",
            kwargs={"workflow": "order", "input": {}},
            task_id="delivered-often",
            queue=shop.broker.queue(),
        )
    wait_until(
        lambda: worker.logs().count("[delivered-often] succeeded") == 3, message="three deliveries"
    )
    assert shop.query("SELECT key FROM durable_run") == [("message-delivered-often",)]


@on_redis
def test_starts_that_come_while_postgres_is_away_make_one_run_of_their_schedule(
    shop: Shop, role: str
) -> None:
    """P2: eight messages, four at a time; none raises, and none is lost."""
    url = make_url(shop.database_url).set(username=role)
    env = {"DURABLE_DATABASE_URL": url.render_as_string(hide_password=False)}
    worker = shop.worker(pool="threads", concurrency=4, env=env)
    shop.start().result(timeout=30)
    shop.query(f"ALTER ROLE {role} NOLOGIN")
    shop.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", role)
    schedule = {"workflow": "order", "schedule": "hourly", "overlap": "skip"}
    messages = [
        shop.app.send_task(
            "durable.start", [{"charge": "hold"}], schedule, queue=shop.broker.queue()
        ).id
        for _ in range(8)
    ]
    worker.wait_for_log("Postgres does not answer")
    assert runs_of(shop, "hourly") == []
    shop.query(f"ALTER ROLE {role} LOGIN")
    shop.wait_until_followed(messages)
    (only,) = runs_of(shop, "hourly")
    shop.open_gate(shop.durable.run(only))
    shop.durable.run(only).result(timeout=30)
    assert "raised unexpected" not in worker.logs()


def runs_of(shop: Shop, schedule: str) -> list[UUID]:
    return [found.run_id for found in shop.durable.list(tags={"schedule": schedule})]
