"""A message may be delivered as often as it likes (P3, P4, P6)."""

import pytest

from tests.brokers.shop import UNNOTICED, Shop
from tests.waiting import wait_until

DELIVERIES = 50
RUNS = 8


@pytest.fixture(scope="module")
def workers(shop: Shop) -> None:
    shop.workers({}, {})


def test_a_transactional_step_delivered_50_times_at_once_leaves_exactly_one_row(
    shop: Shop, workers: None
) -> None:
    """Processes hold a run each, and more messages than they can take queue up behind."""
    runs = [shop.start("booking", book="hold") for _ in range(RUNS)]
    # Whichever: two relays publish at once, and a worker may prefetch the first behind others.
    wait_until(
        lambda: any(shop.ledger(run, "book", "begin") for run in runs),
        timeout=UNNOTICED,
        message="a run to be in hand",
    )
    messages = [message for run in runs for message in shop.hint(shop.token(run), DELIVERIES)]
    shop.open_gate(*runs)
    for run in runs:
        run.result(timeout=60)
    shop.wait_until_followed(messages)
    assert [len(shop.ledger(run, "book", "booked")) for run in runs] == [1] * RUNS
    assert [len(shop.ledger(run, "tell", "end")) for run in runs] == [1] * RUNS


def test_a_step_in_hand_is_not_begun_by_a_second_delivery(shop: Shop, workers: None) -> None:
    run = shop.start(charge="hold")
    shop.wait_for(run, "charge")
    shop.wait_until_followed(shop.hint(shop.token(run), DELIVERIES))
    assert len(shop.ledger(run, "charge")) == 1
    shop.finish(run, timeout=30)
    assert len(shop.ledger(run)) == 6


def test_a_late_message_changes_nothing(shop: Shop, workers: None) -> None:
    run = shop.start(charge="hold")
    shop.wait_for(run, "charge")
    token = shop.token(run)
    shop.finish(run, timeout=30)
    before = run.status(), run.history(), shop.ledger(run)
    shop.wait_until_followed(shop.hint(token))
    assert (run.status(), run.history(), shop.ledger(run)) == before
