"""The kinds of faults, and the schedule that a seed draws."""

import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import psycopg

from celery_durable.errors import ConfigurationError
from tests.chaos.field import TTL, Field, drawn, tell
from tests.cluster import LocalNode

GAP = 4.0
"""Mean seconds between faults."""

SHORT_STOP = TTL / 6
LONG_STOP = TTL + 3
BROKER_AWAY = 2.0
BROKER_HANGS = 3.0
POSTGRES_BACK_WITHIN = 30.0


@dataclass(frozen=True, slots=True)
class Fault:
    """What is drawn before the run begins: when, what, and the number that chooses a victim."""

    at: float
    kind: str
    choice: int


@dataclass(frozen=True, slots=True)
class Strike:
    """A fault as it happened, in times of the monotonic clock."""

    kind: str
    began: float
    ended: float
    detail: str = ""
    killed: frozenset[int] = field(default_factory=frozenset)
    stopped: frozenset[int] = field(default_factory=frozenset)


Blow = Callable[[Field, random.Random], Strike]


def _strike(kind: str, began: float, lasts: float = 0.0, detail: str = "") -> Strike:
    return Strike(kind, began, time.monotonic() + lasts, detail)


def kill_child(field: Field, chance: random.Random) -> Strike:
    children = [pid for node in field.workers for pid in sorted(node_children(node))]
    began = time.monotonic()
    if not children:
        return _strike("kill child", began, detail="there was none")
    pid = chance.choice(children)
    tell(pid, signal.SIGKILL)
    return Strike("kill child", began, time.monotonic(), str(pid), killed=frozenset({pid}))


def node_children(node: LocalNode) -> list[int]:
    return node.children() if node.is_running else []


def _kill(kind: str, field: Field, node: LocalNode) -> Strike:
    pids = field.pids_of(node)
    began = time.monotonic()
    if node.is_running:
        tell(node.pid, signal.SIGKILL)
    return Strike(kind, began, time.monotonic(), node.process.name, killed=frozenset(pids))


def kill_worker(field: Field, chance: random.Random) -> Strike:
    return _kill("kill worker", field, chance.choice(field.workers))


def kill_relay(field: Field, chance: random.Random) -> Strike:
    return _kill("kill relay", field, field.relay)


def kill_beat(field: Field, chance: random.Random) -> Strike:
    return _kill("kill beat", field, field.beat)


def shut_down(how: signal.Signals, kind: str) -> Blow:
    def blow(field: Field, chance: random.Random) -> Strike:
        node = chance.choice(field.workers)
        pids = field.pids_of(node) if how is not signal.SIGTERM else set()
        began = time.monotonic()
        if node.is_running:
            tell(node.pid, how)
        return Strike(kind, began, time.monotonic() + 1, node.process.name, killed=frozenset(pids))

    return blow


def stop(kind: str, seconds: float, choose: Callable[[Field, random.Random], set[int]]) -> Blow:
    """SIGSTOP, and SIGCONT later."""

    def blow(field: Field, chance: random.Random) -> Strike:
        pids = choose(field, chance)
        began = time.monotonic()
        for pid in pids:
            tell(pid, signal.SIGSTOP)
            field.later(seconds, partial(tell, pid, signal.SIGCONT))
        return Strike(kind, began, began + seconds, str(sorted(pids)), stopped=frozenset(pids))

    return blow


def a_child(field: Field, chance: random.Random) -> set[int]:
    children = [pid for node in field.workers for pid in sorted(node_children(node))]
    return {chance.choice(children)} if children else set()


def a_worker(field: Field, chance: random.Random) -> set[int]:
    return field.pids_of(chance.choice(field.workers))


def the_relay(field: Field, chance: random.Random) -> set[int]:
    return field.pids_of(field.relay)


def the_beat(field: Field, chance: random.Random) -> set[int]:
    return field.pids_of(field.beat)


def restart_broker(field: Field, chance: random.Random) -> Strike:
    began = time.monotonic()
    field.broker.kill()
    time.sleep(BROKER_AWAY)
    field.broker.start()
    return _strike("restart broker", began)


def empty_broker(field: Field, chance: random.Random) -> Strike:
    began = time.monotonic()
    field.broker.kill()
    field.broker.empty()
    field.broker.start()
    return _strike("flush broker", began)


def hang_broker(field: Field, chance: random.Random) -> Strike:
    began = time.monotonic()
    field.broker.pause()
    time.sleep(BROKER_HANGS)
    field.broker.go_on()
    return _strike("hang broker", began)


def restart_postgres(kind: str, *, immediate: bool) -> Blow:
    def blow(field: Field, chance: random.Random) -> Strike:
        began = time.monotonic()
        while True:
            try:
                field.postgres.restart(immediate=immediate)
                break
            except ConfigurationError:
                # What was killed before may still be ending.
                if time.monotonic() - began > POSTGRES_BACK_WITHIN:
                    raise
        return _strike(kind, began)

    return blow


def cut(kind: str, condition: str) -> Blow:
    """Postgres ends connections of the engine: all of them, or about half, or those with locks."""

    def blow(field: Field, chance: random.Random) -> Strike:
        began = time.monotonic()
        with field.connect() as connection:
            ended = connection.execute(
                f"""SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                    WHERE application_name = 'celery_durable' AND {condition}""".encode()
            ).fetchone()
        return _strike(kind, began, detail=f"{ended[0] if ended else 0} connections")

    return blow


IMMEDIATE, FAST = "crash Postgres", "restart Postgres"
CUT_ALL, CUT_SOME, CUT_LOCKS = "cut all connections", "cut some connections", "cut locks"

OUTAGES = (
    *("restart broker", "flush broker", "hang broker", "kill relay", "stop relay", "warm shutdown"),
    *("kill worker", "cold shutdown", "stop worker past TTL", IMMEDIATE, FAST, CUT_ALL, CUT_SOME),
)
"""What takes more away than the process that it strikes."""

KINDS: Mapping[str, tuple[int, Blow]] = {
    "kill child": (24, kill_child),
    "kill worker": (10, kill_worker),
    "kill relay": (6, kill_relay),
    "kill beat": (2, kill_beat),
    "stop child": (6, stop("stop child", SHORT_STOP, a_child)),
    "stop child past TTL": (6, stop("stop child past TTL", LONG_STOP, a_child)),
    "stop worker past TTL": (4, stop("stop worker past TTL", LONG_STOP, a_worker)),
    "stop relay": (3, stop("stop relay", LONG_STOP, the_relay)),
    "stop beat": (1, stop("stop beat", LONG_STOP, the_beat)),
    "warm shutdown": (6, shut_down(signal.SIGTERM, "warm shutdown")),
    "cold shutdown": (4, shut_down(signal.SIGQUIT, "cold shutdown")),
    "restart broker": (4, restart_broker),
    "flush broker": (3, empty_broker),
    "hang broker": (3, hang_broker),
    IMMEDIATE: (3, restart_postgres(IMMEDIATE, immediate=True)),
    FAST: (3, restart_postgres(FAST, immediate=False)),
    CUT_ALL: (4, cut(CUT_ALL, "true")),
    CUT_SOME: (5, cut(CUT_SOME, "random() < 0.5")),
    CUT_LOCKS: (
        4,
        cut(CUT_LOCKS, "pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')"),
    ),
}
"""How often each is drawn, relative to the others, and what does it."""


def schedule(seed: int, seconds: float, only: Sequence[str] = ()) -> Sequence[Fault]:
    """The faults of a run that lasts so long; each kind comes once before chance alone decides."""
    chance = drawn(seed, "faults")
    kinds = list(only or KINDS)
    weights = [KINDS[kind][0] for kind in kinds]
    first = chance.sample(kinds, len(kinds))
    found: list[Fault] = []
    at = 0.0
    while (at := at + chance.uniform(0.5, 1.5) * GAP) < seconds:
        kind = first[len(found)] if len(found) < len(first) else chance.choices(kinds, weights)[0]
        found.append(Fault(at, kind, chance.getrandbits(32)))
    return found


def strike(field: Field, fault: Fault) -> Strike:
    """Let it happen now. Nothing happens where Postgres is away as it is to cut connections."""
    began = time.monotonic()
    try:
        return KINDS[fault.kind][1](field, random.Random(fault.choice))
    except psycopg.OperationalError as error:
        return _strike(fault.kind, began, detail=f"nothing happened: {error}")
