"""Who is measured: the programs of each, what they need, and what they are called."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

Broker: TypeAlias = Literal["RabbitMQ", "Redis", "pgmq"]
System: TypeAlias = Literal["ours", "chain", "DBOS", "absurd", "floor"]

CELERY = "celery -A benchmarks.programs.{app} worker -P {pool} -c {size} -Q {{QUEUE}}"
# Workers of a benchmark need no news of each other, and few words.
QUIET = "-n {pool}@%h -l WARNING --without-gossip --without-mingle --without-heartbeat"


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

    def alone(self, name: str) -> Contender:
        """The same without workers, under this name: only its client is measured."""
        return replace(self, name=name, workers=())


def ours(broker: Broker, pool: str = "prefork", size: int = 2) -> Contender:
    """celery_durable."""
    return Contender(
        name=f"ours, {broker}, {pool} {size}",
        system="ours",
        client="benchmarks.programs.durable_client",
        workers=(_celery("durable_app", pool, size),),
        broker=broker,
    )


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


def _celery(app: str, pool: str, size: int) -> str:
    return f"{CELERY} {QUIET}".format(app=app, pool=pool, size=size)
