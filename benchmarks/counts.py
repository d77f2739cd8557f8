"""What Postgres and the broker are asked for each step, item and start: counted, not timed.

Statements are round trips. Write-ahead log and transactions are those of the whole server; nothing
else uses one of our own.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeAlias

from benchmarks.bench import Bench
from benchmarks.compare import errors, known
from benchmarks.contenders import (
    ABSURD,
    DBOS,
    Contender,
    floor,
    ours,
    single,
    with_single,
    without_bundles,
)
from benchmarks.counting import counting
from benchmarks.rounds import Row, Trial, interleave
from benchmarks.section import Section, number
from benchmarks.services import Services
from benchmarks.session import Reading, Session
from benchmarks.statements import Counter

Request: TypeAlias = Mapping[str, Any]
"""What a client is asked: the verb as `do`, and its arguments."""

TITLE = "counts"
ROUNDS = 3
"""Numbers of statements hardly differ."""

RUNS, ITEMS, STARTS = 100, 1000, 200
STEP, ITEM = "a step", f"an item of a map of {ITEMS:,}"
STARTED = {"one": "a start", "many": "a start by start_many"}

OURS = ours("RabbitMQ")
COLUMNS = (
    "who: for each",
    "statements",
    "transactions that write",
    "bytes of WAL",
    "messages",
    "us of Postgres",
    "rounds",
)


def measure(bench: Bench) -> Iterator[Section]:
    with counting(bench.services) as services:
        with services.postgres.connect() as connection:
            counter = Counter(connection, "")
        rows = interleave(replace(bench, services=services), TITLE, list(trials(services)))
    yield Section(
        title=f"{TITLE}: what Postgres and the broker do for one",
        columns=COLUMNS,
        rows=[cells(row) for row in rows if row.is_measured],
        errors=errors(rows),
        note=f"Counted: {counter.source}.",
        record=[row.record() for row in rows],
        figures=figures(rows) if counter.is_exact else {},
    )


def trials(services: Services) -> Iterator[Trial]:
    for one in (*with_single(OURS), DBOS, ABSURD, floor(2, 4), floor(2, 4, writes=2)):
        few: Request = {"do": "linear", "runs": RUNS // 5}
        yield counted(services, one, STEP, few, {**few, "runs": RUNS})
        if one.system == "ours":
            few = {"do": "fan", "kind": "map", "items": ITEMS // 10, "times": 1}
            yield counted(services, one, ITEM, few, {**few, "items": ITEMS})
    idle = OURS.alone("ours, no worker")
    for one, kinds in ((idle, [*STARTED]), (DBOS, ["one"]), (ABSURD, ["one"])):
        alone = one.alone(one.name if one is idle else f"{one.name}, no worker")
        for how in kinds:
            few = {"do": "start", "how": how, "count": 1}
            yield counted(services, alone, STARTED[how], few, {**few, "count": STARTS})


def counted(
    services: Services, contender: Contender, what: str, few: Request, many: Request
) -> Trial:
    """Have the client do a little, then count what is used while it does more."""
    has_messages = contender.broker is not None and bool(contender.workers)

    def take(session: Session) -> Reading:
        session.ask(few["do"], **_arguments(few))
        with services.postgres.connect() as connection:
            counter = Counter(connection, session.database)
            earlier = session.ask("received") if has_messages else 0
            counter.settle()
            before = counter.look()
            reading = session.measure(many["do"], **_arguments(many))
            counter.settle()
            found = asdict(counter.look().since(before))
        messages = session.ask("received") - earlier if has_messages else None
        answer = {**reading.answer, **found, "messages": messages}
        return Reading(answer, reading.processor)

    return Trial(contender, what, take, rounds=ROUNDS)


def _arguments(request: Request) -> dict[str, Any]:
    return {name: value for name, value in request.items() if name != "do"}


def cells(row: Row) -> tuple[str, ...]:
    kinds = ("statements", "writes", "wal", "messages")
    figures = (number(per_unit(row, kind)) for kind in kinds)
    rounds = str(len(row.readings))
    return (row.trial.name, *figures, number(row.microseconds("postgres")), rounds)


def per_unit(row: Row, kind: str) -> float | None:
    """The median."""
    found = [(each.answer[kind], each.answer["units"]) for each in row.readings]
    known = [count / units for count, units in found if count is not None]
    return statistics.median(known) if known else None


def figures(rows: Sequence[Row]) -> dict[str, float]:
    """What the targets ask for."""
    named = {row.trial.name: row for row in rows if row.is_measured}

    def item_of(contender: Contender) -> float | None:
        row = named.get(f"{contender.name}: {ITEM}")
        return per_unit(row, "statements") if row else None

    alone = item_of(without_bundles(OURS))
    has_both = f"{single(OURS).name}: {ITEM}" in named
    return known({"counts: item": item_of(OURS) if has_both else None, "counts: item alone": alone})
