"""What happens in the process of a part."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, assert_never

from celery import Celery, signals

from celery_durable.dev import calm
from celery_durable.dev.addresses import use_pgmq
from celery_durable.dev.home import Home
from celery_durable.dev.lines import LOG_FORMAT
from celery_durable.dev.parts import Handed, Name
from celery_durable.dev.supervisor import READY
from celery_durable.durable import Durable
from celery_durable.testing.embedded import pgmq_broker
from celery_durable.worker.queues import needed

MOST_PROCESSES = 4
"""Processes of the worker, unless the app has `worker_concurrency`: this is a laptop."""

RECOVER = "durable.recover"
_RECOVER_ENTRY = {"task": RECOVER, "schedule": 30.0, "options": {"expires": 30.0}}

PAGE_GRACE_SECONDS = 1
"""For requests to end; live pages would never."""


def play(name: Name, durable: Durable, handed: Handed) -> None:
    """Be this part, until a signal ends it."""
    app = durable.app
    if handed.broker is not None:
        use_pgmq(app, pgmq_broker(handed.broker))
    calm.down(app)
    match name:
        case "worker":
            _work(durable, handed)
        case "beat":
            _beat(app, handed)
        case "page":
            _serve(durable, handed)
        case "check":
            pass  # the app has been imported
        case _:
            assert_never(name)


def _work(durable: Durable, handed: Handed) -> None:
    app = durable.app
    queues = sorted({*app.amqp.queues, *needed(durable)})
    words = ["--quiet", "worker", "-l", "INFO", "-Q", ",".join(queues), "-n", _node_name(handed)]
    # Nobody else is asked who they are and what they do: the start is quicker.
    words += ["--without-gossip", "--without-mingle"]
    if app.conf.worker_concurrency is None:
        words += ["-c", str(min(MOST_PROCESSES, os.cpu_count() or 1))]
    signals.worker_ready.connect(_saying(f"ready, on the queues {', '.join(queues)}"), weak=False)
    app.start(words)


def _node_name(handed: Handed) -> str:
    """The same at each start, so that a broker keeps no queues of workers that never return."""
    return f"dev-{hashlib.sha256(handed.home.encode()).hexdigest()[:8]}@%h"


def _beat(app: Celery, handed: Handed) -> None:
    schedule: Mapping[str, Any] = app.conf.beat_schedule or {}
    if not any(entry.get("task") == RECOVER for entry in schedule.values()):
        app.conf.beat_schedule = {**schedule, RECOVER: _RECOVER_ENTRY}
    signals.beat_init.connect(_saying("ready"), weak=False)
    kept = str(Home(Path(handed.home)).schedule)
    app.start(["--quiet", "beat", "-l", "INFO", "-s", kept])


def _serve(durable: Durable, handed: Handed) -> None:
    import uvicorn  # noqa: PLC0415 - of an extra

    from celery_durable.web import create_app  # noqa: PLC0415

    logging.basicConfig(format=LOG_FORMAT, level=logging.INFO, stream=sys.stdout)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(durable, token=handed.token),
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,  # it would hold the token
            proxy_headers=False,
            timeout_graceful_shutdown=PAGE_GRACE_SECONDS,
        )
    )
    _saying("ready")()
    server.run(sockets=[socket.socket(fileno=handed.listening_fd)])


def _saying(text: str) -> Callable[..., None]:
    """A receiver of signals that says so to the supervisor."""

    def say(**_: Any) -> None:
        # Celery puts its own stream in the place of sys.stdout, which logs.
        print(f"{READY}{text}", file=sys.__stdout__, flush=True)

    return say
