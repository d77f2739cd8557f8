"""The page on telemetry, the dashboard and the alerts speak of metrics that are there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from celery_durable.cli.group import COMMANDS
from celery_durable.core.metrics import METRICS, UNIT_SECONDS, Family, Sample
from celery_durable.view.metrics import families_of, text_of
from tests.addresses import ROOT

PAGE = ROOT / "docs/reference/telemetry.md"
DASHBOARD = json.loads((ROOT / "docs/telemetry/dashboard.json").read_text(encoding="utf-8"))
ALERTS = yaml.safe_load((ROOT / "docs/telemetry/alerts.yml").read_text(encoding="utf-8"))
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]

ROW = re.compile(r"^\| `(durable_\w+)` \| (\w+) \| ([^|]*) \| [^|]+ \|$", re.MULTILINE)


def exposed() -> Mapping[str, frozenset[str]]:
    """The names of all samples of a real exposition, and the names of their labels."""
    counted = [
        ((name, ("x",) * (len(UNIT_SECONDS.labels) + (name.endswith("_bucket")))), 1.0)
        for name in ("durable_unit_seconds_bucket", "durable_unit_seconds_sum")
    ]
    families = [one for one in families_of(counted, ()) if one.metric is UNIT_SECONDS]
    families += [
        Family(metric, [Sample(("x",) * len(metric.labels), 1)])
        for metric in METRICS
        if metric is not UNIT_SECONDS
    ]
    return {
        sample.name: frozenset(sample.labels)
        for family in text_string_to_metric_families(text_of(families))
        for sample in family.samples
    }


EXPOSED = exposed()


def test_every_metric_is_explained_as_it_is() -> None:
    found = [
        (name, kind, tuple(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in ROW.findall(PAGE.read_text(encoding="utf-8"))
    ]
    assert sorted(found) == sorted((one.name, str(one.kind), one.labels) for one in METRICS)


def expressions() -> Iterator[tuple[str, str]]:
    """Where an expression stands, and the expression."""
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"].removeprefix("label_values")


SELECTOR = re.compile(r"(?P<name>durable_\w+)(?:\{(?P<matchers>[^}]*)\})?")
MATCHER = re.compile(r'(?P<label>\w+)\s*(?:=~|!~|!=|=)\s*"')
GROUPED = re.compile(r"\bby \(([^)]*)\)")
LABEL_VALUES = re.compile(r"^\((?P<name>\w+), (?P<label>\w+)\)$")


@pytest.mark.parametrize(("where", "expression"), [*expressions()], ids=lambda text: text[:40])
def test_an_expression_names_metrics_and_labels_that_are_there(where: str, expression: str) -> None:
    assert len(SELECTOR.findall(expression)) > 0, where
    known: set[str] = set()
    for found in SELECTOR.finditer(expression):
        assert found["name"] in EXPOSED, f"{where}: no metric {found['name']}"
        labels = EXPOSED[found["name"]]
        known |= labels
        for label in MATCHER.findall(found["matchers"] or ""):
            assert label in labels, f"{where}: {found['name']} has no label {label}"
    grouped = {label.strip() for by in GROUPED.findall(expression) for label in by.split(",")}
    if values := LABEL_VALUES.match(expression):
        grouped.add(values["label"])
    assert grouped <= known, f"{where}: no label {grouped - known}"


def test_an_expression_of_a_metric_that_is_not_there_is_found() -> None:
    with pytest.raises(AssertionError, match="no metric durable_nothing"):
        test_an_expression_names_metrics_and_labels_that_are_there("x", "sum(durable_nothing)")
    with pytest.raises(AssertionError, match="has no label nothing"):
        test_an_expression_names_metrics_and_labels_that_are_there(
            "x", 'durable_workers{nothing="1"}'
        )
    with pytest.raises(AssertionError, match="no label"):
        test_an_expression_names_metrics_and_labels_that_are_there(
            "x", "sum by (queue) (durable_workers)"
        )


SHOWN = re.compile(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}")


def test_what_a_legend_or_an_alert_shows_is_a_label_of_its_result() -> None:
    said = [
        (target["expr"], target["legendFormat"])
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", ())
    ]
    said += [(rule["expr"], " ".join(rule["annotations"].values())) for rule in RULES]
    for expression, text in said:
        grouped = {label.strip() for by in GROUPED.findall(expression) for label in by.split(",")}
        assert set(SHOWN.findall(text)) <= grouped, (expression, text)


LINK = re.compile(r"docs/[\w/.-]+\.md(?:#[\w-]+)?")
COMMAND = re.compile(r"`durable ([a-z-]+)")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_it_means_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"]["summary"].endswith(".")
    links = LINK.findall(rule["annotations"]["action"])
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        assert (ROOT / path).exists(), link
        assert not anchor or anchor in anchors_of(ROOT / path), link
    assert set(COMMAND.findall(rule["annotations"]["action"])) <= COMMANDS.keys()


def anchors_of(page: Path) -> set[str]:
    """What links may name in a page, as GitHub makes them of its headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}


def test_panels_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
