"""What `durable doctor` finds, and the facts that it judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from celery_durable.core.fleet import QueueInfo, WorkerInfo
from celery_durable.core.pause import Paused
from celery_durable.core.reason import Diagnosis
from celery_durable.core.situation import SeenRelay


class Severity(StrEnum):
    """How bad a finding is. With an error, runs do not move, or soon will not."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `code` names what; `fix` is empty where nothing is to be done.

    In a `fix`, `<app>` stands for the name of the Celery app.
    """

    code: str
    severity: Severity
    text: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Unknown:
    """It could not be found out, and why. `fix` is what helps, if that is known."""

    why: str
    fix: str = ""


class LockTest(StrEnum):
    """What became of a lock that one connection took, and another tried to take."""

    HOLDS = "holds"
    HOLDS_PAST_A_POOLER = "holds_past_a_pooler"
    """It holds, and `durable_database_url` leads to a pooler that shares sessions."""

    SHARED = "shared"
    """A pooler shares sessions: no lock can be held."""

    NOT_REFUSED = "not_refused"
    ELSEWHERE = "elsewhere"
    """It is not seen through `durable_database_url`, which leads to another server or database."""


@dataclass(frozen=True, slots=True)
class Product:
    """The server as it calls itself, and its version, such as 160004."""

    name: str
    version: int


@dataclass(frozen=True, slots=True)
class TableHealth:
    """How many rows of a table live, and how many are dead and not removed yet."""

    name: str
    live: int
    dead: int
    is_vacuumed: bool = True
    """False if autovacuum is turned off for it."""


class Holds(StrEnum):
    """Kinds of what keeps dead rows from being removed."""

    TRANSACTION = "transaction"
    PREPARED = "prepared"
    SLOT = "slot"
    STANDBY = "standby"


@dataclass(frozen=True, slots=True)
class Holder:
    """What keeps dead rows from being removed: since when, and how many transactions ago."""

    kind: Holds
    name: str
    age: int
    since: datetime | None = None
    pid: int | None = None
    state: str = ""


@dataclass(frozen=True, slots=True)
class Vitals:
    """The state of the server at `at`, its own time.

    `clock_ahead` is by how much it is ahead of this process's clock. `most_connections` is what
    our role may have at once, `connections` how many clients there are, `others` those of them that
    are not ours.
    """

    at: datetime
    clock_ahead: timedelta = timedelta(0)
    is_replica: bool = False
    most_connections: int = 100
    connections: int = 0
    others: int = 0
    vacuums: bool = True
    sees_others: bool = True
    tables: Sequence[TableHealth] = ()
    holders: Sequence[Holder] = ()


@dataclass(frozen=True, slots=True)
class Fleet:
    """Who is there at `at`, and what waits. `unfinished` are runs by `workflow@version`.

    `not_undone` is how many runs have a compensation that has failed for good.
    """

    at: datetime
    workers: Sequence[WorkerInfo] = ()
    relays: Sequence[SeenRelay] = ()
    queues: Sequence[QueueInfo] = ()
    unfinished: Mapping[str, int] = field(default_factory=dict[str, int])
    not_undone: int = 0

    @property
    def live(self) -> Sequence[WorkerInfo]:
        """The workers that live and take new messages."""
        return [one for one in self.workers if one.is_live(self.at) and not one.draining]

    @property
    def live_relays(self) -> Sequence[SeenRelay]:
        """The relays that have said lately that they are there."""
        return [one for one in self.relays if one.is_live(self.at)]


@dataclass(frozen=True, slots=True)
class Standstill:
    """Why unfinished runs do not move, at `at`.

    `counts` are runs by what they wait for, as their tokens say; `ready` and `executing` ones wait
    for nothing. `sample` explains some of those. `is_all` is False if there were too many to count.
    `exhausted` counts the units that have used up their tries; `pauses` are what is paused.
    """

    at: datetime
    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    sample: Sequence[Diagnosis] = ()
    is_all: bool = True
    exhausted: int = 0
    pauses: Sequence[Paused] = ()


@dataclass(frozen=True, slots=True)
class Examination:
    """All that was looked at. What is None was not: what it needs was not there."""

    settings: Unknown | None = None
    serializer: str | Unknown | None = None
    broker: str | Unknown | None = None
    beat_recovers: bool | None = None
    product: Product | Unknown | None = None
    database: Unknown | None = None
    is_reached: bool = False
    schema: Unknown | None = None
    is_migrated: bool = False
    lock: LockTest | Unknown | None = None
    vitals: Vitals | Unknown | None = None
    fleet: Fleet | Unknown | None = None
    standstill: Standstill | Unknown | None = None
    defined: frozenset[str] = frozenset()
    """The names of the workflows that this app defines."""

    needed: frozenset[str] = frozenset()
    """The queues that these need."""


def ok(code: str, text: str) -> Finding:
    """A finding that all is well."""
    return Finding(code, Severity.OK, text)


def warning(code: str, text: str, fix: str = "") -> Finding:
    """A finding that may become a problem."""
    return Finding(code, Severity.WARNING, text, fix)


def error(code: str, text: str, fix: str = "") -> Finding:
    """A finding because of which runs do not move, or soon will not."""
    return Finding(code, Severity.ERROR, text, fix)


def unknown(code: str, what: str, found: Unknown) -> Finding:
    """A finding that something could not be found out."""
    return warning(code, f"{what} could not be checked: {found.why}", found.fix)
