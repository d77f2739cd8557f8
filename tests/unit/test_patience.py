"""A wrong token costs its address time, and each further one more."""

from celery_durable.web.patience import (
    FIRST_DELAY,
    FORGOTTEN_AFTER,
    LONGEST_DELAY,
    MOST_ADDRESSES,
    Patience,
)

HERE, THERE = "10.0.0.1", "10.0.0.2"


def test_an_address_that_was_never_wrong_waits_for_nothing() -> None:
    assert Patience().delay(HERE, 5.0) == 0.0


def test_each_wrong_token_costs_twice_what_the_one_before_has_cost() -> None:
    patience, now, waited = Patience(), 100.0, []
    for number in range(1, 10):
        assert patience.wrong(HERE, now) == number
        delay = patience.delay(HERE, now)
        assert delay is not None
        waited.append(delay)
        now += delay
    doubled = [FIRST_DELAY * 2**n for n in range(9)]
    assert waited == [min(one, LONGEST_DELAY) for one in doubled]


def test_attempts_at_the_same_time_wait_for_one_another_until_they_are_refused() -> None:
    patience, waits = Patience(), []
    for _ in range(20):
        patience.wrong(HERE, 100.0)
        waits.append(patience.delay(HERE, 100.0))
    kept = [wait for wait in waits if wait is not None]
    assert kept == sorted(kept)
    assert kept[:3] == [0.5, 1.5, 3.5]
    assert waits[-1] is None


def test_another_address_waits_for_nothing() -> None:
    patience = Patience()
    patience.wrong(HERE, 100.0)
    assert patience.delay(THERE, 100.0) == 0.0


def test_an_address_is_forgiven_after_a_right_token_or_a_while() -> None:
    patience = Patience()
    for _ in range(3):
        patience.wrong(HERE, 100.0)
    patience.right(HERE)
    assert patience.wrong(HERE, 100.0) == 1
    assert patience.wrong(HERE, 102.0 + FORGOTTEN_AFTER) == 1


def test_no_more_addresses_are_kept_than_there_is_room_for() -> None:
    patience = Patience()
    for number in range(MOST_ADDRESSES + 1):
        patience.wrong(f"2001:db8::{number:x}", 100.0)
    assert len(patience._records) == MOST_ADDRESSES
    assert patience.delay("2001:db8::0", 100.0) == 0.0
    assert patience.delay("2001:db8::1", 100.0) == FIRST_DELAY
