"""What operators do to a unit that nobody executes: they have it tried now, or record it by hand.

Both change a token that is not claimed. A worker that claims it at the same time waits for the row
and finds it changed, or was first: then nothing is changed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.pause import Pause
from celery_durable.core.token import Flags
from celery_durable.core.values import value
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement
from celery_durable.store.outbox import (
    AT_ONCE,
    HINTED_BY,
    LOOK_AT,
    clear_timers,
    put_hints,
    put_hints_of_many,
)
from celery_durable.store.pauses import is_paused
from celery_durable.store.tokens import IS_CLAIMABLE

_token = t.token.c
_waits_for_operator = _token.wait.is_not_distinct_from(sql.word("operator"))
_is_between_tries = sa.and_(
    _token.wait.is_(None), _token.failures.is_not(None), _token.wake_at > sql.clock
)
_is_untouched = sa.and_(_token.claimed_by.is_(None), _token.flags == sa.literal_column("0"))
_is_mine = _token.run_id == sql.uuid("run_id")
_ids = sql.uuids("runs")

MAY_BE_TRIED_NOW = sa.and_(_is_untouched, sa.or_(_waits_for_operator, _is_between_tries))
"""True of a token that waits for its next try, or for an operator."""

HINTED_NOW = {
    "since": sql.clock,
    "hinted_at": sql.clock,
    "hints": sa.literal_column("0"),
    "look_at": LOOK_AT,
}
"""The values of a token that gets a hint at once."""


def _trying(*which: sa.ColumnElement[bool]) -> Statement:
    """Have tokens tried now, which are `which`; return their runs and units."""
    tried = (
        sa.update(t.token)
        .where(*which)
        .values(
            {
                **HINTED_NOW,
                "wait": sa.null(),
                "waiting_since": sa.null(),
                "wake_at": sa.null(),
                "attempt": _token.attempt + sa.cast(_waits_for_operator, sa.Integer),
                # It may have killed its workers.
                "single": sa.or_(_token.single, _waits_for_operator),
            }
        )
        .returning(*HINTED_BY)
        .cte("tried")
    )
    return Statement(
        sa.select(tried.c.run_id, tried.c.unit)
        .add_cte(clear_timers(tried).cte("cleared"), put_hints_of_many(tried).cte("hinted"))
        .order_by(tried.c.unit)
    )


_is_named = sa.or_(sql.text("unit").is_(None), _token.unit == sql.text("unit"))
_TRY_NOW = _trying(_is_mine, _is_named, MAY_BE_TRIED_NOW)

_locked = (
    sa.select(_token.id)
    .where(_token.run_id == sa.any_(_ids), MAY_BE_TRIED_NOW)
    .order_by(_token.id)
    .with_for_update(skip_locked=True)
)
_TRY_MANY_NOW = _trying(sql.any_of(_token.id, _locked))


def try_now(connection: Connection, run_id: UUID, unit: str | None) -> Sequence[str]:
    """Have the run's units tried now that wait for their next try, or for an operator.

    Only `unit`, if it is not None. Return which.
    """
    rows = connection.rows(_TRY_NOW, {"run_id": run_id, "unit": unit})
    return [row["unit"] for row in rows]


def try_many_now(connection: Connection, runs: Iterable[UUID]) -> set[UUID]:
    """`try_now` for several runs; return those of which a unit is tried.

    Waits for no lock: a token that another transaction has locked is left out.
    """
    rows = connection.rows(_TRY_MANY_NOW, {"runs": sql.array(runs)})
    return {row["run_id"] for row in rows}


_skipped = (
    sa.update(t.token)
    .where(
        _is_mine,
        _is_untouched,
        _token.unit == sql.text("unit"),
        sa.or_(
            _waits_for_operator,
            sa.and_(
                _token.wait.is_(None),
                sa.or_(_token.failures.is_not(None), is_paused(_token)),
            ),
        ),
    )
    .values(
        {
            **HINTED_NOW,
            "flags": sa.literal_column(str(int(Flags.SKIP))),
            # Nobody drops it any more as one that has not begun, and it waits for no time.
            "begun": sa.true(),
            "wake_at": sa.null(),
            "answer": sql.json("result"),
        }
    )
    .returning(*HINTED_BY)
    .cte("skipped")
)
_SKIP = Statement(
    sa.select(_skipped.c.unit).add_cte(
        clear_timers(_skipped).cte("cleared"), put_hints(_skipped, at=AT_ONCE).cte("hinted")
    )
)


def skip(connection: Connection, run_id: UUID, unit: str, result: str) -> bool:
    """Have the unit recorded as completed with `result`, JSON text, and nothing executed.

    Return False if it is not between tries, paused, or waiting for an operator. The token's worker
    records it: it knows what comes next.
    """
    parameters = {"run_id": run_id, "unit": unit, "result": result}
    return bool(connection.rows(_SKIP, parameters))


@value(frozen=True, slots=True)
class Place:
    """Where a token of a run stands, as it matters to an operator."""

    unit: str
    node: str
    part: str | None
    is_branch: bool
    is_executing: bool
    flags: Flags
    wait: str | None
    is_paused: bool


MOST_PLACES = 100

_PLACES = Statement(
    sa.select(
        _token.unit,
        _token.node,
        _token.part,
        _token.parent_id.is_not(None).label("is_branch"),
        _token.claimed_by.is_not(None).label("is_executing"),
        _token.flags,
        _token.wait,
        sa.and_(_token.wait.is_(None), is_paused(_token)).label("is_paused"),
    )
    .where(
        _token.run_id == sql.uuid("run_id"),
        sa.or_(sql.text("unit").is_(None), _token.unit == sql.text("unit")),
    )
    .order_by(_token.parent_id.is_not(None), _token.unit)
    .limit(sa.literal_column(str(MOST_PLACES)))
)


def places(connection: Connection, run_id: UUID, unit: str | None) -> Sequence[Place]:
    """Where tokens of the run stand, `MOST_PLACES` at most; or only those at `unit`."""
    rows = connection.rows(_PLACES, {"run_id": run_id, "unit": unit})
    return [Place(**{**row, "flags": Flags(row["flags"])}) for row in rows]


PAGE = 2000
"""Tokens that one statement wakes."""


_covered = sql.there_is(
    t.run.c.id == _token.run_id,
    sa.or_(sql.text("workflow").is_(None), t.run.c.workflow == sql.text("workflow")),
    sa.or_(sql.integer("version").is_(None), t.run.c.version == sql.integer("version")),
    sa.or_(
        sql.text("step").is_(None),
        _token.node == sql.text("step"),
        _token.part == sql.text("step"),
    ),
)


def _waking(*which: sa.ColumnElement[bool]) -> Statement:
    """Put hints for a page of the tokens that were paused, which are `which`."""
    page = (
        sa.select(_token.id)
        .where(_token.id > sql.uuid("after"), *which)
        .order_by(_token.id)
        .limit(sa.literal_column(str(PAGE)))
        .cte("page")
    )
    is_hinted = sql.there_is(t.outbox.c.token_id == _token.id, t.outbox.c.available_at.is_(None))
    sleepers = (
        sa.select(_token.id)
        .where(
            _token.id.in_(sa.select(page.c.id)),
            _token.claimed_by.is_(None),
            sa.not_(is_hinted),
            sa.case((sa.and_(_covered, IS_CLAIMABLE), sa.true()), else_=sa.false()),
        )
        .with_for_update(skip_locked=True)
        .cte("sleepers")
    )
    woken = (
        sa.update(t.token)
        .where(_token.id.in_(sa.select(sleepers.c.id)))
        .values(HINTED_NOW)
        .returning(*HINTED_BY)
        .cte("woken")
    )
    last = sa.select(page.c.id).order_by(page.c.id.desc()).limit(sa.literal_column("1"))
    hinted = put_hints_of_many(woken).cte("hinted")
    return Statement(sa.select(last.scalar_subquery().label("reached")).add_cte(hinted))


_WAKE_ALL, _WAKE_RUNS = _waking(), _waking(_token.run_id == sa.any_(_ids))


def wake(
    connection: Connection, lifted: Pause, runs: Iterable[UUID] | None, after: UUID
) -> UUID | None:
    """Put hints for tokens that were held by the pause, may be claimed now, and have no hint.

    It looks at `PAGE` tokens after `after`, of these runs or of all, and returns the last of them;
    None if there was none. Recovery would find them too, later.
    """
    names = ("workflow", "version", "step")
    parameters = {name: getattr(lifted, name) for name in names} | {"after": after}
    if runs is None:
        (row,) = connection.rows(_WAKE_ALL, parameters)
    else:
        (row,) = connection.rows(_WAKE_RUNS, {**parameters, "runs": sql.array(runs)})
    reached: UUID | None = row["reached"]
    return reached
