"""Larger workflows of all kinds of nodes, driven by a random schedule with random mishaps."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from celery_durable import Durable, Suspend
from celery_durable.workflow.builder import Workflow
from tests.model.bench import Act, Bench, Scenario, modelled
from tests.model.explorer import Coverage, Explorer
from tests.model.scenarios.parts import HOUR, TWICE, cancel, resume, step
from tests.model.stage import Stage
from tests.model.world import Limits

KINDS = (
    "step", "failing", "retried", "parallel", "branches fail", "fail_fast", "map", "keep",
    "map fail_fast", "route", "loop", "sleep", "signal", "timeout", "child", "cascade", "suspend",
    "children",
)  # fmt: skip


def add(durable: Durable, workflow: Workflow, kind: str, place: int) -> None:  # noqa: C901, PLR0912
    """One node of this kind."""
    name = f"n{place}"

    def made(suffix: str = "", **options: Any) -> Any:
        return step(durable, f"{name}{suffix}", undo=True, **options)

    match kind:
        case "step":
            workflow.step(made())
        case "failing":
            workflow.step(made(fails=9))
        case "retried":
            workflow.step(made(fails=1, retry=TWICE))
        case "parallel":
            workflow.parallel(name, [made("x"), made("y")])
        case "branches fail":
            workflow.parallel(name, [made("x"), made("y", fails=9), made("z", fails=9)])
        case "fail_fast":
            workflow.parallel(name, [made("x"), made("y", fails=9), made("z")], fail_fast=True)
        case "map":
            workflow.map(name, over=lambda _: [1, 2, 3, 4], handler=made("i"), max_concurrency=2)
        case "keep":
            workflow.map(name, over=lambda _: [1], handler=made("i", fails=9), on_error="keep")
        case "map fail_fast":
            workflow.map(
                name, over=lambda _: [1, 2, 3], handler=made("i", fails=9), max_concurrency=2,
                fail_fast=True,
            )  # fmt: skip
        case "route":
            workflow.route(name, lambda _: "one", {"one": made("one"), "two": made("two")})
        case "loop":
            workflow.loop(name, made("turn"), max_iterations=3, every=60)
        case "sleep":
            workflow.sleep(name, HOUR)
        case "signal":
            workflow.wait_for_signal(name, "go", timeout=HOUR, on_timeout="continue")
        case "timeout":
            workflow.wait_for_signal(name, "never", timeout=HOUR)
        case "suspend":
            workflow.step(made(gives=suspending))
        case "children":
            workflow.map(name, over=lambda _: [1, 2], handler=child(durable, name))
        case _:
            below = child(durable, name)
            workflow.child_workflow(
                name, below, compensate="cascade" if kind == "cascade" else None
            )


def suspending(ctx: Any) -> object:
    return "done" if ctx.is_resumed else Suspend(None, signal="answer")


def child(durable: Durable, name: str) -> Workflow:
    made = durable.workflow(f"child-{name}")
    made.step(step(durable, f"{name}c", undo=True)).step(step(durable, f"{name}d", undo=True))
    return made


def scenario_of(kinds: Sequence[str], acts: Sequence[Act], inline_steps: int) -> Scenario:
    def define(durable: Durable) -> None:
        workflow = durable.workflow("w")
        for place, kind in enumerate(kinds):
            add(durable, workflow, kind, place)

    limits = Limits(crashes=2, zombies=1, duplicates=2, losses=2, answers=1, recoveries=2)
    # What a suspended step waits for comes in the end, whatever came before it.
    answers = [resume(100 + n, name="answer") for n in range(kinds.count("suspend"))]
    all_acts = (*acts, *answers)
    return Scenario("random", define, acts=all_acts, limits=limits, inline_steps=inline_steps)


acts = st.lists(
    st.sampled_from([resume(1), resume(2), cancel(), cancel(compensate=True)]),
    max_size=3,
    unique_by=lambda act: act.name,
)


def walk(url: str, stage: Stage, scenario: Scenario, chosen: Sequence[int]) -> None:
    """Make the moves that were chosen, then let everything settle."""
    stage.open()
    logging.disable(logging.ERROR)
    try:
        with modelled(scenario):
            Explorer(Bench(url, stage, scenario), Coverage("random")).wander(
                scenario.limits, chosen
            )
    finally:
        logging.disable(logging.NOTSET)
        stage.close()


@pytest.fixture
def examples(request: pytest.FixtureRequest) -> int:
    return 1000 if request.config.getoption("--model-longer") else 50


def test_random_workflows_keep_the_promises(
    model_database_url: str, stage: Stage, examples: int
) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=examples < 100,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(
        st.lists(st.sampled_from(KINDS), min_size=1, max_size=5),
        acts,
        st.sampled_from([1, 3, 100]),
        st.lists(st.integers(0, 1000), min_size=5, max_size=120),
    )
    @example(["step", "cascade", "parallel", "failing"], [], 3, [0] * 60)
    def keeps_them(kinds: list[str], acts: list[Act], inline_steps: int, chosen: list[int]) -> None:
        walk(model_database_url, stage, scenario_of(kinds, acts, inline_steps), chosen)

    keeps_them()
