"""The statuses of a run and the legal changes between them."""

import pytest

from celery_durable.core.status import FINISHED, READ_FROM_TOKENS, TRANSITIONS, Status


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


def test_what_is_finished_stays_so_but_a_completed_child_may_be_undone() -> None:
    assert {Status.COMPLETED, Status.FAILED, Status.CANCELLED} == FINISHED
    assert not TRANSITIONS[Status.FAILED] | TRANSITIONS[Status.CANCELLED]
    assert TRANSITIONS[Status.COMPLETED] == {Status.COMPENSATING}


def test_what_is_not_finished_has_a_successor() -> None:
    assert all(TRANSITIONS[status] for status in set(Status) - FINISHED)


def test_what_is_read_from_tokens_comes_from_running_and_goes_back_to_it() -> None:
    assert {Status.SUSPENDED, Status.SLEEPING} == READ_FROM_TOKENS
    for status in READ_FROM_TOKENS:
        assert TRANSITIONS[status] == {Status.RUNNING}
        assert [before for before in Status if status in TRANSITIONS[before]] == [Status.RUNNING]


@pytest.mark.parametrize("status", Status)
def test_no_status_follows_itself(status: Status) -> None:
    assert status not in TRANSITIONS[status]


def test_a_run_that_is_compensating_can_no_longer_complete() -> None:
    assert Status.COMPLETED not in reachable(Status.COMPENSATING)


@pytest.mark.parametrize("status", Status)
def test_a_status_is_the_word_users_see(status: Status) -> None:
    assert status == str(status) == status.name.lower()
