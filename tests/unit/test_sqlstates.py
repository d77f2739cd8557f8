"""Which violation of a unique constraint says that a unit is recorded already."""

import psycopg
import pytest

from celery_durable.store.sqlstates import AlreadyRecorded, raise_known


def violation_of(key: str) -> psycopg.errors.UniqueViolation:
    return psycopg.errors.UniqueViolation(f'duplicate key value violates unique constraint "{key}"')


@pytest.mark.parametrize(
    "key", ["durable_journal_pkey", "durable_journal_2027_01_pkey", "durable_journal_before_pkey"]
)
def test_the_key_of_the_journal_is_known_in_each_partition(key: str) -> None:
    with pytest.raises(AlreadyRecorded):
        raise_known(violation_of(key), "public")


@pytest.mark.parametrize("key", ["durable_run_workflow_key_key", "durable_token_pkey"])
def test_no_other_key_is_taken_for_it(key: str) -> None:
    raise_known(violation_of(key), "public")
