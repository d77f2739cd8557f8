"""Clients run where workers do not: without `select.poll` and without `fork`, as on Windows."""

import subprocess
import sys

from tests.addresses import ROOT
from tests.integration.driving import World, defining

CLIENT = """
import os, select, sys
del select.poll, os.fork, os.register_at_fork
from celery import Celery
from celery_durable import Durable

app = Celery("t", broker="memory://", durable_database_url=sys.argv[1])
durable = Durable(app)
durable.workflow("w").step(str, name="a")
first, second = durable.start("w", {}), durable.start("w", {})
second.cancel(reason="no")
assert first.status().run_id == first.id
assert {run.run_id for run in durable.list()} == {first.id, second.id}
print(first.id, second.id)
"""


def test_a_client_starts_and_looks_without_poll_and_fork(world: World) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, world.url],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    worker = world.worker(defining([], "a"))
    world.drain(worker)
    ended = [worker.status(run_id).status for run_id in done.stdout.split()]
    assert ended == ["completed", "cancelled"]
