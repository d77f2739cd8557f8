"""The checks of `durable doctor` on what surrounds us: the settings, the broker, the server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from celery_durable.core.finding import (
    Examination,
    Finding,
    Fleet,
    Holder,
    Holds,
    LockTest,
    Severity,
    TableHealth,
    Unknown,
    Vitals,
    error,
    ok,
    unknown,
    warning,
)

OLDEST = 130000
"""The oldest server that the library works with: PostgreSQL 13."""

LOOKALIKES = (
    "CockroachDB",
    "-YB-",
    "CrateDB",
    "Greenplum",
    "Materialize",
    "Redshift",
    "RisingWave",
    "openGauss",
)
"""What servers that only speak like Postgres say of themselves in `version()`."""

CLOCKS_DIFFER_AT_MOST = timedelta(seconds=5)

FULL = 0.9
"""The share of all connections from which on few are left."""

PER_PREFORK_CHILD, PER_POOL, PER_RELAY = 4, 3, 4
"""Most connections of a prefork child; of another pool besides one for each slot; of a relay. The
table in docs/how-to/run-in-production.md.
"""

PER_WORKER_PAST_A_POOLER, PER_RELAY_PAST_A_POOLER = 1, 2

DEAD_ROWS = 500_000
"""So many dead rows in a table are worth a word, if they are more than the live ones."""

HELD_FOR = timedelta(minutes=5)
HELD_TRANSACTIONS = 1_000_000
"""For so long, or for so many transactions, nobody should keep dead rows from being removed."""


def settings(facts: Examination) -> Iterator[Finding]:
    """The `durable_*` settings can be read."""
    if facts.settings is not None:
        yield error("settings", facts.settings.why, facts.settings.fix)
    else:
        yield ok("settings", "The settings can be read")


def broker(facts: Examination) -> Iterator[Finding]:
    """The broker takes a connection."""
    match facts.broker:
        case Unknown(why):
            fix = "Bring the broker back, or mend broker_url; what is to be sent waits meanwhile"
            yield error("broker", f"The broker does not answer: {why}", fix)
        case str(uri):
            yield ok("broker", f"The broker answers at {uri}")
        case None:
            pass


def content(facts: Examination) -> Iterator[Finding]:
    """Workers of the app accept messages of durable runs."""
    match facts.serializer:
        case Unknown(why):
            yield error("accept_content", why, "Add 'json' to accept_content")
        case "json":
            yield ok("accept_content", "The app accepts JSON messages")
        case str(serializer):
            yield ok("accept_content", f"The app accepts {serializer}, in which ours are sent")
        case None:
            pass


def beat(facts: Examination) -> Iterator[Finding]:
    """Beat may run `durable.recover`; it need not."""
    if facts.beat_recovers is not None:
        has = "has an" if facts.beat_recovers else "has no"
        yield ok("beat", f"Beat {has} entry for durable.recover; relays recover by themselves")


def database(facts: Examination) -> Iterator[Finding]:
    """Postgres takes a connection."""
    if facts.database is not None:
        fix = facts.database.fix or "Check durable_database_url, and that Postgres runs there"
        yield error("database", facts.database.why, fix)
    elif facts.is_reached:
        yield ok("database", "Postgres answers")


def server(facts: Examination) -> Iterator[Finding]:
    """It is PostgreSQL, 13 or later, and takes writes."""
    match facts.product:
        case Unknown() as found:
            yield unknown("server", "The server's version", found)
            return
        case None:
            return
        case product:
            name = " ".join(product.name.split()[:2])
    fix = "Use PostgreSQL 13 or later"
    if any(mark in product.name for mark in LOOKALIKES):
        text = (
            f"The server only speaks like PostgreSQL, and lacks what runs rely on: {product.name}"
        )
        yield error("server", text, fix)
    elif product.version < OLDEST:
        yield error("server", f"The server is too old: {name}", fix)
    elif isinstance(facts.vitals, Vitals) and facts.vitals.is_replica:
        text = "The server is a replica, which only reads"
        yield error("server", text, "Let durable_database_url lead to the primary")
    else:
        yield ok("server", f"The server is {name}")


def schema(facts: Examination) -> Iterator[Finding]:
    """The tables are of this release, and the role may use them."""
    if facts.schema is not None:
        yield error("schema", facts.schema.why, facts.schema.fix)
    elif facts.is_migrated:
        yield ok("schema", "The schema is of this release")


def lock(facts: Examination) -> Iterator[Finding]:
    """A lock that a session holds is refused to every other: so the death of a worker is told."""
    match facts.lock:
        case Unknown() as found:
            yield unknown("lock", "Whether a lock holds", found)
        case LockTest.HOLDS:
            yield ok("lock", "A lock that one session holds is refused to another")
        case LockTest.HOLDS_PAST_A_POOLER:
            yield ok("lock", "Past the pooler, a lock that one session holds is refused to another")
        case LockTest.SHARED:
            text = (
                "A transaction pooler is before Postgres: workers hold no locks, and a death is"
                " noticed after durable_worker_ttl only"
            )
            yield warning("lock", text, "Set durable_direct_database_url to a URL past the pooler")
        case LockTest.NOT_REFUSED:
            text = (
                "The server gives a lock to two sessions at once: workers that live would be taken"
                " for dead"
            )
            yield error("lock", text, "Use PostgreSQL itself, without a proxy that drops locks")
        case LockTest.ELSEWHERE:
            text = (
                "durable_direct_database_url leads to another server or database than"
                " durable_database_url: workers that live would be taken for dead"
            )
            yield error("lock", text, "Let both lead to the same database")
        case None:
            pass


def clock(facts: Examination) -> Iterator[Finding]:
    """The clock of this process agrees with the database's. Runs go by the latter only."""
    if not isinstance(facts.vitals, Vitals):
        return
    seconds = facts.vitals.clock_ahead.total_seconds()
    if abs(facts.vitals.clock_ahead) > CLOCKS_DIFFER_AT_MOST:
        which = "behind" if seconds > 0 else "ahead of"
        text = f"The clock here is {abs(seconds):.0f} s {which} the database's, by which runs go"
        yield warning("clock", text, "Synchronize both (NTP); only what is shown here is wrong")
    else:
        yield ok("clock", "The clock here agrees with the database's")


def connections(facts: Examination) -> Iterator[Finding]:
    """The server has room for what the live workers and relays may need."""
    found = facts.vitals
    if not isinstance(found, Vitals):
        return
    most, there = found.most_connections, found.connections
    fix = "Raise max_connections, or use a pooler or fewer processes"
    if there >= FULL * most:
        yield warning("connections", f"{there} of {most} connections are in use", fix)
        return
    needed = 0
    if isinstance(facts.fleet, Fleet):
        needed = _needed(facts.fleet, facts.lock)
    if needed + found.others > most:
        text = (
            f"Live workers and relays may need {needed} connections at once, others have"
            f" {found.others}, and there are {most}"
        )
        yield warning("connections", text, fix)
    else:
        text = f"{there} of {most} connections are in use"
        more = f"; live workers and relays may need {needed}" if needed else ""
        yield ok("connections", text + more)


def _needed(fleet: Fleet, lock: LockTest | Unknown | None) -> int:
    """Most connections to the server of live workers and relays; transactional steps take more."""
    relays = len(fleet.live_relays)
    match lock:
        case LockTest.SHARED:
            return 0  # all are the pooler's
        case LockTest.HOLDS_PAST_A_POOLER:
            return PER_WORKER_PAST_A_POOLER * len(fleet.live) + PER_RELAY_PAST_A_POOLER * relays
        case _:
            prefork = [one for one in fleet.live if one.pool == "prefork"]
            others = [PER_POOL + one.slots for one in fleet.live if one.pool != "prefork"]
            return PER_PREFORK_CHILD * len(prefork) + sum(others) + PER_RELAY * relays


def vacuum(facts: Examination) -> Iterator[Finding]:
    """Autovacuum is on, for the server and for each of our tables."""
    if isinstance(facts.vitals, Unknown):
        yield unknown("autovacuum", "The state of the server", facts.vitals)
    if not isinstance(facts.vitals, Vitals):
        return
    off = [table.name for table in facts.vitals.tables if not table.is_vacuumed]
    if not facts.vitals.vacuums:
        fix = "Set autovacuum and track_counts to on"
        yield warning("autovacuum", "Autovacuum is off: our tables grow without end", fix)
    elif off:
        fix = "; ".join(f"ALTER TABLE {name} RESET (autovacuum_enabled)" for name in off)
        yield warning("autovacuum", f"Autovacuum is off for {', '.join(off)}", fix)
    else:
        yield ok("autovacuum", "Autovacuum is on")


def dead_rows(facts: Examination) -> Iterator[Finding]:
    """Dead rows are removed about as fast as they come."""
    if not isinstance(facts.vitals, Vitals):
        return
    bloated = [one for one in facts.vitals.tables if one.dead >= max(DEAD_ROWS, one.live)]
    for table in bloated:
        text = f"{table.name} has {table.dead:,} dead rows beside {table.live:,} live ones"
        fix = f"VACUUM {table.name}, and let autovacuum look at it more often"
        yield warning("dead_rows", text, fix)
    if not bloated and facts.vitals.tables:
        yield ok("dead_rows", f"Dead rows are removed{_most_dead(facts.vitals.tables)}")


def _most_dead(tables: Sequence[TableHealth]) -> str:
    worst = max(tables, key=lambda table: table.dead)
    return f"; {worst.name} has most, {worst.dead:,}" if worst.dead else ""


def horizon(facts: Examination) -> Iterator[Finding]:
    """Nothing keeps dead rows from being removed for long."""
    found = facts.vitals
    if not isinstance(found, Vitals):
        return
    holders = [one for one in found.holders if _holds_for_long(one, found)]
    for holder in holders:
        text, fix = _described(holder, found)
        yield warning("xmin", f"{text}: dead rows of our tables cannot be removed", fix)
    if holders:
        return
    if found.sees_others:
        yield ok("xmin", "Nothing keeps dead rows from being removed")
    else:
        fix = "GRANT pg_read_all_stats to the role, to see other roles' transactions"
        yield Finding("xmin", Severity.OK, "Nothing of our own keeps dead rows", fix)


def _holds_for_long(holder: Holder, found: Vitals) -> bool:
    if holder.since is not None:
        return found.at - holder.since >= HELD_FOR
    return holder.age >= HELD_TRANSACTIONS


def _described(holder: Holder, found: Vitals) -> tuple[str, str]:
    """What holds, and how that is ended."""
    minutes = 0 if holder.since is None else (found.at - holder.since).total_seconds() / 60
    name = holder.name.replace("'", "''")
    match holder.kind:
        case Holds.TRANSACTION:
            text = f"A transaction of {holder.name} ({holder.state}, pid {holder.pid})"
            return f"{text} is {minutes:.0f} min old", f"SELECT pg_terminate_backend({holder.pid})"
        case Holds.PREPARED:
            text = f"The prepared transaction {holder.name!r} is {minutes:.0f} min old"
            return text, f"ROLLBACK PREPARED '{name}', or COMMIT PREPARED"
        case Holds.SLOT:
            text = f"The replication slot {holder.name!r} is {holder.age:,} transactions behind"
            return text, f"Bring its consumer back, or SELECT pg_drop_replication_slot('{name}')"
        case Holds.STANDBY:
            text = f"The standby {holder.name!r} is {holder.age:,} transactions behind"
            return text, "End the long query there, or turn hot_standby_feedback off"
