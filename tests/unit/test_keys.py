"""What becomes of a start whose key another run has."""

from __future__ import annotations

import pytest

from celery_durable import Status
from celery_durable.arguments import checked_key_policy
from celery_durable.core.keys import KeyConflict, KeyPolicy
from celery_durable.core.status import FINISHED
from celery_durable.errors import ConfigurationError

KEPT, REFUSED = KeyConflict.KEPT, KeyConflict.REFUSED
FREED, CANCELLED = KeyConflict.FREED, KeyConflict.CANCELLED


@pytest.mark.parametrize("status", sorted(set(Status) - FINISHED))
def test_an_unfinished_run_keeps_its_key_unless_it_is_cancelled(status: Status) -> None:
    for reuse in ("never", "after_failure", "always"):
        assert KeyPolicy("existing", reuse).conflict(status) is KEPT
        assert KeyPolicy("raise", reuse).conflict(status) is REFUSED
        assert KeyPolicy("cancel", reuse).conflict(status) is CANCELLED


def test_a_run_that_has_ended_gives_its_key_up_as_reuse_key_says() -> None:
    for on_conflict in ("existing", "raise", "cancel"):
        kept = REFUSED if on_conflict == "raise" else KEPT
        for status in FINISHED:
            after_failure = kept if status is Status.COMPLETED else FREED
            assert KeyPolicy(on_conflict, "never").conflict(status) is kept
            assert KeyPolicy(on_conflict, "after_failure").conflict(status) is after_failure
            assert KeyPolicy(on_conflict, "always").conflict(status) is FREED


@pytest.mark.parametrize(
    ("key", "on_conflict", "reuse_key", "words"),
    [
        (None, "raise", "never", "give the start a key="),
        (None, "existing", "always", "give the start a key="),
        ("k", "replace", "never", "on_conflict= takes one of 'existing', 'raise', 'cancel'"),
        ("k", None, "never", "on_conflict= takes one of"),
        ("k", "raise", True, "reuse_key= takes one of 'never', 'after_failure', 'always'"),
    ],
)
def test_what_no_start_can_do_is_refused(
    key: str | None, on_conflict: object, reuse_key: object, words: str
) -> None:
    """P12"""
    with pytest.raises(ConfigurationError, match=words):
        checked_key_policy(key, on_conflict, reuse_key)
