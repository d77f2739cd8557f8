"""What a bulk action counts, and the names of the actions."""

from __future__ import annotations

from typing import get_args
from uuid import uuid4

import pytest

from celery_durable import BulkResult
from celery_durable.bulk.actions import ACTIONS
from celery_durable.bulk.client import Bulk, BulkAction
from celery_durable.bulk.result import Acted, Tally, reason_of
from celery_durable.cli.bulk import SAID
from celery_durable.errors import RunRefused


def test_each_action_is_a_method_and_has_words() -> None:
    assert set(get_args(BulkAction)) == set(ACTIONS) == set(SAID)
    for name in ACTIONS:
        assert hasattr(Bulk, name)


def test_reasons_that_differ_by_the_run_are_one() -> None:
    first, second = uuid4(), uuid4()
    errors = [RunRefused(run, f"Run {run} is tried again already.") for run in (first, second)]
    assert {reason_of(error) for error in errors} == {"Run … is tried again already."}


def test_pages_are_added_up_and_the_first_runs_of_a_reason_are_named() -> None:
    tally, runs = Tally(), [uuid4() for _ in range(8)]
    assert tally.result() == BulkResult()
    refused = {run: RunRefused(run, f"Run {run}: no.") for run in runs[3:7]}
    tally.add(5, Acted(set(runs[:3]), dict([*refused.items()][:1])))
    tally.add(4, Acted(set(), dict([*refused.items()][1:])))
    found = tally.result()
    assert (found.matched, found.done, found.unchanged) == (9, 3, 2)
    assert found.refused == {"Run …: no.": 4}
    assert found.examples == {"Run …: no.": tuple(runs[3:6])}


def test_a_result_that_was_handed_out_does_not_change() -> None:
    """It may be kept by whoever listens to the progress."""
    tally, run = Tally(), uuid4()
    tally.add(1, Acted(set(), {run: RunRefused(run, "no")}))
    before = tally.result()
    tally.add(1, Acted(set(), {uuid4(): RunRefused(run, "no")}))
    assert before.refused == {"no": 1}
    assert before.examples == {"no": (run,)}
    with pytest.raises(TypeError):
        before.refused["no"] = 2  # type: ignore[index]
