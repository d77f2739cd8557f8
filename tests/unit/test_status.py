"""The statuses of a run and the legal changes between them."""

import pytest

from celery_durable.core.status import FINISHED, TRANSITIONS, Status


def reachable(start: Status) -> set[Status]:
    """`start`, and the statuses that may follow it however late."""
    seen, unseen = set[Status](), {start}
    while unseen:
        status = unseen.pop()
        seen.add(status)
        unseen |= TRANSITIONS[status] - seen
    return seen


def test_every_status_says_what_may_follow() -> None:
    assert TRANSITIONS.keys() == set(Status)


def test_every_status_is_reachable_from_pending_and_all_but_pending_from_running() -> None:
    assert reachable(Status.PENDING) == set(Status)
    assert reachable(Status.RUNNING) == set(Status) - {Status.PENDING}


@pytest.mark.parametrize("status", Status)
def test_from_every_status_a_run_can_end(status: Status) -> None:
    assert reachable(status) & FINISHED


def test_what_is_finished_has_no_successor_and_everything_else_has() -> None:
    assert {Status.COMPLETED, Status.FAILED, Status.CANCELLED} == FINISHED
    assert all(bool(TRANSITIONS[status]) is (status not in FINISHED) for status in Status)


@pytest.mark.parametrize("status", Status)
def test_no_status_follows_itself(status: Status) -> None:
    assert status not in TRANSITIONS[status]


def test_a_run_that_is_compensating_can_no_longer_complete() -> None:
    assert Status.COMPLETED not in reachable(Status.COMPENSATING)


@pytest.mark.parametrize("status", Status)
def test_a_status_is_the_word_users_see(status: Status) -> None:
    assert status == str(status) == status.name.lower()
