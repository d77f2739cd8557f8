"""What is aimed at, beside what the same run has measured. What was not measured is left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.section import Section

AT_LEAST, AT_MOST = "at least", "at most"


@dataclass(frozen=True, slots=True)
class Target:
    """A bound of a figure that a part hands back under this name."""

    figure: str
    what: str
    side: str
    bound: float
    unit: str = "x"

    def is_met(self, measured: float) -> bool:
        return measured >= self.bound if self.side == AT_LEAST else measured <= self.bound


TARGETS = (
    Target("linear: DBOS", "steps/s, our best, of DBOS' best", AT_LEAST, 20),
    Target("linear: absurd", "steps/s, our best, of absurd's best", AT_LEAST, 8),
    Target("linear: chain", "steps/s of a Celery chain, RabbitMQ, both prefork 2", AT_LEAST, 12),
    Target("linear: floor, prefork", "steps/s of the floor 2 x 4, prefork 2", AT_LEAST, 2.0),
    Target("linear: floor, threads", "steps/s of the floor 1 x 8, threads 8", AT_LEAST, 1.5),
    Target("linear: processor", "processor time a step, of the floor's", AT_MOST, 0.45),
    Target(
        "linear: processor, bundle 1",
        "processor time a step without bundles, of the floor's",
        AT_MOST,
        1.7,
    ),
    Target("few: 4 together", "time of 4 runs together, of that with bundle 1", AT_MOST, 1.0),
    Target("few: 16 together", "time of 16 runs together, of that with bundle 1", AT_MOST, 0.5),
    Target("few: 64 together", "time of 64 runs together, of that with bundle 1", AT_MOST, 0.25),
    Target("latency: committed", "idle 10-step run until committed, of a chain", AT_MOST, 0.4),
    Target("latency: returned", "idle 10-step run until result(), of a chain", AT_MOST, 0.5),
    Target("fan-out: chord of 100", "items/s of a map of 100, of a chord's", AT_LEAST, 5),
    Target("fan-out: map of 1000", "items/s of a map of 1,000", AT_LEAST, 4000, ""),
    Target("fan-out: map of 10000", "items/s of a map of 10,000", AT_LEAST, 4000, ""),
    Target("counts: item", "statements for an item of a map, under load", AT_MOST, 0.3, ""),
    Target(
        "counts: item alone",
        "statements for an item of a map, each in a message of its own",
        AT_MOST,
        1.3,
        "",
    ),
    Target("start: apply_async", "starts/s, one at a time, of apply_async", AT_LEAST, 1.0),
    Target("growth: waiting", "steps/s beside many waiting runs", AT_LEAST, 0.95),
    Target("growth: finished", "steps/s beside many rows of ended runs", AT_LEAST, 0.95),
    Target("growth: snapshot", "steps/s while a session holds its snapshot", AT_LEAST, 0.95),
    Target("growth: steps", "cost of a step after 10,000, of one after 10", AT_MOST, 1.05),
    Target("prune: steps", "steps/s while a relay prunes old runs", AT_LEAST, 0.95),
    Target("page: overview", "the first overview, of 100,000 runs", AT_MOST, 500, " ms"),
    Target("page: a run of 10,000 units", "the first page of a large run", AT_MOST, 500, " ms"),
    Target("idle: statements", "statements/s of an idle worker", AT_MOST, 5, ""),
    Target("idle: processor", "idle worker beside many waiting runs, of a core", AT_MOST, 1, " %"),
)


def section(sections: Sequence[Section]) -> Section:
    """The table: what was measured, the target, and whether it is met."""
    figures = {name: value for one in sections for name, value in one.figures.items()}
    found = [(target, figures[target.figure]) for target in TARGETS if target.figure in figures]
    return Section(
        title="targets",
        columns=("what", "measured", "target", "met"),
        rows=[
            (
                target.what,
                _shown(measured, target),
                f"{target.side} {target.bound:g}{target.unit}",
                "yes" if target.is_met(measured) else "NO",
            )
            for target, measured in found
        ],
        note="Ours is RabbitMQ with the default settings where nothing else is said. Many waiting"
        " runs are a million with --large.",
        record=list(_record(found)),
    )


def _shown(measured: float, target: Target) -> str:
    digits = 0 if measured >= 100 else 2
    return f"{measured:.{digits}f}{target.unit}"


def _record(found: Sequence[tuple[Target, float]]) -> Iterator[dict[str, object]]:
    for target, measured in found:
        yield {
            "figure": target.figure,
            "what": target.what,
            "measured": measured,
            "side": target.side,
            "bound": target.bound,
            "met": target.is_met(measured),
        }
