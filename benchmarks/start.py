"""What a start costs whoever starts: no worker is there, and nothing is published but by
`apply_async`.

A run that is started is committed. A Celery message is in the broker's hands only when that has
confirmed it; without confirms it has been written to a socket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from benchmarks.bench import Bench
from benchmarks.compare import Versus, sections
from benchmarks.contenders import ABSURD, DBOS, celery, ours
from benchmarks.rounds import Row, Trial, interleave
from benchmarks.section import Section
from benchmarks.session import Reading, Session

TITLE = "start"
PROBE = 20
MOST = 20_000

OURS = ours("pgmq").alone("ours")
"""Which broker its relay would publish to makes no difference here."""

RABBITMQ = celery("RabbitMQ").alone("apply_async, RabbitMQ")
REDIS = celery("Redis").alone("apply_async, Redis")
ENQUEUE, SPAWN = DBOS.alone("DBOS, enqueue"), ABSURD.alone("absurd, spawn")

KINDS = {
    "one": "one at a time",
    "session": "each in the caller's transaction",
    "many": "start_many",
}


def measure(bench: Bench) -> Iterator[Section]:
    trials = [
        *(Trial(OURS, words, starts(how)) for how, words in KINDS.items()),
        Trial(RABBITMQ, "confirmed", starts("confirmed")),
        Trial(RABBITMQ, "", starts("unconfirmed")),
        Trial(REDIS, "", starts("unconfirmed")),
        Trial(ENQUEUE, "", starts("one")),
        Trial(SPAWN, "", starts("one")),
    ]
    rows = interleave(bench, TITLE, trials)
    against = {
        "apply_async, confirmed": f"{RABBITMQ.name}: confirmed",
        "apply_async": RABBITMQ.name,
        "DBOS": ENQUEUE.name,
        "absurd": SPAWN.name,
    }
    note = "No worker is there."
    return sections(TITLE, "starts", rows, against, note=note, figures=figures(rows))


def figures(rows: Sequence[Row]) -> dict[str, float | None]:
    """What the targets ask for."""
    one = f"{OURS.name}: {KINDS['one']}"
    return {"start: apply_async": Versus(rows).fast(one, RABBITMQ.name)}


def starts(how: str) -> Callable[[Session], Reading]:
    def take(session: Session) -> Reading:
        session.ask("start", how=how, count=PROBE)
        probe = session.measure("start", how=how, count=PROBE)
        count = int(session.seconds * PROBE / probe.answer["seconds"])
        return session.measure("start", how=how, count=min(max(count, PROBE), MOST))

    return take
