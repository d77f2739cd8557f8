"""The embedded Postgres of a project: started, started again if it dies, and stopped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from celery_durable.dev.home import Home
from celery_durable.dev.lines import Lines
from celery_durable.dev.supervisor import Pauses
from celery_durable.errors import ConfigurationError
from celery_durable.testing.embedded import EmbeddedPostgres

LOOK_EVERY = 0.5
"""Seconds between two looks at whether the server runs."""

STILL_THERE = 'lock file "postmaster.pid" already exists'
"""PostgreSQL's words for: another server runs on these data.

As we hold the lock of the folder, that is one whose owner has died, and it is about to end.
"""

LAST_SERVER_SECONDS = 20.0


@contextmanager
def embedded(home: Home) -> Iterator[EmbeddedPostgres]:
    """Run the server of this folder. Raises `ConfigurationError` if it does not start."""
    server = EmbeddedPostgres(home.postgres)
    until = time.monotonic() + LAST_SERVER_SECONDS
    while True:
        try:
            server.start()
            break
        except ConfigurationError as error:
            if STILL_THERE not in str(error) or time.monotonic() > until:
                raise
            time.sleep(LOOK_EVERY)
    try:
        yield server
    finally:
        server.stop()


async def keep(server: EmbeddedPostgres, lines: Lines) -> None:
    """Start the server again whenever it has ended."""
    pauses = Pauses()
    began = time.monotonic()
    while True:
        await asyncio.sleep(LOOK_EVERY)
        if server.is_running:
            continue
        pause = pauses.after(time.monotonic() - began)
        lines.say(f"postgres has ended; it is started again in {pause:g} s", "yellow")
        await asyncio.sleep(pause)
        began = time.monotonic()
        try:
            await asyncio.to_thread(server.restart)
            lines.say("postgres runs again")
        except ConfigurationError as error:
            lines.say(f"postgres: {error}", "red")
