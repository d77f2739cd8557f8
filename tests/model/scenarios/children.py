"""Child runs: parents always hear."""

from __future__ import annotations

from celery_durable import Durable
from tests.model.bench import Scenario
from tests.model.scenarios.parts import cancel, ends, joined_cancel, step
from tests.model.world import Limits


def completing(durable: Durable) -> None:
    child = durable.workflow("child").step(step(durable, "c"))
    durable.workflow("w").child_workflow("kid", child).step(step(durable, "b"))


def failing(durable: Durable) -> None:
    child = durable.workflow("child").step(step(durable, "c", undo=True))
    child.step(step(durable, "d", fails=9))
    durable.workflow("w").step(step(durable, "a", undo=True)).child_workflow("kid", child)


def simple(durable: Durable) -> None:
    child = durable.workflow("child").step(step(durable, "c"))
    durable.workflow("w").step(step(durable, "a", undo=True)).child_workflow("kid", child)


def cascading(durable: Durable) -> None:
    child = durable.workflow("child").step(step(durable, "c", undo=True))
    child.step(step(durable, "d", undo=True))
    durable.workflow("w").step(step(durable, "a", undo=True)).child_workflow(
        "kid", child, compensate="cascade"
    ).step(step(durable, "b", fails=9))


def cascading_cancelled(durable: Durable) -> None:
    child = durable.workflow("child").step(step(durable, "c", undo=True))
    durable.workflow("w").child_workflow("kid", child, compensate="cascade").step(
        step(durable, "b")
    )


def branch(durable: Durable) -> None:
    child = durable.workflow("child").step(step(durable, "c"))
    durable.workflow("w").parallel("p", {"kid": child, "x": step(durable, "x", fails=9)})


def branch_cancelled(durable: Durable) -> None:
    child = durable.workflow("child").step(step(durable, "c", undo=True))
    durable.workflow("w").parallel("p", {"kid": child, "x": step(durable, "x", undo=True)})


def grandchild(durable: Durable) -> None:
    below = durable.workflow("below").step(step(durable, "g"))
    child = durable.workflow("child").child_workflow("kid", below)
    durable.workflow("w").child_workflow("kid", child)


def looped(durable: Durable) -> None:
    child = durable.workflow("child").step(step(durable, "c"))
    durable.workflow("w").loop("l", child, max_iterations=2)


CHILDREN = (
    Scenario(
        "child: it completes",
        completing,
        limits=Limits(crashes=1),
        longer=Limits(crashes=1, duplicates=1, losses=1, recoveries=1),
        ends=ends("completed,completed"),
    ),
    Scenario(
        "child: it fails",
        failing,
        inline_steps=5,
        limits=Limits(crashes=1, duplicates=1),
        ends=ends("failed,failed"),
    ),
    Scenario(
        "child: its parent is cancelled while it starts",
        simple,
        acts=(joined_cancel(),),
        longer=Limits(crashes=1, duplicates=1),
        ends=ends("cancelled", "cancelled,cancelled", "completed,completed", "cancelled,completed"),
    ),
    Scenario(
        "child: its parent is cancelled with compensation",
        simple,
        inline_steps=5,
        acts=(cancel(compensate=True),),
        longer=Limits(crashes=1),
        seats=1,
        ends=ends("cancelled", "cancelled,cancelled", "completed,completed", "cancelled,completed"),
    ),
    Scenario(
        "child: cascade",
        cascading,
        inline_steps=5,
        limits=Limits(crashes=1),
        longer=Limits(crashes=1, duplicates=1, losses=1, recoveries=1),
        ends=ends("cancelled,failed"),
    ),
    Scenario(
        "child: cascade after a cancel",
        cascading_cancelled,
        inline_steps=5,
        acts=(cancel(compensate=True),),
        longer=Limits(crashes=1),
        seats=1,
        ends=ends("cancelled", "cancelled,cancelled", "completed,completed"),
    ),
    Scenario(
        "child: a branch, beside one that fails",
        branch,
        limits=Limits(),
        longer=Limits(crashes=1),
        ends=ends("completed,failed"),
    ),
    Scenario(
        "child: a branch, cancelled",
        branch_cancelled,
        inline_steps=5,
        acts=(joined_cancel(compensate=True),),
        seats=1,
        ends=ends("cancelled", "cancelled,cancelled", "completed,completed", "cancelled,completed"),
    ),
    Scenario(
        "child: three levels, cancelled at the top",
        grandchild,
        inline_steps=5,
        acts=(joined_cancel(),),
        seats=1,
        ends=ends(
            "cancelled",
            "cancelled,cancelled",
            "cancelled,cancelled,cancelled",
            "cancelled,cancelled,completed",
            "cancelled,completed,completed",
            "completed,completed,completed",
        ),
    ),
    Scenario(
        "child: the body of a loop",
        looped,
        inline_steps=5,
        limits=Limits(crashes=1),
        ends=ends("completed,completed,completed"),
    ),
)
