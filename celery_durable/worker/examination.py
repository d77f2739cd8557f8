"""Looks at everything that `durable doctor` judges, and never waits long for an answer.

Each question is asked in a thread of its own: whatever hangs, the others are answered.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from celery import Celery
from kombu.exceptions import OperationalError

from celery_durable.core.doctor import judge, judge_readiness
from celery_durable.core.finding import Examination, Finding, Fleet, Unknown, Vitals
from celery_durable.core.population import living
from celery_durable.database import schema, self_test
from celery_durable.errors import ConfigurationError, DurableError, SchemaOutOfDate
from celery_durable.store import sql
from celery_durable.store.connection import Connection, Statement, one
from celery_durable.store.read import facts, fleet, gauges, standstill, vitals
from celery_durable.worker.brokers import Brokers
from celery_durable.worker.configuration import refuse_unreadable_messages, serializer_of
from celery_durable.worker.host import Host
from celery_durable.worker.queues import needed
from celery_durable.worker.tasks import RECOVER

WITHIN = 20.0
"""Seconds that each question has; a server that is there answers much sooner."""

STATEMENT_WITHIN = "10s"

MIGRATE = "celery -A <app> durable migrate"

T = TypeVar("T")

_BOUNDED = Statement(
    sa.select(
        *(
            sa.func.set_config(sql.word(name), sql.word(value), sa.true())
            for name, value in {
                "statement_timeout": STATEMENT_WITHIN,
                "lock_timeout": STATEMENT_WITHIN,
                # Up to a bound, what is counted here is read as it lies.
                "enable_seqscan": "on",
            }.items()
        )
    )
)

_NOW = Statement(sa.select(sql.clock.label("now")))


class Asked(Generic[T]):
    """A question that is asked in a thread, and its answer."""

    def __init__(self, question: Callable[[], T], within: float = WITHIN) -> None:
        self._question = question
        self._within = within
        self._answer: T | Unknown = Unknown(f"no answer within {within:g} s")
        self._thread = threading.Thread(target=self._ask, name="durable-doctor", daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        try:
            self._answer = self._question()
        except SchemaOutOfDate as error:
            self._answer = Unknown(str(error).partition(". Run: ")[0], MIGRATE)
        except Exception as error:  # noqa: BLE001 - whatever breaks is what a doctor is asked for
            self._answer = Unknown(_in_one_line(error))

    def answer(self) -> T | Unknown:
        """Wait for the answer, but not for ever."""
        self._thread.join(self._within)
        return self._answer


def findings(durable: Host) -> Sequence[Finding]:
    """Look at everything, and judge it."""
    broker = Asked(partial(broker_at, durable.app))
    found = _of_app(durable)
    if found.settings is None:
        found = _of_server(durable, found)
    if found.is_migrated:
        found = replace(
            found,
            fleet=Asked(partial(_bounded, durable, _fleet)).answer(),
            standstill=Asked(partial(_bounded, durable, standstill.standstill)).answer(),
        )
    return judge(replace(found, broker=broker.answer()))


def readiness(durable: Host) -> Sequence[Finding]:
    """Look at what a process needs to do its work, and judge it."""
    broker = Asked(partial(broker_at, durable.app))
    found = _of_app(durable)
    if found.settings is None:
        found = _reached(durable, found)
    if found.is_migrated:
        found = replace(found, fleet=Asked(partial(_bounded, durable, _relays)).answer())
    return judge_readiness(replace(found, broker=broker.answer()))


def liveness(durable: Host, hostname: str) -> Finding | Unknown:
    """Look whether the worker processes of a host, or of a Celery node, live.

    Raises `ConfigurationError` for settings that cannot be read.
    """
    durable.database  # noqa: B018 - reads the settings
    present = Asked(partial(_bounded, durable, fleet.workers)).answer()
    return present if isinstance(present, Unknown) else living(present, hostname)


def broker_at(app: Celery) -> str:
    """Connect to the broker as a relay does, and return its address without the password."""
    connection = Brokers(app, logs=False).connect()
    try:
        return str(connection.as_uri())
    finally:
        connection.release()


def _of_app(durable: Host) -> Examination:
    """What the settings of the app say."""
    conf = durable.app.conf
    try:
        refuse_unreadable_messages(conf)
        serializer: str | Unknown | None = serializer_of(conf)
    except ConfigurationError as error:
        serializer = Unknown(str(error).removesuffix(". Add 'json' to it."))
    found = Examination(serializer=serializer, beat_recovers=_beat_recovers(conf))
    try:
        durable.database  # noqa: B018 - reads the settings
        return replace(found, defined=frozenset(durable.registry.names()), needed=needed(durable))
    except DurableError as error:
        return replace(found, settings=Unknown(str(error)))


def _beat_recovers(conf: Any) -> bool:
    entries = (conf.beat_schedule or {}).values()
    tasks = [e.get("task") if isinstance(e, Mapping) else getattr(e, "task", None) for e in entries]
    return RECOVER in tasks


def _reached(durable: Host, found: Examination) -> Examination:
    """Whether Postgres answers, and has our tables."""
    product = Asked(partial(self_test.product_of, durable.database)).answer()
    if isinstance(product, Unknown):
        return replace(found, database=product)
    now = Asked(partial(_bounded, durable, _now)).answer()
    if isinstance(now, Unknown):
        return replace(found, product=product, database=now)
    check = partial(schema.check, durable.database.engine, durable.settings.schema)
    missing = Asked(check).answer()
    found = replace(found, product=product, is_reached=True)
    return replace(found, schema=missing, is_migrated=missing is None)


def _of_server(durable: Host, found: Examination) -> Examination:
    """The same, and the state of the server."""
    found = _reached(durable, found)
    if not found.is_reached:
        return found
    return replace(
        found,
        lock=Asked(partial(self_test.lock_test, durable.database)).answer(),
        vitals=Asked(partial(_bounded, durable, _vitals)).answer(),
    )


def _bounded(durable: Host, read: Callable[[Connection], T]) -> T:
    """Read in a transaction whose statements have a time limit."""
    with durable.database.read_only() as connection:
        connection.rows(_BOUNDED)
        return read(connection)


def _now(connection: Connection) -> datetime:
    row = one(connection, _NOW, {})
    assert row is not None
    now: datetime = row["now"]
    return now


def _vitals(connection: Connection) -> Vitals:
    before = datetime.now(UTC)
    there = _now(connection)
    here = before + (datetime.now(UTC) - before) / 2
    return replace(vitals.vitals(connection), clock_ahead=there - here)


def _relays(connection: Connection) -> Fleet:
    return Fleet(_now(connection), relays=facts.relays_seen(connection))


def _fleet(connection: Connection) -> Fleet:
    present = fleet.workers(connection)
    return Fleet(
        at=_now(connection),
        workers=present,
        relays=facts.relays_seen(connection),
        queues=fleet.queues(connection, present),
        unfinished=standstill.unfinished(connection),
        not_undone=gauges.not_compensated(connection),
    )


def _in_one_line(error: Exception) -> str:
    words = " ".join(str(error).split()).rstrip(".")
    is_known = isinstance(error, DurableError | OperationalError)
    return words if is_known else f"{type(error).__name__}: {words}"
