"""The same canvas as Celery executes it and as a workflow, on a real worker: the results agree."""

import json
import os
import signal
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.apps import canvases as tasks
from tests.brokers.canvases import Canvases
from tests.brokers.shop import UNNOTICED, Shop, on_redis
from tests.cluster import WorkerNode
from tests.forms import short_or_long
from tests.waiting import wait_until

pytestmark = on_redis

APP = "tests.apps.canvases:app"

COUNT = short_or_long(24, 200)

ENDS_WITHIN = short_or_long(60, 600)


@pytest.fixture(scope="module")
def canvases(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """The canvases, by the names of the workflows that the worker makes of them."""
    shop.app.conf.update(result_backend=shop.broker.url)
    found = {f"canvas{n}": canvas for n, canvas in enumerate(Canvases(shop.app).some(COUNT))}
    file = tmp_path_factory.mktemp("canvases") / "canvases.json"
    file.write_text(json.dumps(found))
    shop.cluster.env[tasks.CANVASES] = str(file)
    return found


@pytest.fixture(scope="module")
def worker(shop: Shop, canvases: Mapping[str, Any]) -> Iterator[WorkerNode]:
    assert canvases
    node = shop.worker(APP)
    yield node
    node.teardown()


@pytest.fixture(scope="module")
def theirs(shop: Shop, canvases: Mapping[str, Any], worker: WorkerNode) -> Mapping[str, Any]:
    """What Celery itself makes of each canvas."""
    assert worker.ready()
    shop.query("INSERT INTO gate VALUES (%s)", tasks.GATE)
    sent = {name: canvas.clone().apply_async() for name, canvas in canvases.items()}
    return {name: result.get(timeout=ENDS_WITHIN) for name, result in sent.items()}


def disagreements(
    canvases: Mapping[str, Any], theirs: Mapping[str, Any], ours: Mapping[str, Any]
) -> list[str]:
    return [
        f"{canvases[name]}: {theirs[name]} and {result}"
        for name, result in ours.items()
        if result != theirs[name]
    ]


def test_a_workflow_from_a_canvas_has_the_result_that_celery_gets(
    shop: Shop, canvases: Mapping[str, Any], theirs: Mapping[str, Any]
) -> None:
    runs = {name: shop.durable.start(name) for name in canvases}
    ours = {name: run.result(timeout=ENDS_WITHIN) for name, run in runs.items()}
    assert disagreements(canvases, theirs, ours) == []


def test_a_workflow_from_a_canvas_has_that_result_though_its_workers_are_killed(
    shop: Shop, canvases: Mapping[str, Any], theirs: Mapping[str, Any], worker: WorkerNode
) -> None:
    shop.query("DELETE FROM gate")
    shop.query("DELETE FROM ledger")
    holding = [name for name, canvas in canvases.items() if "canvases.hold" in json.dumps(canvas)]
    runs = {name: shop.durable.start(name) for name in holding}
    at_work = [*worker.children()]
    held = wait_until(
        lambda: [pid for (pid,) in shop.query("SELECT pid FROM ledger WHERE unit = 'hold'")],
        timeout=UNNOTICED,
        message="a task to wait for the gate",
    )
    assert {*held} <= {*at_work}
    for pid in at_work:
        os.kill(pid, signal.SIGKILL)
    shop.query("INSERT INTO gate VALUES (%s)", tasks.GATE)
    ours = {name: run.result(timeout=ENDS_WITHIN) for name, run in runs.items()}
    assert disagreements(canvases, theirs, ours) == []
    killed = shop.query("SELECT event FROM ledger GROUP BY event HAVING count(*) > 1")
    assert killed, "no task was called again"
