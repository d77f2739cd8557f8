"""`WorkflowRun` and `WorkflowUnit` in a user's own SQLAlchemy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, StatementError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, foreign, mapped_column, relationship

from celery_durable import Durable, JournalEntry, RunSnapshot, models
from celery_durable.errors import ConfigurationError
from celery_durable.models import WorkflowRun, WorkflowUnit
from celery_durable.run import Run
from tests.integration.driving import World, noting

AT = datetime(2026, 1, 2, tzinfo=UTC)


class Base(DeclarativeBase):
    """The user's."""


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[UUID | None]
    run: Mapped[WorkflowRun | None] = relationship(
        WorkflowRun, primaryjoin=lambda: foreign(Order.run_id) == WorkflowRun.id
    )


def define(durable: Durable) -> None:
    kid = durable.workflow("kid").step(noting([], "packed", result=AT))
    order = durable.workflow("order").step(noting([], "reserve", result={"at": AT}))
    order.child_workflow("fulfil", kid).wait_for_signal("signoff")


@pytest.fixture
def worker(world: World) -> Durable:
    return world.worker(define)


@pytest.fixture
def run(world: World, worker: Durable) -> Run:
    """A run that waits for its signoff."""
    run = worker.start("order", {"sku": "A1", "at": AT}, key="order-1", tags={"tenant": "a"})
    world.drain(worker)
    return run


@pytest.fixture
def session(world: World) -> Iterator[Session]:
    engine = sa.create_engine(world.url)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        yield session
    engine.dispose()


def test_a_run_has_what_its_snapshot_has(session: Session, run: Run) -> None:
    shown = session.get_one(WorkflowRun, run.id)
    snapshot = run.status()
    same = {field.name for field in fields(RunSnapshot)} & set(WorkflowRun.__table__.c.keys())
    different = {"current", "awaiting"}
    assert {n: getattr(shown, n) for n in same - different} == {
        n: getattr(snapshot, n) for n in same - different
    }
    assert (shown.current, shown.awaiting) == (["signoff"], ["signoff"])
    assert shown.input == {"sku": "A1", "at": AT}


def test_a_result_is_read_when_it_is_asked_for_and_as_it_was(
    session: Session, world: World, worker: Durable, run: Run
) -> None:
    run.resume("signoff", {"ok": True})
    world.drain(worker)
    shown = session.get_one(WorkflowRun, run.id)
    assert "result" not in vars(shown)
    assert shown.result == run.status().result
    assert shown.result["fulfil"] == {"packed": AT}


def test_units_are_those_of_the_history_in_order(session: Session, run: Run) -> None:
    shown = session.get_one(WorkflowRun, run.id).units
    assert [one.unit for one in shown] == ["reserve", "fulfil"]
    same = {field.name for field in fields(JournalEntry)} & set(WorkflowUnit.__table__.c.keys())
    for one, entry in zip(shown, run.history(), strict=True):
        assert {n: getattr(one, n) for n in same - {"failures"}} == {
            n: getattr(entry, n) for n in same - {"failures"}
        }
    assert shown[0].run.id == run.id


def test_children_are_the_runs_that_it_has_started(session: Session, run: Run) -> None:
    (child,) = session.get_one(WorkflowRun, run.id).children
    assert (child.workflow, child.parent_run_id) == ("kid", run.id)
    assert child.children == []


def test_a_user_s_models_join_runs_and_have_them_as_a_relationship(
    session: Session, run: Run
) -> None:
    session.add_all([Order(id=1, run_id=run.id), Order(id=2)])
    session.commit()
    waiting = (
        sa.select(Order)
        .join(Order.run)
        .where(WorkflowRun.status == "suspended", WorkflowRun.tags["tenant"].astext == "a")
    )
    (order,) = session.scalars(waiting)
    assert order.run is not None
    assert (order.id, order.run.key) == (1, "order-1")


def test_a_user_s_object_may_be_given_its_run(session: Session, run: Run) -> None:
    """Only the user's row is written."""
    session.add(Order(id=1, run=session.get_one(WorkflowRun, run.id)))
    session.commit()
    assert session.scalars(sa.select(Order.run_id)).all() == [run.id]


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        (WorkflowRun.status == "suspended", 1),
        (WorkflowRun.status.in_(["completed", "failed"]), 1),
        (WorkflowRun.workflow == "order", 1),
        (WorkflowRun.input["sku"].as_string() == "A1", 2),
        (WorkflowRun.finished_at.is_(None), 1),
        (WorkflowRun.units.any(WorkflowUnit.outcome == "failed"), 0),
        (WorkflowRun.units.any(WorkflowUnit.node == "fulfil"), 1),
    ],
)
def test_runs_are_filtered(session: Session, run: Run, condition: Any, found: int) -> None:
    query = sa.select(sa.func.count()).select_from(WorkflowRun).where(condition)
    assert session.scalar(query) == found


def test_a_status_that_no_run_ever_has_is_refused(session: Session, run: Run) -> None:
    """P12"""
    with pytest.raises(StatementError, match="No run is ever 'complete'; statuses are pending"):
        session.scalars(sa.select(WorkflowRun).where(WorkflowRun.status == "complete"))


def change(session: Session, run: Run) -> None:
    session.get_one(WorkflowRun, run.id).workflow = "other"


def change_unit(session: Session, run: Run) -> None:
    session.get_one(WorkflowUnit, (run.id, "reserve")).outcome = "failed"


def delete(session: Session, run: Run) -> None:
    session.delete(session.get_one(WorkflowRun, run.id))


def add(session: Session, _: Run) -> None:
    session.add(WorkflowRun(workflow="order"))


def add_by_cascade(session: Session, _: Run) -> None:
    session.add(Order(id=1, run=WorkflowRun(workflow="order")))


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (change, "cannot be changed. Call cancel, resume"),
        (change_unit, "WorkflowUnit reserve of run .* cannot be changed"),
        (delete, "cannot be deleted. durable.prune"),
        (add, "cannot be added. To start a run"),
        (add_by_cascade, "cannot be added. To start a run"),
    ],
)
def test_a_flush_that_would_write_is_refused_and_says_what_to_call(
    session: Session, run: Run, write: Any, says: str
) -> None:
    """P12"""
    write(session, run)
    with pytest.raises(ConfigurationError, match=says):
        session.flush()
    session.rollback()
    assert session.get_one(WorkflowRun, run.id).workflow == "order"


def test_what_is_set_to_what_it_was_writes_nothing(session: Session, run: Run) -> None:
    shown = session.get_one(WorkflowRun, run.id)
    shown.workflow = "order"
    session.commit()


@pytest.mark.parametrize(
    "statement",
    [
        sa.update(WorkflowRun).values(workflow="other"),
        sa.delete(WorkflowRun).where(WorkflowRun.workflow == "nobody"),
        sa.insert(WorkflowRun).values(id=UUID(int=1), workflow="order"),
        sa.update(WorkflowUnit).values(outcome="failed"),
    ],
)
def test_statements_that_would_write_are_refused_by_postgres(
    session: Session, run: Run, statement: Any
) -> None:
    """P12"""
    with pytest.raises(DBAPIError, match=r"is a view to read(.|\n)*start, resume, cancel"):
        session.execute(statement)
    session.rollback()
    assert session.get_one(WorkflowRun, run.id).workflow == "order"


def test_the_models_of_another_schema_read_there(fresh: World) -> None:
    durable = fresh.worker(define, schema="Else Where")
    durable.migrate()
    run = durable.start("order", {"sku": "A1"})
    elsewhere = models.in_schema("Else Where")
    engine = sa.create_engine(fresh.url)
    with Session(engine) as session:
        (found,) = session.scalars(sa.select(elsewhere.WorkflowRun))
        assert (found.id, found.units, found.children) == (run.id, [], [])
        found.workflow = "other"
        with pytest.raises(ConfigurationError, match="cannot be changed"):
            session.flush()
        session.rollback()
        assert session.scalars(sa.select(WorkflowRun)).all() == []
    engine.dispose()


def test_neither_create_all_nor_alembic_sees_the_views() -> None:
    assert set(Base.metadata.tables) == {"orders"}


def test_flask_sqlalchemy_joins_and_reads_runs(world: World, run: Run) -> None:
    flask = pytest.importorskip("flask")
    flask_sqlalchemy = pytest.importorskip("flask_sqlalchemy")
    app = flask.Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = world.url
    db = flask_sqlalchemy.SQLAlchemy(app)

    class Purchase(db.Model):  # type: ignore[name-defined]
        id = db.Column(db.Integer, primary_key=True)
        run_id = db.Column(db.Uuid)
        run = db.relationship(
            WorkflowRun,
            primaryjoin=lambda: foreign(Purchase.run_id) == WorkflowRun.id,
            viewonly=True,
        )

    with app.app_context():
        db.create_all()
        db.session.add(Purchase(id=1, run_id=run.id))
        db.session.commit()
        query = db.select(Purchase).join(Purchase.run).where(WorkflowRun.status == "suspended")
        assert db.session.scalars(query).one().run.key == "order-1"
        assert set(db.metadata.tables) == {"purchase"}
        db.session.remove()
        db.engine.dispose()
