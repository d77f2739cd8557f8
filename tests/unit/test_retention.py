"""What prune takes, and how much it does at once."""

from datetime import timedelta

import click
import pytest

from celery_durable.background.pruning import AIM, FEWEST, MOST, Pace, ages_of
from celery_durable.cli.duration import duration
from celery_durable.core.retention import DAY, FOR_EVER, Retention
from celery_durable.errors import ConfigurationError


def test_without_arguments_the_setting_says_how_old_runs_must_be() -> None:
    assert ages_of(Retention(completed=1.0, failed=None)) == {
        "completed": timedelta(seconds=1),
        "cancelled": timedelta(days=90),
    }
    assert ages_of(FOR_EVER) == {}


def test_a_status_alone_narrows_what_the_setting_says() -> None:
    assert ages_of(Retention(), status="failed") == {"failed": timedelta(days=90)}
    assert ages_of(FOR_EVER, status="failed") == {}


@pytest.mark.parametrize("week", [7 * DAY, timedelta(days=7)])
def test_an_age_holds_for_all_statuses_and_goes_before_the_setting(
    week: float | timedelta,
) -> None:
    every = {"completed", "failed", "cancelled"}
    assert ages_of(FOR_EVER, week) == dict.fromkeys(every, timedelta(days=7))
    assert ages_of(FOR_EVER, week, "cancelled") == {"cancelled": timedelta(days=7)}


@pytest.mark.parametrize(
    ("status", "nearest"),
    [("running", ""), ("suspended", ""), ("faild", " Did you mean 'failed'?"), (7, "")],
)
def test_a_status_in_which_no_run_has_ended_is_refused(status: str, nearest: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        ages_of(Retention(), status=status)
    assert str(told.value) == (
        "status= takes the status of runs that have ended, completed, failed, cancelled, not"
        f" {status!r}.{nearest}"
    )


@pytest.mark.parametrize("age", [-1, "30d", True, timedelta(days=-1)])
def test_an_age_that_is_no_duration_is_refused(age: float) -> None:
    with pytest.raises(ConfigurationError, match="older_than= takes seconds or a timedelta"):
        ages_of(Retention(), older_than=age)


def test_a_transaction_that_took_long_makes_the_next_one_smaller() -> None:
    pace = Pace()
    before = pace.rows
    pace.took(3 * AIM, before)
    assert pace.rows == before // 2
    for _ in range(100):
        pace.took(1.0, pace.rows)
    assert pace.rows == FEWEST


def test_a_transaction_that_was_quick_makes_the_next_one_larger_if_it_was_full() -> None:
    pace = Pace()
    before = pace.rows
    pace.took(AIM / 10, before // 10)
    assert pace.rows == before
    for _ in range(100):
        pace.took(AIM / 10, pace.rows)
    assert pace.rows == MOST


def test_trees_with_many_rows_are_looked_at_one_by_one_in_the_end() -> None:
    pace = Pace()
    for _ in range(100):
        pace.saw_more()
    assert pace.tops == 1
    pace.took(AIM / 10, pace.rows)
    assert pace.tops > 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", timedelta(seconds=90)),
        ("45s", timedelta(seconds=45)),
        ("1.5h", timedelta(minutes=90)),
        ("30m", timedelta(minutes=30)),
        (" 30 d ", timedelta(days=30)),
        ("0", timedelta(0)),
    ],
)
def test_a_duration_is_a_number_with_a_unit(text: str, expected: timedelta) -> None:
    assert said(text) == expected


@pytest.mark.parametrize("text", ["", "d", "-1d", "30 days", "1e3", "nan", "40000d", "1d12h", "٣d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no duration"):
        said(text)


def said(text: str) -> timedelta | None:
    return duration(click.Context(click.Command("prune")), click.Option(["--older-than"]), text)
