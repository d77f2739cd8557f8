"""The metrics as observable instruments of OpenTelemetry, for one process to export.

Names and attributes are those of Prometheus, without `_total`. OpenTelemetry has no histogram that
is observed: of one there are the count and the sum.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from celery_durable.core.metrics import METRICS, Kind, Metric, Sample
from celery_durable.durable import Durable
from celery_durable.errors import DurableError
from celery_durable.view.metrics import measured

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

logger = logging.getLogger(__name__)

NAME = "celery_durable"


def observe(durable: Durable, meter_provider: MeterProvider | None = None) -> bool:
    """Have a meter provider, by default the global one, observe all metrics of this schema.

    To be called in one process: each that does exports the same. Returns False without
    OpenTelemetry's API; without a meter provider it costs nothing.
    """
    try:
        from opentelemetry import metrics as api  # noqa: PLC0415 - it comes with the extra
    except ModuleNotFoundError:
        return False
    meter = api.get_meter(NAME, meter_provider=meter_provider)
    for metric in METRICS:
        for suffix in ("_count", "_sum") if metric.kind is Kind.HISTOGRAM else ("",):
            is_gauge = metric.kind is Kind.GAUGE
            make = meter.create_observable_gauge if is_gauge else meter.create_observable_counter
            name = metric.name.removesuffix("_total") + suffix
            make(name, [_callback(durable, metric, suffix)], _unit(name), metric.help)
    return True


def _unit(name: str) -> str:
    return "s" if name.endswith(("_seconds", "_seconds_sum")) else ""


def _callback(
    durable: Durable, metric: Metric, suffix: str
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    from opentelemetry.metrics import Observation  # noqa: PLC0415 - it comes with the extra

    def observations(_: CallbackOptions) -> Iterator[Observation]:
        for sample in _samples(durable, metric):
            if sample.suffix == suffix:
                attributes = dict(zip(metric.labels, sample.labels, strict=True))
                yield Observation(sample.value, attributes)

    return observations


def _samples(durable: Durable, metric: Metric) -> Iterable[Sample]:
    try:
        families = measured(durable)
    except DurableError as error:
        logger.warning("%s cannot be read: %s", metric.name, error)
        return ()
    return next(one.samples for one in families if one.metric is metric)
