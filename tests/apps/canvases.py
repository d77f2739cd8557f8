"""Small pure tasks, and workflows made of the canvases that the test has written into a file.

`hold` waits for the gate of the whole module; all others only compute.
"""

import json
import os
from pathlib import Path
from typing import Any
from uuid import UUID

from celery import Celery, shared_task, signature
from celery import current_task as current

from celery_durable import Durable
from tests.apps import configure
from tests.apps.shop import HELD_AT_MOST, connected
from tests.waiting import wait_until

CANVASES = "TEST_CANVASES"
GATE = UUID(int=0)

current_task: Any = current


@shared_task(name="canvases.add")
def add(x: int, y: int) -> int:
    return x + y


@shared_task(name="canvases.mul")
def mul(x: int, y: int) -> int:
    return x * y


@shared_task(name="canvases.join")
def join(*words: object) -> str:
    return "-".join(map(str, words))


@shared_task(name="canvases.tsum")
def tsum(numbers: list[int]) -> int:
    return sum(numbers)


@shared_task(name="canvases.length")
def length(values: list[Any]) -> int:
    return len(values)


@shared_task(name="canvases.hold")
def hold(value: Any) -> Any:
    with connected() as ledger:
        ledger.execute(
            "INSERT INTO ledger (run_id, unit, event, pid) VALUES (%s, 'hold', %s, %s)",
            (current_task.request.root_id, current_task.request.id, os.getpid()),
        )
        query = "SELECT FROM gate WHERE run_id = %s"
        wait_until(
            lambda: bool(ledger.execute(query, (GATE,)).rowcount),
            timeout=HELD_AT_MOST,
            message="the gate",
        )
    return value


app = configure(Celery("canvases"))
app.conf.update(result_backend=os.environ.get("CELERY_BROKER_URL"))
durable = Durable(app)
if CANVASES in os.environ:
    for name, canvas in json.loads(Path(os.environ[CANVASES]).read_text()).items():
        found: Any = signature(canvas)
        durable.from_canvas(name, found)
