"""What Prometheus is given is what its own parser reads."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from celery_durable.core import metrics
from celery_durable.core.metrics import BOUNDS, Family, Kind, Metric, Sample, bucket_of
from celery_durable.process.tally import Series
from celery_durable.view.metrics import families_of, text_of

STRANGE = 'a "b"\\n \\ \n é {x="y"}'


def parsed(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """The values that the text has, by name and labels."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[*sample.labels.items(),] = sample.value
    return found


def counted(*counts: tuple[Series, float], workflows: Iterable[str] = ()) -> str:
    return text_of(families_of(counts, workflows))


@pytest.mark.parametrize("text", [STRANGE, "", "\\", '"', "\n", "\\n", "日本"])
def test_labels_come_out_as_they_went_in(text: str) -> None:
    found = parsed(counted((("durable_unit_retries_total", (text, text)), 2)))
    assert found["durable_unit_retries_total"] == {(("workflow", text), ("unit", text)): 2}


def test_help_is_escaped() -> None:
    family = Family(Metric(Kind.GAUGE, "g", "a \\ and\na line"), [Sample((), 1)])
    (found,) = text_string_to_metric_families(text_of([family]))
    assert found.documentation == "a \\ and\na line"
    assert text_of([family]) == "# HELP g a \\\\ and\\na line\n# TYPE g gauge\ng 1\n"


@pytest.mark.parametrize("value", [0, 1, 0.1, 1e-9, 123456789012, 2.5e17, 1 / 3])
def test_numbers_come_out_as_they_went_in(value: float) -> None:
    assert (
        parsed(counted((("durable_takeovers_total", ("crash",)), value)))[
            "durable_takeovers_total"
        ][("cause", "crash"),]
        == value
    )


def test_each_metric_is_told_once_with_its_type_and_ends_in_a_line_feed() -> None:
    text = text_of(Family(metric) for metric in metrics.METRICS)
    told = [line.split() for line in text.splitlines() if line.startswith("# TYPE")]
    assert [name for _, _, name, _ in told] == [metric.name for metric in metrics.METRICS]
    assert [kind for *_, kind in told] == [metric.kind for metric in metrics.METRICS]
    assert text.endswith("\n")
    assert len({name.removesuffix("_total") for _, _, name, _ in told}) == len(told)


@pytest.mark.parametrize("metric", metrics.METRICS, ids=lambda metric: metric.name)
def test_names_are_those_that_prometheus_advises(metric: Metric) -> None:
    assert metric.name.startswith("durable_")
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    assert not metric.name.endswith(("_ms", "_milliseconds", "_minutes", "_count", "_sum"))
    assert "le" not in metric.labels


def test_a_histogram_adds_up() -> None:
    series = ("w", "charge", "completed")
    seconds = [0.001, 0.02, 0.02, 5, 100_000]
    counts = [
        *(((metrics.SECONDS_IN_BUCKET, (*series, bucket_of(one))), 1.0) for one in seconds[:2]),
        ((metrics.SECONDS_IN_BUCKET, (*series, bucket_of(5))), 1.0),
        ((metrics.SECONDS_IN_BUCKET, (*series, bucket_of(100_000))), 1.0),
        ((metrics.SECONDS_IN_ALL, series), sum(seconds)),
    ]
    found = parsed(counted(*counts))
    labels = (("workflow", "w"), ("unit", "charge"), ("outcome", "completed"))
    buckets = {
        dict(key)["le"]: value for key, value in found["durable_unit_seconds_bucket"].items()
    }
    assert list(buckets) == list(BOUNDS)
    assert [*buckets.values()] == sorted(buckets.values()), "each counts those below it, too"
    assert (buckets["0.01"], buckets["0.03"], buckets["3"], buckets["10"]) == (1, 2, 2, 3)
    assert buckets["+Inf"] == found["durable_unit_seconds_count"][labels] == 4
    assert found["durable_unit_seconds_sum"][labels] == pytest.approx(sum(seconds))


def test_a_duration_is_in_the_bucket_that_has_its_bound() -> None:
    assert [bucket_of(one) for one in (0, 0.01, 0.011, 3600, 3601)] == [
        *("0.01", "0.01", "0.03", "3600", "+Inf")
    ]


def test_what_can_be_known_begins_with_zero() -> None:
    found = parsed(counted(workflows=["w"]))
    assert found["durable_runs_started_total"] == {(("workflow", "w"),): 0}
    assert {dict(key)["status"] for key in found["durable_runs_ended_total"]} == {
        *("completed", "failed", "cancelled")
    }
    assert {dict(key)["cause"] for key in found["durable_takeovers_total"]} == {
        *("crash", "shutdown", "timeout")
    }
