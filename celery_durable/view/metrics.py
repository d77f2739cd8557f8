"""All that is measured, as Prometheus reads it.

The text is that of the exposition format 0.0.4
(https://prometheus.io/docs/instrumenting/exposition_formats/).
"""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from weakref import WeakKeyDictionary

import sqlalchemy as sa

from celery_durable.core import metrics
from celery_durable.core.metrics import BOUNDS, Family, Metric, Sample
from celery_durable.core.status import FINISHED
from celery_durable.durable import Durable
from celery_durable.process.tally import Series
from celery_durable.store import counts, definitions, sql
from celery_durable.store.connection import Statement
from celery_durable.store.read import gauges

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

KEPT_FOR = 5.0
"""Seconds for which an answer is given again, however many ask."""

SHARE = 20
"""It is given again for so many times as long as reading it took: scrapers cannot load Postgres."""

_BOUNDED = Statement(
    sa.select(sa.func.set_config(sql.word("statement_timeout"), sql.word("10s"), sa.true()))
)


class Measured:
    """What one process tells of one schema. Its threads share what one of them has read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._families: Sequence[Family] = ()
        self._until = -math.inf

    def read(self, durable: Durable) -> Sequence[Family]:
        """Return all metrics, at most a few seconds old."""
        with self._lock:
            began = time.monotonic()
            if began >= self._until:
                found = read(durable)
                took = time.monotonic() - began
                self._families = [*found, Family(metrics.READ_SECONDS, [Sample((), took)])]
                self._until = began + took + max(KEPT_FOR, SHARE * took)
            return self._families


_measured: WeakKeyDictionary[Durable, Measured] = WeakKeyDictionary()
_lock = threading.Lock()


def measured(durable: Durable) -> Sequence[Family]:
    """Return all metrics of the schema, at most a few seconds old.

    Raises `DatabaseUnavailable` and `SchemaOutOfDate`.
    """
    with _lock:
        kept = _measured.setdefault(durable, Measured())
    return kept.read(durable)


def exposition(durable: Durable) -> str:
    """Return the same as the text that Prometheus reads."""
    return text_of(measured(durable))


def read(durable: Durable) -> Sequence[Family]:
    """Read all metrics but the time that it takes."""
    with durable.database.read_only() as connection:
        connection.rows(_BOUNDED)
        counted = counts.counted(connection)
        workflows = definitions.names(connection)
        return [*families_of(counted, workflows), *gauges.families(connection)]


def families_of(
    counted: Iterable[tuple[Series, float]], workflows: Iterable[str]
) -> Iterator[Family]:
    """Yield the counters, and the histogram. What can be known before it happens begins with 0."""
    sums: defaultdict[str, dict[tuple[str, ...], float]] = defaultdict(dict)
    for workflow in workflows:
        sums[metrics.RUNS_STARTED.name][workflow,] = 0
        for status in FINISHED:
            sums[metrics.RUNS_ENDED.name][workflow, str(status)] = 0
    for cause in metrics.CAUSES:
        sums[metrics.TAKEOVERS.name][cause,] = 0
    for (name, labels), value in counted:
        sums[name][labels] = value
    for metric in metrics.COUNTED:
        if metric is metrics.UNIT_SECONDS:
            in_buckets, in_all = sums[metrics.SECONDS_IN_BUCKET], sums[metrics.SECONDS_IN_ALL]
            yield Family(metric, [*_of_histogram(in_buckets, in_all)])
        else:
            found = sorted(sums[metric.name].items())
            yield Family(metric, [Sample(labels, value) for labels, value in found])


def _of_histogram(
    in_buckets: Mapping[tuple[str, ...], float], in_all: Mapping[tuple[str, ...], float]
) -> Iterator[Sample]:
    """Yield the parts of a histogram. A bucket of the format counts those below it, too."""
    for labels, seconds in sorted(in_all.items()):
        each = [in_buckets.get((*labels, bound), 0) for bound in BOUNDS]
        total = 0.0
        for bound, total in zip(BOUNDS, accumulate(each), strict=True):
            yield Sample(labels, total, "_bucket", bound)
        yield Sample(labels, seconds, "_sum")
        yield Sample(labels, total, "_count")


def text_of(families: Iterable[Family]) -> str:
    """Return metrics in the text format."""
    return "".join(f"{line}\n" for family in families for line in _lines_of(family))


def _lines_of(family: Family) -> Iterator[str]:
    metric = family.metric
    yield f"# HELP {metric.name} {_escaped(metric.help)}"
    yield f"# TYPE {metric.name} {metric.kind}"
    for sample in family.samples:
        yield f"{metric.name}{sample.suffix}{_labels_of(metric, sample)} {_number(sample.value)}"


def _labels_of(metric: Metric, sample: Sample) -> str:
    labels = [*zip(metric.labels, sample.labels, strict=True)]
    if sample.le is not None:
        labels.append(("le", sample.le))
    listed = ",".join(f'{name}="{_quoted(value)}"' for name, value in labels)
    return f"{{{listed}}}" if listed else ""


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _quoted(value: str) -> str:
    return _escaped(value).replace('"', r"\"")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
