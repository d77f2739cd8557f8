"""When, and how long after a failure, a unit is tried again."""

import dataclasses
import math
import re
from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from celery_durable.core.retry import COMPENSATOR_RETRY, STEP_RETRY, RetryPolicy
from celery_durable.errors import ConfigurationError

chances = st.floats(0, 1, exclude_max=True)
numbers = st.floats(0, 1e6)
policies = st.builds(
    RetryPolicy,
    backoff=st.sampled_from(["exponential", "linear", "fixed"]),
    initial=numbers,
    factor=numbers,
    maximum=numbers,
    jitter=st.booleans(),
)


class Declined(Exception):
    pass


class StolenCard(Declined):
    pass


@pytest.mark.parametrize(
    ("backoff", "waits"),
    [("exponential", [2, 6, 18, 50, 50]), ("linear", [2, 4, 6, 8, 10]), ("fixed", [2] * 5)],
)
def test_the_wait_grows_by_the_backoff_up_to_the_maximum(backoff: Any, waits: list[float]) -> None:
    policy = RetryPolicy(backoff=backoff, initial=2, factor=3, maximum=50, jitter=False)
    assert [policy.delay_after(attempt, 0.7) for attempt in range(1, 6)] == waits


@given(
    initial=st.floats(0.001, 1e6),
    factor=st.floats(0.5, 1e6),
    maximum=st.floats(0, 1e6),
    attempt=st.integers(1, 2_000),
)
@example(initial=1.0, factor=1.05, maximum=60.0, attempt=85)
def test_the_exponential_wait_is_the_formula_of_the_docstring(
    initial: float, factor: float, maximum: float, attempt: int
) -> None:
    policy = RetryPolicy(initial=initial, factor=factor, maximum=maximum, jitter=False)
    logarithm = math.log(initial) + (attempt - 1) * math.log(factor)
    expected = min(math.exp(min(logarithm, 100)), maximum)
    assert policy.delay_after(attempt, 0.0) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@given(policies, st.integers(1, 10_000), chances)
def test_the_wait_is_never_negative_nor_longer_than_the_maximum(
    policy: RetryPolicy, attempt: int, chance: float
) -> None:
    assert 0 <= policy.delay_after(attempt, chance) <= policy.maximum


@given(policies, st.integers(1, 60), chances)
def test_jitter_draws_from_the_upper_half_of_the_wait(
    policy: RetryPolicy, attempt: int, chance: float
) -> None:
    full = dataclasses.replace(policy, jitter=False).delay_after(attempt, chance)
    drawn = dataclasses.replace(policy, jitter=True).delay_after(attempt, chance)
    assert Fraction(drawn) == pytest.approx(Fraction(full) * (1 + Fraction(chance)) / 2)
    assert full / 2 <= drawn <= full


def test_only_what_is_an_instance_of_retry_on_and_not_of_give_up_on_is_tried_again() -> None:
    policy = RetryPolicy(retry_on=(Declined, TimeoutError), give_up_on=(StolenCard,))
    assert policy.retries(Declined())
    assert policy.retries(TimeoutError())
    assert not policy.retries(StolenCard())
    assert not policy.retries(ValueError())


@pytest.mark.parametrize("failure", [ValueError(), KeyboardInterrupt(), SystemExit("no")])
def test_by_default_whatever_is_raised_is_tried_again(failure: BaseException) -> None:
    assert STEP_RETRY.retries(failure)
    assert not RetryPolicy(retry_on=(ValueError, OSError)).retries(KeyboardInterrupt())
    assert not RetryPolicy(give_up_on=(type(failure),)).retries(failure)


def test_an_undo_is_worth_more_patience_than_a_step() -> None:
    assert (STEP_RETRY.max_attempts, COMPENSATOR_RETRY.max_attempts) == (3, 5)


def test_durations_may_be_timedeltas_and_are_kept_as_seconds() -> None:
    policy: Any = RetryPolicy
    made = policy(
        initial=timedelta(milliseconds=500), maximum=timedelta(minutes=2), max_elapsed=timedelta(1)
    )
    assert (made.initial, made.maximum, made.max_elapsed) == (0.5, 120.0, 86_400.0)


def test_one_exception_class_or_a_list_of_them_will_do() -> None:
    policy: Any = RetryPolicy
    assert policy(retry_on=ValueError).retry_on == (ValueError,)
    assert policy(give_up_on=[ValueError, KeyError]).give_up_on == (ValueError, KeyError)


def test_equal_policies_are_equal_values() -> None:
    assert RetryPolicy(initial=1) == RetryPolicy(initial=1.0)
    assert len({RetryPolicy(), RetryPolicy(), RetryPolicy(max_attempts=4)}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        RetryPolicy().max_attempts = 4  # type: ignore[misc]


SECONDS = "a number that is not negative"


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("max_attempts", 0, "1 or more (the first try counts)"),
        ("max_attempts", 2.0, "a whole number"),
        ("max_attempts", True, "a whole number"),
        ("max_attempts", "3", "a whole number"),
        ("max_attempts", None, "a whole number"),
        ("backoff", "quadratic", "one of exponential, linear, fixed"),
        ("backoff", ["fixed"], "one of exponential, linear, fixed"),
        ("initial", -1, SECONDS),
        ("initial", None, SECONDS),
        ("initial", True, SECONDS),
        ("factor", "2", SECONDS),
        ("maximum", math.nan, SECONDS),
        ("max_elapsed", timedelta(seconds=-1), SECONDS),
        ("retry_on", "ValueError", "exception classes"),
        ("retry_on", (ValueError(),), "exception classes"),
        ("give_up_on", (int,), "exception classes"),
    ],
)
def test_a_wrong_option_is_refused_by_name(option: str, value: object, expected: str) -> None:
    policy: Any = RetryPolicy
    told = re.escape(f"RetryPolicy({option}=...) takes {expected}, not ")
    with pytest.raises(ConfigurationError, match=f"^{told}"):
        policy(**{option: value})
