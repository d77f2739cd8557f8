"""Executes each golden statement by real work, and records what psycopg was handed for it.

The work goes through the functions that do it in a worker; a statement is told from the others by
the function of the store that executes it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any
from unittest import mock

from celery_durable import Durable, GiveUp, RetryPolicy
from celery_durable.background.backlog import Backlog
from celery_durable.engine import bundle, slow_units
from celery_durable.store import connection as store_connection
from celery_durable.store import dead_workers, due, reaping, tokens, watching
from celery_durable.store.bundle import claiming, committing
from celery_durable.store.commit import statement
from celery_durable.store.connection import (
    _NOTHING,
    Parameters,
    PsycopgConnection,
    Row,
    Statement,
)
from tests.integration.driving import Gate, World, spawn
from tests.integration.golden.formatting import formatted

STORE = "celery_durable.store."


@dataclass(frozen=True)
class Golden:
    """A statement with a file of its own: the `nth` that `function` executes in the course of
    `work`. `does` is the first line of the file.
    """

    does: str
    function: Callable[..., Any]
    work: Callable[[World], object]
    nth: int = 0

    @property
    def header(self) -> str:
        """The comment at the top of the file."""
        return f"-- {self.does}\n-- Executed by {name_of(self.function)}.\n"


def name_of(function: Callable[..., Any]) -> str:
    """The name under which a function is found."""
    return f"{function.__module__}.{function.__qualname__}"


def text_of(golden: Golden, world: World) -> str:
    """What the file should hold: found by doing the work."""
    with recorded() as statements:
        golden.work(world)
    mine = [text for function, text in statements if function == name_of(golden.function)]
    return f"{golden.header}\n{mine[golden.nth]}"


@contextmanager
def recorded() -> Iterator[list[tuple[str, str]]]:
    """The statements that the store executes: who executes each, and its text."""
    statements: list[tuple[str, str]] = []
    rows = PsycopgConnection.rows

    def record(
        connection: PsycopgConnection, statement: Statement, parameters: Parameters = _NOTHING
    ) -> Sequence[Row]:
        function = _function_of_the_store(sys._getframe(1))
        if function is not None:
            text, literals = statement.compiled(connection.schema)
            statements.append((function, formatted(text.decode(), {**literals, **parameters})))
        return rows(connection, statement, parameters)

    with mock.patch.object(PsycopgConnection, "rows", record):
        yield statements


def _function_of_the_store(frame: FrameType | None) -> str | None:
    """The innermost function of the store that is no part of how statements are executed."""
    while frame is not None:
        module = frame.f_globals["__name__"]
        if module.startswith(STORE) and module != store_connection.__name__:
            return f"{module}.{frame.f_code.co_qualname}"
        frame = frame.f_back
    return None


def do_nothing(_: Any) -> None:
    """What a step does of which only the commit counts."""


def run_of(define: Callable[[Any, Durable], object]) -> Callable[[World], None]:
    """A run of a workflow that `define` writes goes as far as it can by itself."""

    def work(world: World) -> None:
        worker = world.worker(lambda durable: define(durable.workflow("w"), durable))
        worker.start("w", [1, 2, 3])
        world.drain(worker)

    return work


def two_steps(workflow: Any, _: Durable) -> None:
    workflow.step(do_nothing, name="a").step(do_nothing, name="b")


def two_queues(workflow: Any, _: Durable) -> None:
    workflow.step(do_nothing, name="a").step(do_nothing, name="b", queue="other")


def fails_once(workflow: Any, _: Durable) -> None:
    def fail(_: Any) -> None:
        raise ValueError("not yet")

    workflow.step(fail, name="a", retry=RetryPolicy(2, initial=5))


def waits(workflow: Any, _: Durable) -> None:
    workflow.wait_for_signal("go", timeout=3600).step(do_nothing, name="a")


def has_a_hook(world: World) -> None:
    def define(durable: Durable) -> None:
        done = durable.app.signature("tell", kwargs={"channel": "ops"})
        durable.workflow("w", on_completed=done).step(do_nothing, name="a")

    worker = world.worker(define)
    worker.start("w")
    world.drain(worker)


def forks(workflow: Any, _: Durable) -> None:
    workflow.map("each", over=lambda ctx: ctx.input, handler=do_nothing, max_concurrency=2)


def has_a_child(workflow: Any, durable: Durable) -> None:
    workflow.step(durable.workflow("child").step(do_nothing, name="a"), name="child")


def is_compensated(workflow: Any, durable: Durable) -> None:
    def give_up(_: Any) -> None:
        raise GiveUp("no")

    for name in ("a", "b"):
        step = durable.step(name=name)(do_nothing)
        step.compensate(do_nothing)
        workflow.step(step)
    workflow.step(give_up, name="c")


def signal_is_consumed(world: World) -> None:
    worker = world.worker(lambda durable: waits(durable.workflow("w"), durable))
    run = worker.start("w")
    world.drain(worker)
    run.resume("go")
    world.drain(worker)


def claim_is_released(world: World) -> None:
    """The worker that follows the hint does not know the workflow."""
    client = world.worker(lambda durable: two_steps(durable.workflow("w"), durable))
    client.start("w")
    (token_id,) = world.publish()
    world.worker().engine.advance(token_id)


def relay_looks(world: World) -> None:
    """First at everything, then at what is new."""
    client = world.worker(lambda durable: two_steps(durable.workflow("w"), durable))
    client.start("w")
    backlog = Backlog()
    with client.database.autocommit() as connection:
        for _ in range(2):
            backlog.look(connection, batch=200)
            backlog.take(connection, batch=200)


def worker_dies(world: World) -> None:
    """And another takes its claim away."""
    gate = Gate()
    dies = world.worker(lambda durable: durable.workflow("w").step(lambda _: gate(), name="a"))
    dies.start("w")
    spawn(dies.engine.advance, *world.publish())
    gate.wait_until_reached()
    try:
        world.kill(dies)
        world.reap(world.worker())
    finally:
        gate.open()


def bundle_of(define: Callable[[Any, Durable], object]) -> Callable[[World], None]:
    """Three runs of a workflow that `define` writes are advanced together, as far as they can."""

    def work(world: World) -> None:
        worker = world.worker(lambda durable: define(durable.workflow("w"), durable))
        worker.start_many("w", [[1, 2, 3]] * 3)
        with however_slow_the_machine_is():
            for _ in range(10):
                worker.engine.advance_together(world.publish())

    return work


@contextmanager
def however_slow_the_machine_is() -> Iterator[None]:
    """A bundle does nothing for want of time."""
    never = 1e9
    with (
        mock.patch.object(bundle, "LOOK_AGAIN_AFTER", never),
        mock.patch.object(bundle, "WRITE_AFTER", never),
        mock.patch.object(bundle, "GIVE_BACK_AFTER", never),
        mock.patch.object(slow_units, "SLOW_FROM", never),
    ):
        yield


def bundle_is_given_back(world: World) -> None:
    """After a look at its claims."""
    worker = world.worker(lambda durable: two_steps(durable.workflow("w"), durable))
    worker.start_many("w", [None] * 3)
    engine = worker.engine
    claims = engine._claims.claim_together(world.publish())
    engine._claims.look_again(claims)
    engine._claims.release_together(claims, single=True)


GOLDEN = {
    "bundle_claim": Golden(
        "A worker claims the tokens of a message together, those that may share a process.",
        claiming.claim,
        bundle_of(two_steps),
    ),
    "bundle_move": Golden(
        "Units of several runs have ended, and the worker goes straight on with the next ones.",
        committing.commit,
        bundle_of(two_steps),
    ),
    "bundle_end": Golden(
        "The last steps of several runs have ended, and the runs with them.",
        committing.commit,
        bundle_of(two_steps),
        nth=1,
    ),
    "bundle_release": Golden(
        "Units of several runs have ended; claims are released, and hints put for the next steps.",
        committing.commit,
        bundle_of(two_queues),
    ),
    "bundle_leave": Golden(
        "Branches of one parent have ended and leave; the parent counts them once.",
        committing.commit,
        bundle_of(forks),
    ),
    "bundle_look": Golden(
        "A worker looks again at claims whose units have not begun for a while.",
        claiming.look,
        bundle_is_given_back,
    ),
    "bundle_give_back": Golden(
        "A worker gives back what has not begun; each token gets a message of its own.",
        claiming.release,
        bundle_is_given_back,
    ),
    "commit_straight_on": Golden(
        "A step has ended, and the worker goes straight on with the next one.",
        statement.commit,
        run_of(two_steps),
    ),
    "commit_release": Golden(
        "A step has ended; the claim is released, and a hint is put for the next step.",
        statement.commit,
        run_of(two_queues),
    ),
    "commit_last_step": Golden(
        "The last step of a run has ended, and the run with it.",
        statement.commit,
        run_of(two_steps),
        nth=1,
    ),
    "commit_last_step_with_hook": Golden(
        "The last step of a run has ended, the run with it, and a task is sent that says so.",
        statement.commit,
        has_a_hook,
    ),
    "commit_retry_later": Golden(
        "A step has failed; the claim is released, and a hint is put for its next attempt.",
        statement.commit,
        run_of(fails_once),
    ),
    "commit_park": Golden(
        "A token parks for a signal; a hint is put for the time at which its wait ends.",
        statement.commit,
        run_of(waits),
    ),
    "commit_consume": Golden(
        "A token that has waited for a signal consumes it, and the worker goes straight on.",
        statement.commit,
        signal_is_consumed,
        nth=1,
    ),
    "commit_fork": Golden(
        "A token forks: its first branches are opened, with hints; other items wait for room.",
        statement.commit,
        run_of(forks),
    ),
    "commit_leave": Golden(
        "A branch ends and leaves its fork; the next items are opened, or the parent is hinted.",
        statement.commit,
        run_of(forks),
        nth=1,
    ),
    "commit_child_end": Golden(
        "A child run ends, and a hint is put for the parent that waits for it.",
        statement.commit,
        run_of(has_a_child),
        nth=1,
    ),
    "commit_start_rollback": Golden(
        "A step has failed for good; the run is rolled back, starting with its newest unit.",
        statement.commit,
        run_of(is_compensated),
        nth=2,
    ),
    "commit_rollback_step": Golden(
        "A unit has been compensated, and the worker goes straight on: as commit_straight_on.",
        statement.commit,
        run_of(is_compensated),
        nth=3,
    ),
    "claim": Golden(
        "A worker claims a token, and reads all it needs to execute its unit.",
        tokens.claim,
        run_of(two_steps),
    ),
    "release": Golden(
        "A worker releases a claim with nothing done; a hint is put for whoever comes next.",
        tokens.release,
        claim_is_released,
    ),
    "relay_look": Golden(
        "A relay looks what is due in each lane, among the rows it has not seen.",
        due.look,
        relay_looks,
        nth=1,
    ),
    "relay_look_at_everything": Golden(
        "A relay looks what is due in each lane, among all rows; it does so from time to time.",
        due.look,
        relay_looks,
    ),
    "relay_take": Golden(
        "A relay locks due rows of one lane, the oldest first, to publish and delete them.",
        due.take,
        relay_looks,
    ),
    "reaper_look": Golden(
        "A reaper tries the locks of the workers that have not ended, and looks at claims.",
        watching.look,
        worker_dies,
    ),
    "reaper_declare_dead": Golden(
        "A reaper declares workers dead that still seem to be, and have not renewed since.",
        dead_workers.declare_dead,
        worker_dies,
    ),
    "reaper_find": Golden(
        "A reaper finds the tokens that no live worker executes.",
        reaping.find,
        worker_dies,
    ),
    "reaper_reap": Golden(
        "A reaper takes the claim of a dead worker away, and puts a hint for the token.",
        reaping.reap,
        worker_dies,
    ),
}
"""By the name of the file."""
