"""Runs that fork into items and join: 100 items, one run after the other; then 10,000 at once.

A chord needs a result backend that counts, and has Redis with either broker. DBOS enqueues a
workflow for each item, and its parent waits for their results with the poll of its queue. The large
one is measured in one round, and is stopped after 20 seconds: its rate then counts the items
that had ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.bench import Bench
from benchmarks.compare import sections
from benchmarks.contenders import DBOS, celery, ours
from benchmarks.rounds import Trial, interleave
from benchmarks.section import Section
from benchmarks.session import Reading, Session

TITLE = "fan-out"
ITEMS, LARGE = 100, 10_000
LIMIT = 20.0
"""Seconds after which a large one is stopped."""

CHORD = celery("RabbitMQ", "chord", results=True)
OURS = (ours("RabbitMQ"), ours("RabbitMQ", "threads", 8))


def measure(bench: Bench) -> Iterator[Section]:
    small = [
        *(Trial(one, kind, fan(kind)) for one in OURS for kind in ("parallel", "map")),
        *(Trial(one, "", fan("chord")) for one in (CHORD, celery("Redis", "chord", results=True))),
        Trial(DBOS, "", fan("workflows")),
    ]
    against = {"chord": CHORD.name, "DBOS": DBOS.name}
    title = f"{TITLE} of {ITEMS} with a join"
    note = "One run after the other. Divide the items by the rate for the time of one."
    yield from sections(title, "items", interleave(bench, title, small), against, note)
    if bench.seconds >= 1:
        title = f"{TITLE} of {LARGE:,}"
        large = [Trial(one, "", at_once, rounds=1) for one in (*OURS, CHORD, DBOS)]
        yield from sections(title, "items", interleave(bench, title, large), against)


def fan(kind: str) -> Callable[[Session], Reading]:
    def take(session: Session) -> Reading:
        session.ask("fan", kind=kind, items=ITEMS, times=1)
        times = max(1, min(5, round(3 * session.seconds)))
        return session.measure("fan", kind=kind, items=ITEMS, times=times)

    return take


def at_once(session: Session) -> Reading:
    return session.measure("large", items=LARGE, limit=LIMIT)
