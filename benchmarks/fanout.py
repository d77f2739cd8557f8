"""Runs that fork into items and join: 100 and 1,000 items, one run after the other; then 10,000.

A chord needs a result backend that counts, and has Redis with either broker. DBOS enqueues a
workflow for each item, and its parent waits for their results with the poll of its queue. The large
one is measured in one round, and is stopped after 20 seconds: its rate then counts the items
that had ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.bench import Bench
from benchmarks.compare import Versus, sections
from benchmarks.contenders import DBOS, Contender, celery, ours, with_single
from benchmarks.rounds import Row, Trial, interleave
from benchmarks.section import Section
from benchmarks.session import Reading, Session

TITLE = "fan-out"
ITEMS, THOUSAND, LARGE = 100, 1000, 10_000
LIMIT = 20.0
"""Seconds after which a large one is stopped."""

CHORD = celery("RabbitMQ", "chord", results=True)
PREFORK = ours("RabbitMQ")
OURS = (*with_single(PREFORK), ours("RabbitMQ", "threads", 8))


def measure(bench: Bench) -> Iterator[Section]:
    chords = [CHORD, celery("Redis", "chord", results=True)]
    trials = [
        *(fan(one, kind, ITEMS) for one in OURS for kind in ("parallel", "map")),
        *(fan(one, "chord", ITEMS) for one in chords),
        fan(DBOS, "workflows", ITEMS),
    ]
    if bench.seconds >= 1:
        trials += [fan(one, "map", THOUSAND) for one in OURS]
        trials += [fan(CHORD, "chord", THOUSAND)]
    rows = interleave(bench, TITLE, trials)
    note = "One run after the other. Divide the items by the rate for the time of one."
    for items in (ITEMS, THOUSAND):
        against = {"chord": name(CHORD, "chord", items), "DBOS": name(DBOS, "workflows", items)}
        chosen = [row for row in rows if row.trial.what.endswith(f" of {items}")]
        title = f"{TITLE} of {items:,} with a join"
        found = figures(chosen, items)
        yield from sections(title, "items", chosen, against, note=note, figures=found)
    if bench.seconds >= 1:
        title = f"{TITLE} of {LARGE:,}"
        trials = [Trial(one, f"map of {LARGE}", at_once, rounds=1) for one in OURS]
        trials += [Trial(one, "", at_once, rounds=1) for one in (CHORD, DBOS)]
        rows, against = interleave(bench, title, trials), {"chord": CHORD.name, "DBOS": DBOS.name}
        yield from sections(title, "items", rows, against, figures=figures(rows, LARGE))


def figures(rows: Sequence[Row], items: int) -> dict[str, float | None]:
    """What the targets ask for."""
    versus, ours = Versus(rows), name(PREFORK, "map", items)
    row = versus.row(ours)
    return {
        f"fan-out: map of {items}": row.rate if row else None,
        f"fan-out: chord of {items}": versus.fast(ours, name(CHORD, "chord", items)),
    }


def name(contender: Contender, kind: str, items: int) -> str:
    """What a trial is called."""
    return f"{contender.name}: {kind} of {items}"


def fan(contender: Contender, kind: str, items: int) -> Trial:
    """One run after the other, for about the time that a measurement should take."""

    def take(session: Session) -> Reading:
        session.ask("fan", kind=kind, items=ITEMS, times=1)
        times = max(1, min(5, round(3 * session.seconds * ITEMS / items)))
        return session.measure("fan", kind=kind, items=items, times=times)

    return Trial(contender, f"{kind} of {items}", take)


def at_once(session: Session) -> Reading:
    return session.measure("large", items=LARGE, limit=LIMIT)
