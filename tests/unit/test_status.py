"""The statuses of a run and the legal changes between them."""

from typing import get_args

import pytest

from celery_durable.core.status import FINISHED, READ_FROM_TOKENS, TRANSITIONS, Status, StatusName


def reachable(start: Status) -> set[Status]:
    """`start`, and the statuses that may follow it however late."""
    seen, unseen = set[Status](), {start}
    while unseen:
        status = unseen.pop()
        seen.add(status)
        unseen |= TRANSITIONS[status] - seen
    return seen


def test_every_status_has_its_name() -> None:
    assert get_args(StatusName) == tuple(Status)


def test_every_status_says_what_may_follow() -> None:
    assert TRANSITIONS.keys() == set(Status)


def test_every_status_is_reachable_from_pending_and_all_but_pending_from_running() -> None:
    assert reachable(Status.PENDING) == set(Status)
    assert reachable(Status.RUNNING) == set(Status) - {Status.PENDING}


@pytest.mark.parametrize("status", Status)
def test_from_every_status_a_run_can_end(status: Status) -> None:
    assert reachable(status) & FINISHED


def test_what_is_finished_stays_so_but_may_be_undone() -> None:
    """A completed child with its parent; a failed run whose compensations have failed."""
    assert {Status.COMPLETED, Status.FAILED, Status.CANCELLED} == FINISHED
    assert not TRANSITIONS[Status.CANCELLED]
    assert TRANSITIONS[Status.COMPLETED] == TRANSITIONS[Status.FAILED] == {Status.COMPENSATING}


def test_what_is_not_finished_has_a_successor() -> None:
    assert all(TRANSITIONS[status] for status in set(Status) - FINISHED)


def test_what_is_read_from_tokens_comes_from_running_and_goes_back_to_it() -> None:
    assert {Status.SUSPENDED, Status.SLEEPING, Status.PAUSED} == READ_FROM_TOKENS
    for status in READ_FROM_TOKENS:
        assert Status.RUNNING.can_become(status)
        assert status.can_become(Status.RUNNING)
        before = {one for one in Status if one.can_become(status)}
        assert before <= {Status.RUNNING, *READ_FROM_TOKENS}


def test_only_a_claim_takes_a_run_from_one_wait_to_another() -> None:
    assert not Status.SUSPENDED.can_become("sleeping")
    assert not Status.SLEEPING.can_become("suspended")


def test_a_status_can_become_what_the_table_has_and_nothing_else() -> None:
    for before in Status:
        assert {after for after in Status if before.can_become(after)} == TRANSITIONS[before]


def test_what_is_no_status_is_refused() -> None:
    """P12"""
    with pytest.raises(ValueError, match="'complete' is not a valid Status"):
        Status.RUNNING.can_become("complete")


@pytest.mark.parametrize("status", Status)
def test_no_status_follows_itself(status: Status) -> None:
    assert status not in TRANSITIONS[status]


def test_a_run_that_is_compensating_can_no_longer_complete() -> None:
    assert Status.COMPLETED not in reachable(Status.COMPENSATING)


@pytest.mark.parametrize("status", Status)
def test_a_status_is_the_word_users_see(status: Status) -> None:
    assert status == str(status) == status.name.lower()
