"""Postgres, the broker and the folder of one demo.

`DURABLE_DATABASE_URL` and `CELERY_BROKER_URL` are honoured; what is missing of them is an embedded
Postgres, on which kombu's pgmq transport is the broker. In a database or a broker that was given,
the demo has a schema, a queue and a key prefix of its own, and removes them.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from psycopg.sql import SQL, Identifier

from celery_durable.testing.embedded import EmbeddedPostgres, install_pgmq, pgmq_broker
from examples.demo import ledger, signals
from examples.demo.app import app, configure, durable
from examples.demo.broker import Broker, Pgmq, Redis

DROP_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Services:
    """What a demo stands on."""

    folder: Path
    environment: Mapping[str, str]
    broker: Broker


@contextmanager
def opened() -> Iterator[Services]:
    """Everything is there, and empty; nothing of it is afterwards."""
    name = f"durable_demo_{secrets.token_hex(4)}"
    with ExitStack() as stack:
        with signals.blocked():
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="celery-durable-demo-")))
        database, broker = (
            os.environ.get("DURABLE_DATABASE_URL"),
            os.environ.get("CELERY_BROKER_URL"),
        )
        own = "" if database and broker else stack.enter_context(EmbeddedPostgres()).url()
        url, options = _broker_at(broker, own, name)
        environment = {
            "DEMO_DATABASE_URL": database or own,
            "DEMO_SCHEMA": name,
            "DEMO_QUEUE": name,
            "DEMO_BROKER_URL": url,
            "DEMO_TRANSPORT_OPTIONS": json.dumps(options),
        }
        configure(environment)
        opened_broker = _opened_broker(url, own, name)
        opened_broker.check()
        stack.callback(opened_broker.close)
        stack.enter_context(_schema(name))
        yield Services(folder, environment, opened_broker)


def _broker_at(given: str | None, own: str, name: str) -> tuple[str, Mapping[str, object]]:
    if not given:
        install_pgmq(own)
        settings = pgmq_broker(own)
        return settings["broker_url"], settings["broker_transport_options"]
    if _is_redis(given):
        return given, {"global_keyprefix": f"{name}:"}
    return given, {"confirm_publish": True} if given.startswith(("amqp", "pyamqp")) else {}


def _opened_broker(url: str, own: str, name: str) -> Broker:
    if not os.environ.get("CELERY_BROKER_URL"):
        return Pgmq(app, name, own)
    return Redis(app, name, f"{name}:") if _is_redis(url) else Broker(app, name)


def _is_redis(url: str) -> bool:
    return url.startswith(("redis://", "rediss://"))


@contextmanager
def _schema(name: str) -> Iterator[None]:
    """The library's tables and the ledger, in a schema of their own."""
    try:
        durable.migrate()
        ledger.create()
        yield
    finally:
        with ledger.connect(durable.settings.database_url) as connection:
            connection.execute(f"SET lock_timeout = '{DROP_SECONDS}s'")
            connection.execute(SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(Identifier(name)))


def in_words() -> str:
    """What `opened` will stand on, for the user."""
    postgres = "a Postgres of its own"
    given = "the Postgres of DURABLE_DATABASE_URL"
    match bool(os.environ.get("DURABLE_DATABASE_URL")), bool(os.environ.get("CELERY_BROKER_URL")):
        case True, True:
            return f"{given} and the broker of CELERY_BROKER_URL"
        case True, False:
            return f"{given}, with {postgres} as the broker (kombu's pgmq)"
        case False, True:
            return f"{postgres} and the broker of CELERY_BROKER_URL"
        case _:
            return f"{postgres}, which is the broker too (kombu's pgmq)"
