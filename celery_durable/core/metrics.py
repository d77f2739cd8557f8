"""Names what is measured: counters that only grow, a histogram, and gauges; and what is a sample.

Names and labels are those of Prometheus (https://prometheus.io/docs/practices/naming/): counters
end in `_total`, times are in seconds. What a person reads of each is in
docs/reference/telemetry.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """The type of a metric, as Prometheus knows it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """Something that is measured: its name, the names of its labels, and a line of help."""

    kind: Kind
    name: str
    help: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a metric; `suffix` tells the parts of a histogram, `le` its buckets."""

    labels: tuple[str, ...]
    value: float
    suffix: str = ""
    le: str | None = None


@dataclass(frozen=True, slots=True)
class Family:
    """A metric with its samples."""

    metric: Metric
    samples: Sequence[Sample] = field(default=())


RUNS_STARTED: Final = Metric(
    Kind.COUNTER,
    "durable_runs_started_total",
    "Runs that a worker has begun with.",
    ("workflow",),
)
RUNS_ENDED: Final = Metric(
    Kind.COUNTER,
    "durable_runs_ended_total",
    "Runs that have ended, by the status they ended with.",
    ("workflow", "status"),
)
UNIT_SECONDS: Final = Metric(
    Kind.HISTOGRAM,
    "durable_unit_seconds",
    "Seconds that executions of units took, one for each attempt.",
    ("workflow", "unit", "outcome"),
)
UNIT_RETRIES: Final = Metric(
    Kind.COUNTER,
    "durable_unit_retries_total",
    "Attempts that have failed and are followed by another.",
    ("workflow", "unit"),
)
UNIT_FAILURES: Final = Metric(
    Kind.COUNTER,
    "durable_unit_failures_total",
    "Units that have failed for good, compensations left out.",
    ("workflow", "unit"),
)
COMPENSATION_FAILURES: Final = Metric(
    Kind.COUNTER,
    "durable_compensation_failures_total",
    "Compensations that have failed for good: what they should undo is not undone.",
    ("workflow", "unit"),
)
TAKEOVERS: Final = Metric(
    Kind.COUNTER,
    "durable_takeovers_total",
    "Units taken away from a worker that died (crash), left (shutdown) or took too long (timeout).",
    ("cause",),
)
MESSAGES_PUBLISHED: Final = Metric(
    Kind.COUNTER,
    "durable_messages_published_total",
    "Messages that relays have published; one may name several runs.",
    ("queue",),
)
MESSAGES_REFUSED: Final = Metric(
    Kind.COUNTER,
    "durable_messages_refused_total",
    "Tries to publish a message that the broker refused.",
    ("queue",),
)

COUNTED: Final = (
    RUNS_STARTED,
    RUNS_ENDED,
    UNIT_SECONDS,
    UNIT_RETRIES,
    UNIT_FAILURES,
    COMPENSATION_FAILURES,
    TAKEOVERS,
    MESSAGES_PUBLISHED,
    MESSAGES_REFUSED,
)
"""What processes count as it happens."""

UNFINISHED: Final = Metric(
    Kind.GAUGE, "durable_runs_unfinished", "Runs that have not ended.", ("status",)
)
NOT_COMPENSATED: Final = Metric(
    Kind.GAUGE,
    "durable_runs_not_compensated",
    "Runs that have ended and of which something is not undone, until that is tried again.",
)
OLDEST_RUNNABLE: Final = Metric(
    Kind.GAUGE,
    "durable_oldest_runnable_token_seconds",
    "How long the oldest token that could be executed has not been, published or not.",
    ("queue",),
)
UNPUBLISHED: Final = Metric(
    Kind.GAUGE,
    "durable_messages_unpublished",
    "Messages that are due and that no relay has published.",
    ("queue",),
)
OLDEST_UNPUBLISHED: Final = Metric(
    Kind.GAUGE,
    "durable_oldest_unpublished_message_seconds",
    "How long the oldest message that is due has not been published.",
    ("queue",),
)
UNTAKEN: Final = Metric(
    Kind.GAUGE,
    "durable_messages_untaken",
    "Tokens whose message is published and that no worker has claimed.",
    ("queue",),
)
OLDEST_UNTAKEN: Final = Metric(
    Kind.GAUGE,
    "durable_oldest_untaken_message_seconds",
    "How long the oldest token with a published message could have been claimed.",
    ("queue",),
)
LATER: Final = Metric(
    Kind.GAUGE, "durable_messages_later", "Messages whose time has not come.", ("queue",)
)
POSTPONED: Final = Metric(
    Kind.GAUGE,
    "durable_messages_postponed",
    "Messages that the broker has refused and that are tried again.",
    ("queue",),
)
EXECUTING: Final = Metric(
    Kind.GAUGE, "durable_tokens_claimed", "Tokens that workers have claimed.", ("queue",)
)
CONSUMERS: Final = Metric(
    Kind.GAUGE, "durable_queue_workers", "Live worker processes that take messages.", ("queue",)
)
SLOTS: Final = Metric(
    Kind.GAUGE,
    "durable_queue_slots",
    "Messages that the live workers of a queue execute at once.",
    ("queue",),
)
BUSY: Final = Metric(Kind.GAUGE, "durable_queue_slots_busy", "Slots that are in use.", ("queue",))
WORKERS: Final = Metric(Kind.GAUGE, "durable_workers", "Worker processes.", ("state",))
RELAYS: Final = Metric(
    Kind.GAUGE,
    "durable_relays",
    "Relays seen lately: publishing, or hindered by the broker or an error.",
    ("state",),
)
READ_SECONDS: Final = Metric(
    Kind.GAUGE, "durable_read_seconds", "Seconds that it took to read these values."
)

READ: Final = (
    UNFINISHED,
    NOT_COMPENSATED,
    OLDEST_RUNNABLE,
    UNPUBLISHED,
    OLDEST_UNPUBLISHED,
    UNTAKEN,
    OLDEST_UNTAKEN,
    LATER,
    POSTPONED,
    EXECUTING,
    CONSUMERS,
    SLOTS,
    BUSY,
    WORKERS,
    RELAYS,
    READ_SECONDS,
)
"""What is read from the tables when it is asked for."""

METRICS: Final = COUNTED + READ

CAUSES: Final = ("crash", "shutdown", "timeout")
"""Why a unit was taken over."""

SECONDS_IN_BUCKET: Final = f"{UNIT_SECONDS.name}_bucket"
SECONDS_IN_ALL: Final = f"{UNIT_SECONDS.name}_sum"
"""The two series of the histogram that are counted: executions by their bucket, and seconds."""

BUCKETS: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3600.0)
"""Upper bounds of a histogram's buckets, in seconds; one more has no bound."""

BOUNDS: Final = (*(f"{bound:g}" for bound in BUCKETS), "+Inf")
"""The same as the label `le` has them."""


def bucket_of(seconds: float) -> str:
    """Return the bound of the first bucket that has room for `seconds`."""
    for bucket, bound in zip(BUCKETS, BOUNDS, strict=False):
        if seconds <= bucket:
            return bound
    return BOUNDS[-1]
