"""What scenarios are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery_durable import Durable, RetryPolicy, RunRefused
from celery_durable.core.status import FINISHED
from celery_durable.store import inbox
from celery_durable.store.read import views
from celery_durable.workflow.step import Step
from tests.model.bench import Act, Bench
from tests.model.hands import noted

HOUR = 3600.0

ONCE = RetryPolicy(max_attempts=1)
TWICE = RetryPolicy(max_attempts=2, backoff="fixed", initial=60.0, jitter=False)


class Refused(Exception):
    """What a step of a scenario fails with."""


def step(
    durable: Durable,
    name: str,
    *,
    undo: bool = False,
    fails: int = 0,
    gives: Callable[[Any], object] = lambda _ctx: "done",
    **options: Any,
) -> Step:
    """A step that fails at its first `fails` attempts; `undo`: it has a compensator."""

    def handler(ctx: Any) -> Any:
        return noted(ctx, called)

    def called(ctx: Any) -> object:
        if ctx.attempt <= fails:
            raise Refused(name)
        return gives(ctx)

    def compensator(ctx: Any) -> Any:
        return noted(ctx, lambda _ctx: None)

    made: Step = durable.step(name=name, **{"retry": ONCE, **options})(handler)
    if undo:
        made.compensate(compensator, retry=TWICE)
    return made


def resume(
    number: int = 1, *, name: str = "go", key: str | None = None, after: str | None = None
) -> Act:
    """A signal to the first run; no two carry the same."""

    def do(bench: Bench) -> object:
        payload = f"signal {number}"
        return bench.client.resume(bench.runs[0], name, payload, key=key, session=None)

    return Act(f"resume {number}", do, after)


def cancel(*, compensate: bool = False, after: str | None = None) -> Act:
    """A cancel of the first run; the client applies it in a transaction of its own."""

    def do(bench: Bench) -> object:
        bench.client.cancel(bench.runs[0], compensate=compensate, reason=None, session=None)
        return None

    return Act("cancel with compensation" if compensate else "cancel", do, after)


def joined_cancel(*, compensate: bool = False) -> Act:
    """A cancel in a caller's transaction: somebody else has to apply it."""

    def do(bench: Bench) -> None:
        run_id = bench.runs[0]
        with bench.database.transaction() as connection:
            found = views.status_of(connection, run_id)
            if found is not None and found[0] not in FINISHED:
                inbox.send(connection, run_id, inbox.Cancel(compensate, None))
                inbox.put_hint(connection, run_id)

    return Act("joined cancel", do)


def pause() -> Act:
    """A pause of the first run, unless it has ended."""
    return Act("pause", lambda bench: _unless_refused(lambda: bench.client.pause(bench.runs[0])))


def unpause(*, after: str) -> Act:
    return Act("unpause", lambda bench: bench.client.unpause(bench.runs[0]), after)


def skip(unit: str) -> Act:
    """A unit of the first run is recorded by hand, if it can be."""

    def do(bench: Bench) -> object:
        return _unless_refused(lambda: bench.client.skip(bench.runs[0], unit, "by hand"))

    return Act("skip", do)


def try_now(number: int) -> Act:
    """Whatever waits for its next try is tried now."""

    def do(bench: Bench) -> object:
        return _unless_refused(lambda: bench.client.retry_now(bench.runs[0]))

    return Act(f"try now {number}", do)


def _unless_refused(call: Callable[[], object]) -> object:
    try:
        return call()
    except RunRefused:
        return None


def ends(*statuses: str) -> frozenset[tuple[str, ...]]:
    """How the runs may end; the statuses of several runs are joined by a comma."""
    return frozenset(tuple(sorted(status.split(","))) for status in statuses)
