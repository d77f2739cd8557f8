"""`WorkflowRun` and `WorkflowUnit`: runs and recorded units as SQLAlchemy models, to read and join.

They are mapped on views that the migrations create. Their registry and metadata are their own, so
that neither `create_all` nor Alembic takes the views for tables of the user's. They say what
`status()` and `history()` say; whoever writes through them is told what to call instead.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple, cast
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    declared_attr,
    foreign,
    mapped_column,
    object_session,
    relationship,
    remote,
)
from sqlalchemy.sql import operators

from celery_durable.arguments import checked_status
from celery_durable.core.status import READ_FROM_TOKENS, Status
from celery_durable.errors import ConfigurationError
from celery_durable.store import codec
from celery_durable.store.read.exposed import RUN_VIEW, UNIT_VIEW

__all__ = ["Models", "RunView", "UnitView", "WorkflowRun", "WorkflowUnit", "in_schema"]


class _Payload(sa.TypeDecorator[Any]):
    """JSON of an input or a result: values come back as they were, a datetime as a datetime."""

    impl = sa.JSON
    cache_ok = True

    def column_expression(self, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """As text, which no driver decodes."""
        return sa.type_coerce(sa.cast(column, sa.Text()), self)

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Any:  # noqa: ARG002
        return codec.loads


class _Status(sa.TypeDecorator[Status]):
    """The name of a status; a name that is none is refused.

    A comparison asks for the stored status too, which has an index.
    """

    impl = sa.Text
    cache_ok = True

    class Comparator(sa.TypeDecorator.Comparator[Status]):
        """Comparisons with a status, or with several."""

        def operate(self, op: Any, *other: Any, **options: Any) -> Any:
            found: Any = super().operate(op, *other, **options)
            match op, other:
                case (operators.eq, (str() as status,)):
                    asked = [status]
                case (operators.in_op, ([*statuses],)) if all(isinstance(s, str) for s in statuses):
                    asked = statuses
                case _:
                    return found
            stored = sorted({Status.RUNNING if s in READ_FROM_TOKENS else s for s in asked})
            column: Any = cast("sa.Column[Any]", self.expr).table.c.stored_status
            return sa.and_(column == stored[0] if len(stored) == 1 else column.in_(stored), found)

    comparator_factory = Comparator  # pyright: ignore[reportAssignmentType] - as its docs have it

    def process_bind_param(
        self,
        value: str | None,
        dialect: sa.Dialect,  # noqa: ARG002
    ) -> str | None:
        return checked_status(value)

    def process_result_value(
        self,
        value: str | None,
        dialect: sa.Dialect,  # noqa: ARG002
    ) -> Status | None:
        return None if value is None else Status(value)


class RunView:
    """The columns of a run; see `WorkflowRun`."""

    __tablename__ = RUN_VIEW

    id: Mapped[UUID] = mapped_column(sa.Uuid, primary_key=True)
    workflow: Mapped[str] = mapped_column(sa.Text)
    version: Mapped[int] = mapped_column(sa.Integer)
    status: Mapped[Status] = mapped_column(_Status)
    stored_status: Mapped[str] = mapped_column(sa.Text)
    key: Mapped[str | None] = mapped_column(sa.Text)
    tags: Mapped[dict[str, str]] = mapped_column(JSONB)
    current: Mapped[list[str]] = mapped_column(sa.JSON)
    since: Mapped[datetime | None] = mapped_column(sa.DateTime(timezone=True))
    awaiting: Mapped[list[str]] = mapped_column(sa.JSON)
    wake_at: Mapped[datetime | None] = mapped_column(sa.DateTime(timezone=True))
    input: Mapped[Any] = mapped_column(_Payload)
    result: Mapped[Any] = mapped_column(_Payload, deferred=True)
    error: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON)
    parent_run_id: Mapped[UUID | None] = mapped_column(sa.Uuid)
    forked_from: Mapped[UUID | None] = mapped_column(sa.Uuid)
    retried_as: Mapped[UUID | None] = mapped_column(sa.Uuid)
    cancel_requested_at: Mapped[datetime | None] = mapped_column(sa.DateTime(timezone=True))
    cancel_reason: Mapped[str | None] = mapped_column(sa.Text)
    times_out_at: Mapped[datetime | None] = mapped_column(sa.DateTime(timezone=True))
    expires_at: Mapped[datetime | None] = mapped_column(sa.DateTime(timezone=True))
    created_at: Mapped[datetime] = mapped_column(sa.DateTime(timezone=True))
    started_at: Mapped[datetime | None] = mapped_column(sa.DateTime(timezone=True))
    updated_at: Mapped[datetime] = mapped_column(sa.DateTime(timezone=True))
    finished_at: Mapped[datetime | None] = mapped_column(sa.DateTime(timezone=True))

    @declared_attr
    @classmethod
    def units(cls) -> Mapped[list[WorkflowUnit]]:
        """The units that have ended, in order of completion."""
        return relationship(
            "WorkflowUnit",
            primaryjoin="WorkflowRun.id == foreign(WorkflowUnit.run_id)",
            order_by="WorkflowUnit.seq",
            viewonly=True,
        )

    @declared_attr
    @classmethod
    def children(cls) -> Mapped[list[WorkflowRun]]:
        """The runs that it has started."""
        return relationship(
            "WorkflowRun",
            primaryjoin=lambda: cls.id == foreign(remote(cls.parent_run_id)),
            order_by="WorkflowRun.id",
            viewonly=True,
        )


class UnitView:
    """The columns of a unit; see `WorkflowUnit`."""

    __tablename__ = UNIT_VIEW

    run_id: Mapped[UUID] = mapped_column(sa.Uuid, primary_key=True)
    unit: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    seq: Mapped[int] = mapped_column(sa.BigInteger)
    node: Mapped[str] = mapped_column(sa.Text)
    branch: Mapped[str | None] = mapped_column(sa.Text)
    position: Mapped[int | None] = mapped_column(sa.Integer)
    outcome: Mapped[str] = mapped_column(sa.Text)
    attempt: Mapped[int] = mapped_column(sa.Integer)
    result: Mapped[Any] = mapped_column(_Payload)
    error: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON)
    failures: Mapped[list[dict[str, Any]]] = mapped_column(sa.JSON)
    worker: Mapped[UUID | None] = mapped_column(sa.Uuid)
    child_run_id: Mapped[UUID | None] = mapped_column(sa.Uuid)
    started_at: Mapped[datetime] = mapped_column(sa.DateTime(timezone=True))
    finished_at: Mapped[datetime] = mapped_column(sa.DateTime(timezone=True))

    @declared_attr
    @classmethod
    def run(cls) -> Mapped[WorkflowRun]:
        """Its run."""
        return relationship(
            "WorkflowRun",
            primaryjoin="WorkflowRun.id == foreign(WorkflowUnit.run_id)",
            viewonly=True,
        )


class _Base(DeclarativeBase):
    """Not the user's: the views are no tables to create."""


class WorkflowRun(RunView, _Base):
    """A run as `status()` shows it, a row of `durable_workflow_run`.

    Columns are what `RunSnapshot` has under these names, and `id` is its `run_id`; `error` is a
    dict. `current` are the names of the nodes where it stands, `since` is since when it stands
    there. `stored_status` is `running` where `status` is read from what the run waits for; a
    comparison of `status` by `==` or `in_` asks for it too, as it has an index. `result` is read
    when it is asked for, and None unless the run has completed. `units` are the units that it has
    recorded, `children` are the runs that it has started.

    Its name has no schema: the connection's search path finds it. See `in_schema`.
    """


class WorkflowUnit(UnitView, _Base):
    """A recorded unit as `history()` shows it, a row of `durable_workflow_unit`.

    `seq` is the order of completion, over all runs. `branch` is the name of a branch or a case,
    `position` the number of an item or an iteration. `outcome`, `attempt`, `result`, `error`,
    `failures` (the attempts before), `worker` and the times are those of `JournalEntry`. `run` is
    its run.
    """


class Models(NamedTuple):
    """The models of one schema."""

    WorkflowRun: type[RunView]
    WorkflowUnit: type[UnitView]


def in_schema(schema: str) -> Models:
    """Make the models of the views in `schema`, the app's `durable_schema`.

    For a schema that is not on the search path of the user's connections. Call it once, in a module
    of models.
    """
    base = type("_Base", (DeclarativeBase,), {"metadata": sa.MetaData(schema=schema)})
    return Models(
        type("WorkflowRun", (RunView, base), {"__doc__": WorkflowRun.__doc__}),
        type("WorkflowUnit", (UnitView, base), {"__doc__": WorkflowUnit.__doc__}),
    )


def _refuse_insert(_mapper: object, _connection: object, target: RunView | UnitView) -> None:
    """Called before an instance is inserted."""
    raise ConfigurationError(
        f"{type(target).__name__} is there to read, and cannot be added. To start a run, call"
        " start of its workflow, or durable.start."
    )


def _refuse_update(_mapper: object, _connection: object, target: RunView | UnitView) -> None:
    """Called before an instance is updated, and for one of which nothing has changed."""
    session = object_session(target)
    if session is not None and session.is_modified(target, include_collections=False):
        raise ConfigurationError(
            f"{_named(target)} is there to read, and cannot be changed. Call cancel, resume, retry,"
            " pause or skip of durable.run(run_id)."
        )


def _refuse_delete(_mapper: object, _connection: object, target: RunView | UnitView) -> None:
    """Called before an instance is deleted."""
    raise ConfigurationError(
        f"{_named(target)} is there to read, and cannot be deleted. durable.prune deletes runs that"
        " ended long ago, durable.run(run_id).cancel() ends one."
    )


def _named(target: RunView | UnitView) -> str:
    kind = type(target).__name__
    return (
        f"{kind} {target.id}"
        if isinstance(target, RunView)
        else f"{kind} {target.unit} of run {target.run_id}"
    )


for _kind in (RunView, UnitView):
    event.listen(_kind, "before_insert", _refuse_insert, propagate=True)
    event.listen(_kind, "before_update", _refuse_update, propagate=True)
    event.listen(_kind, "before_delete", _refuse_delete, propagate=True)
