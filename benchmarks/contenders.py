"""Who is measured: the programs of each, what they need, and what they are called."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal, TypeAlias

from benchmarks.crowd import Crowd
from celery_durable.settings import Settings

Broker: TypeAlias = Literal["RabbitMQ", "Redis", "pgmq"]
System: TypeAlias = Literal["ours", "chain", "DBOS", "absurd", "floor"]

CELERY = "celery -A benchmarks.programs.{app} worker -P {pool} -c {size} -Q {{QUEUE}}"
# Workers of a benchmark need no news of each other, and few words.
QUIET = "-n {name}@%h -l WARNING --without-gossip --without-mingle --without-heartbeat"


@dataclass(frozen=True, slots=True)
class Contender:
    """Programs that do the same work in their own way. Commands are words for `python -m`."""

    name: str
    system: System
    client: str
    workers: tuple[str, ...] = ()
    broker: Broker | None = None
    peer: str | None = None
    """Whose environment it runs in; None is our own."""

    results: bool = False
    """Whether its Celery tasks keep results."""

    settings: tuple[tuple[str, int], ...] = ()
    """Settings of the library that are not the defaults."""

    beside: Crowd | None = None
    """What its database has in it before; all rounds share that database. Else it is empty, and
    each round has a new one.
    """

    def crowded(self, crowd: Crowd) -> Contender:
        """The same with so much in its database."""
        return replace(self, name=f"{self.name}, {crowd.name}", beside=crowd)

    def alone(self, name: str) -> Contender:
        """The same without workers, under this name: only its client is measured."""
        return replace(self, name=name, workers=())


def ours(broker: Broker, pool: str = "prefork", size: int = 2, workers: int = 1) -> Contender:
    """celery_durable, with its defaults."""
    times = f"{workers} x " if workers > 1 else ""
    names = [f"{pool}{number}" for number in range(workers)]
    return Contender(
        name=f"ours, {broker}, {times}{pool} {size}",
        system="ours",
        client="benchmarks.programs.durable_client",
        workers=tuple(_celery("durable_app", pool, size, name) for name in names),
        broker=broker,
    )


HAS_BUNDLES = "bundle" in {field.name for field in fields(Settings)}
"""Whether a message of this version of the library may carry several tokens."""


def single(contender: Contender) -> Contender:
    """The same with one token a message."""
    return replace(contender, name=f"{contender.name}, bundle 1", settings=(("bundle", 1),))


def with_single(*contenders: Contender) -> tuple[Contender, ...]:
    """Each, and after it the same with one token a message, if there is a choice."""
    if not HAS_BUNDLES:
        return contenders
    return tuple(one for each in contenders for one in (each, single(each)))


def without_bundles(contender: Contender) -> Contender:
    """The one that sends one token a message: the contender itself if there is no choice."""
    return single(contender) if HAS_BUNDLES else contender


def celery(broker: Broker, what: str = "chain", *, results: bool = False) -> Contender:
    """Plain Celery, which keeps nothing; prefork 2."""
    return Contender(
        name=f"Celery {what}, {broker}, prefork 2",
        system="chain",
        client="benchmarks.programs.celery_client",
        workers=(_celery("celery_app", "prefork", 2),),
        broker=broker,
        results=results,
    )


def floor(processes: int, threads: int, writes: int = 3) -> Contender:
    """Bare psycopg loops, which write so many rows a step."""
    return Contender(
        name=f"floor, {processes} x {threads}" + (f", {writes} writes" if writes != 3 else ""),
        system="floor",
        client=f"benchmarks.programs.floor_client {processes} {threads} {writes}",
    )


DBOS = Contender(
    name="DBOS, queue, 2 x 8, poll 50 ms",
    system="DBOS",
    client="benchmarks.programs.dbos_client",
    workers=tuple(f"benchmarks.programs.dbos_worker {name}" for name in ("one", "two")),
    peer="dbos",
)
DBOS_DIRECT = replace(DBOS, name="DBOS, direct", workers=())

ABSURD = Contender(
    name="absurd, async 2 x 32, poll 5 ms",
    system="absurd",
    client="benchmarks.programs.absurd_client",
    workers=("benchmarks.programs.absurd_worker",) * 2,
    peer="absurd",
)


def _celery(app: str, pool: str, size: int, name: str = "worker") -> str:
    return f"{CELERY} {QUIET}".format(app=app, pool=pool, size=size, name=name)
