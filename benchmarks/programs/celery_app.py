"""Plain Celery, in its lean form: early acknowledgement, no confirms, no results unless asked
for.

The last task of a chain or a chord appends a line to a file, which is how the client sees the end:
it costs less than any result backend. Results are kept only of what the client asks with `get()`,
over `rpc://` on RabbitMQ and in the same Redis there; a chord needs a backend that counts, and has
Redis.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import worker_ready

from benchmarks.programs.wire import BROKER, ENDED, QUEUE, READY, TRANSPORT

RESULTS = os.environ.get("BENCH_RESULTS") or None

app = Celery("plain", broker=BROKER, backend=RESULTS)
app.conf.update(
    broker_transport_options=TRANSPORT,
    broker_connection_retry_on_startup=True,
    task_default_queue=QUEUE,
    worker_redirect_stdouts=False,
)


def note(line: str) -> None:
    """Append a line; short appends do not mix."""
    file = os.open(ENDED, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{line}\n".encode())
    os.close(file)


@app.task(ignore_result=True)
def first(run: str) -> list[Any]:
    return [run, 1]


@app.task(ignore_result=True)
def small(value: list[Any]) -> list[Any]:
    return [value[0], value[1] + 1]


@app.task(ignore_result=True)
def last(value: list[Any]) -> None:
    """End a chain whose result nobody asks for."""
    note(f"{value[0]} {value[1] + 1}")


@app.task
def last_kept(value: list[Any]) -> list[Any]:
    """End a chain whose result is asked for."""
    return [value[0], value[1] + 1]


@app.task
def item(number: int) -> dict[str, bool]:  # noqa: ARG001 - it does nothing
    return {"ok": True}


@app.task
def noted_item(number: int) -> dict[str, bool]:
    """Count itself, for a chord that may not get to its end."""
    note(str(number))
    return {"ok": True}


@app.task
def join(results: list[Any]) -> int:
    return len(results)


@worker_ready.connect
def say_so(**_: Any) -> None:
    print(READY, flush=True)
