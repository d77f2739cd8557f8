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


FORK = """
import gc, os
from celery import Celery
from celery_durable import Durable

app = Celery("forks")
app.conf.durable_database_url = {url!r}
durable = Durable(app)
durable.list()
if not os.fork():
    durable.list()
    gc.collect()
    os._exit(0)
assert os.wait()[1] == 0
durable.list()
durable.database.close()
"""


def test_a_forked_child_uses_no_connection_of_its_parent_and_says_nothing(
    database_url: str,
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "default::ResourceWarning", "-c", FORK.format(url=database_url)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert "psycopg" not in done.stderr
