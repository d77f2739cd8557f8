"""What a worker says of a child that was killed in a step."""

import os
import signal

from tests.brokers.shop import Shop, on_redis

LOST_WAIT = {"worker_lost_wait": 0.1}
"""Seconds that Celery waits for the result of a child that has ended; ten by default."""


@on_redis
def test_a_killed_child_is_a_warning_in_one_line_without_a_traceback(shop: Shop) -> None:
    worker = shop.worker(conf=LOST_WAIT)
    run = shop.start(charge="hold")
    os.kill(shop.wait_for(run, "charge").pid, signal.SIGKILL)
    worker.wait_for_log("A process ended while it executed order.")
    shop.open_gate(run)
    assert "Traceback" not in worker.logs()
    assert "Task handler raised error" not in worker.logs()
