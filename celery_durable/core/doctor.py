"""Judges what `durable doctor` has looked at: facts in, findings out.

Each check takes the facts and yields findings, none where its facts were not asked for.
`surroundings` judges the broker and the server, `population` the relays, workers, queues and runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from celery_durable.core import population, surroundings
from celery_durable.core.finding import Examination, Finding

Check = Callable[[Examination], Iterator[Finding]]

CHECKS: Sequence[Check] = (
    surroundings.settings,
    surroundings.broker,
    surroundings.content,
    surroundings.database,
    surroundings.server,
    surroundings.schema,
    surroundings.lock,
    surroundings.clock,
    surroundings.connections,
    surroundings.vacuum,
    surroundings.dead_rows,
    surroundings.horizon,
    population.relays,
    population.workers,
    population.queues,
    population.outbox,
    population.versions,
    population.sharing,
    population.runs,
    population.compensations,
    surroundings.beat,
)
"""In the order in which one mends things: what comes first may be the cause of what follows."""


def judge(facts: Examination) -> Sequence[Finding]:
    """Judge all that was looked at."""
    return [finding for check in CHECKS for finding in check(facts)]


READINESS: Sequence[Check] = (
    surroundings.settings,
    surroundings.broker,
    surroundings.database,
    surroundings.schema,
    population.relay_lives,
)


def judge_readiness(facts: Examination) -> Sequence[Finding]:
    """Judge whether runs can be started and go on."""
    return [finding for check in READINESS for finding in check(facts)]
