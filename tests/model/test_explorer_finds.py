"""The explorer finds what it is for: each test breaks a promise and is told which."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from celery_durable.core import decide, waits
from celery_durable.core.claim import Claim
from celery_durable.core.decision import Undo
from celery_durable.core.token import Token
from celery_durable.engine.claims import Claims
from celery_durable.store import journal, tokens
from celery_durable.store import tables as t
from celery_durable.store.bundle import claiming, committing
from celery_durable.store.bundle.claiming import Look
from celery_durable.store.bundle.committing import Plain
from celery_durable.store.commit import statement
from celery_durable.store.commit.parameters import variant_of
from celery_durable.store.connection import Connection, Statement
from tests.model.explorer import Violation
from tests.model.scenarios import SCENARIOS
from tests.model.stage import Stage
from tests.model.test_explorer import explore

Find = Callable[[str], str]


@pytest.fixture
def find(model_database_url: str, stage: Stage) -> Find:
    """Explore a scenario; the report of what was found."""

    def find(name: str) -> str:
        (scenario,) = (one for one in SCENARIOS if one.name == name)
        with pytest.raises(Violation) as found:
            explore(model_database_url, stage, scenario, scenario.limits)
        return str(found.value)

    return find


def test_a_commit_that_forgets_its_hint_is_found(
    find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        statement, "variant_of", lambda *given: replace(variant_of(*given), hints=False)
    )
    assert "P2: something moves every token" in find("linear: a crash and a duplicate")


def test_a_second_claim_of_a_claimed_token_is_found(
    find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = tokens.claim

    def claims_anyway(connection: Connection, token_id: UUID, worker: UUID, fence: UUID) -> Any:
        free = sa.update(t.token).where(t.token.c.id == token_id).values(claimed_by=sa.null())
        connection.rows(Statement(free))
        return claim(connection, token_id, worker, fence)

    monkeypatch.setattr(tokens, "claim", claims_anyway)
    assert "P4: one execution at a time" in find("linear: a crash and a duplicate")


def test_a_park_without_a_second_look_is_found(find: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Claims, "again", lambda *_: None)
    report = find("signal: before, while and after it is waited for")
    assert "P2: something moves every token" in report
    assert "resume 1 begins" in report


def test_a_rollback_that_leaves_something_out_is_found(
    find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    next_undo = journal.next_undo

    def only_one(connection: Connection, token: Token) -> Undo | None:
        return None if token.rollback else next_undo(connection, token)

    monkeypatch.setattr(journal, "next_undo", only_one)
    assert "P8: a failed run has undone" in find("rollback: a crash in the middle")


def test_a_bundle_that_begins_on_an_old_look_is_found(
    find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Claims, "look_again", lambda _self, claims: as_they_were(claims))
    report = find("bundle: a cancel of one, whose units begin late")
    assert "P3: a cancel lets nothing begin" in report


def as_they_were(claims: Sequence[Claim]) -> dict[UUID, Look]:
    return {c.token.id: Look(c.seen_at, c.token.flags, c.draining, c.has_commands) for c in claims}


def test_a_bundle_that_gives_back_without_a_hint_is_found(
    find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = claiming.release

    def forgets(connection: Connection, *given: Any, **options: Any) -> Any:
        released = release(connection, *given, **options)
        for one in released:
            connection.rows(Statement(sa.delete(t.outbox).where(t.outbox.c.token_id == one)))
        return released

    monkeypatch.setattr(claiming, "release", forgets)
    assert "P2: something moves every token" in find("bundle: the guard writes, and gives back")


def test_branches_that_are_counted_as_one_are_found(
    find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = committing.commit

    def counts_one(connection: Connection, plain: Sequence[Plain]) -> Any:
        answer = commit(connection, plain)
        if plain[0].decision.token.parent is not None:
            parent = t.token.c.id == plain[0].decision.token.parent
            more = t.token.c.remaining + len(answer.written) - 1
            connection.rows(Statement(sa.update(t.token).where(parent).values(remaining=more)))
        return answer

    monkeypatch.setattr(committing, "commit", counts_one)
    assert "P2: the gate counts its branches" in find("bundle: branches leave together, a crash")


def test_a_signal_that_is_consumed_twice_is_found(
    find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    signalled = waits.signalled
    monkeypatch.setattr(
        decide, "signalled", lambda *given: replace(signalled(*given), consumes=None)
    )
    assert "P9" in find("signal: two of one name, two waits")
