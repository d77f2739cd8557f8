"""Ordinary Celery tasks, and workflows in which they are steps.

Hooks and signals write into the ledger of `tests.apps.shop` under the id of the run, which is the
root of the task's request.
"""

import os
import signal
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import Celery, Task, shared_task, signals, signature
from celery import current_task as current
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

from celery_durable import Durable, RetryPolicy
from tests.apps import configure
from tests.apps.shop import HELD_AT_MOST, PAYMENTS_QUEUE, connected
from tests.waiting import wait_until

PAYMENTS = os.environ.get(PAYMENTS_QUEUE, "payments")


current_task: Any = current


class Busy(Exception):
    pass


class VeryBusy(Busy):
    pass


def write(run_id: str, unit: str, event: str) -> None:
    with connected() as ledger:
        ledger.execute(
            "INSERT INTO ledger (run_id, unit, event, pid) VALUES (%s, %s, %s, %s)",
            (run_id, unit, event, os.getpid()),
        )


def noting(name: str, words: Callable[..., Sequence[Any]]) -> Any:
    """A hook that leaves its name, and some words about what it was called with."""

    def hook(task: Any, *args: Any) -> None:
        write(task.request.root_id, "hook", " ".join(map(str, [name, *words(*args)])))

    return hook


class Hooked(Task):
    """A project's own base class: each hook leaves its name."""

    before_start = noting("before_start", lambda _id, args, _kwargs: args)
    on_success = noting("on_success", lambda result, *_: (result,))
    on_failure = noting(
        "on_failure", lambda error, *rest: (repr(error), rest[-1].exc_info[0].__name__)
    )
    on_retry = noting("on_retry", lambda error, *_: (repr(error),))
    after_return = noting("after_return", lambda state, *_: (state,))


app = configure(Celery("tasked"))
app.conf.task_routes = {"tasked.routed": {"queue": PAYMENTS}}
durable = Durable(app)


def seen(request: Any) -> dict[str, Any]:
    return {
        "id": request.id,
        "retries": request.retries,
        "root_id": request.root_id,
        "task": request.task,
        "args": [*request.args],
        "kwargs": dict(request.kwargs),
        "called_directly": request.called_directly,
        "is_eager": request.is_eager,
        "queue": (request.delivery_info or {}).get("routing_key"),
        "priority": (request.delivery_info or {}).get("priority"),
        "limit": request.timelimit[1],
        "current": current_task.name,
        "hostname": request.hostname,
    }


@app.task(bind=True)
def describe(self: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    return seen(self.request)


@app.task(
    bind=True, base=Hooked, name="tasked.hooked", autoretry_for=(Busy,), default_retry_delay=0
)
def hooked(self: Any, failures: int, how: str = "busy") -> str:
    if self.request.retries < failures:
        match how:
            case "busy":
                raise Busy("busy")
            case "wrong":
                raise ValueError("wrong")
            case _:
                raise self.retry(exc=Busy("later"), countdown=0)
    return "done"


@shared_task(name="tasked.shared")
def shared(word: str) -> str:
    return f"shared {word}"


@app.task(queue=PAYMENTS, priority=5, soft_time_limit=40, time_limit=50, bind=True)
def with_options(self: Any) -> Any:
    return seen(self.request)


@app.task(name="tasked.routed")
def routed() -> str:
    return str(current_task.request.delivery_info["routing_key"])


@app.task(bind=True, base=Hooked, name="tasked.slow", soft_time_limit=1)
def slow(self: Any) -> str:
    """Until its limit strikes, or the run's gate is open: not every pool has such a limit."""
    opened = "SELECT FROM gate WHERE run_id = %s", (self.request.root_id,)
    with connected() as ledger:
        try:
            wait_until(lambda: ledger.execute(*opened).rowcount, timeout=HELD_AT_MOST)
        except SoftTimeLimitExceeded:
            ledger.close()  # it may have struck within a statement
            return "stopped"
    return "late"


@app.task(bind=True, max_retries=2)
def retries_itself(self: Any, failures: int, how: str) -> int:
    retries: int = self.request.retries
    if retries >= failures:
        return retries
    match how:
        case "countdown":
            raise self.retry(countdown=0)
        case "eta":
            raise self.retry(eta=datetime.now(UTC) + timedelta(milliseconds=1))
        case "exc":
            raise self.retry(exc=Busy("for good"), countdown=0)
        case "more":
            raise self.retry(countdown=0, max_retries=9)
        case "queue":
            raise self.retry(countdown=0, queue="other")
        case "args":
            raise self.retry(args=(5, how), countdown=0)
        case _:
            self.retry(countdown=0, throw=False)
    return -1


@app.task(
    bind=True,
    autoretry_for=(Busy,),
    dont_autoretry_for=(VeryBusy,),
    retry_kwargs={"max_retries": 4, "countdown": 0},
)
def autoretried(self: Any, failures: int, how: str = "busy") -> int:
    retries: int = self.request.retries
    if retries < failures:
        raise {"busy": Busy, "very": VeryBusy, "other": ValueError}[how](how)
    return retries


@app.task(bind=True)
def refused(self: Any, how: str) -> Any:
    match how:
        case "ignore":
            raise Ignore
        case "reject":
            raise Reject("no", requeue=True)
        case _:
            return self.replace(signature("tasked.shared", ("x",)))


@app.task(rate_limit="1/h", expires=10, ignore_result=True)
def limited(number: int) -> int:
    return number + 1


@app.task(name="tasked.add")
def add(x: int, y: int = 0) -> int:
    return x + y


@app.task(name="tasked.undo")
def undo(word: str) -> None:
    write(current_task.request.root_id, "undo", word)


@app.task(name="tasked.fail")
def fail() -> None:
    raise ValueError("for good")


@app.task(name="tasked.die_once", bind=True)
def die_once(self: Any, run_id: str) -> str:
    with connected() as ledger:
        query = "SELECT count(*) FROM ledger WHERE run_id = %s AND unit = 'die'"
        row = ledger.execute(query, (run_id,)).fetchone()
    write(run_id, "die", self.request.id)
    if row == (0,):
        os.kill(os.getpid(), signal.SIGKILL)
    return str(self.request.id)


def note_signal(name: str) -> Any:
    def receive(sender: Any = None, **found: Any) -> None:
        if sender is app.tasks["tasked.hooked"]:
            more = {k: found[k] for k in ("state", "result", "exception", "reason") if k in found}
            words = [f"{key}={value}" for key, value in more.items()]
            write(sender.request.root_id, "signal", " ".join([name, *words]))

    return receive


for _name in ("task_prerun", "task_postrun", "task_success", "task_failure", "task_retry"):
    getattr(signals, _name).connect(note_signal(_name), weak=False)


def define(durable: Durable) -> None:
    def inputs(ctx: Any) -> Any:
        return ctx.input

    durable.workflow("described").step(
        describe, args=lambda _ctx: (1, "two"), kwargs=lambda _ctx: {"three": 3}, priority=3
    )
    for task in (hooked, retries_itself, autoretried, refused):
        name = durable.step_of(task).name
        durable.workflow(name).step(task, args=inputs)
    durable.workflow("said").step(
        autoretried, args=inputs, retry=RetryPolicy(2, backoff="fixed", initial=0, jitter=False)
    )
    durable.workflow("optioned").step(with_options).step(routed).step(
        with_options, name="unlike", queue=os.environ.get("TEST_QUEUE"), timeout=30
    )
    durable.workflow("slow").step(slow)
    durable.workflow("warned").step(limited, args=lambda _ctx: (1,)).step(
        add, args=lambda ctx: (ctx.results["limited"],), kwargs=lambda _ctx: {"y": 40}
    )
    durable.workflow("misfit").step(add, args=lambda _ctx: (1, 2, 3))
    durable.workflow("wordy").step(shared, args=lambda _ctx: "word")
    durable.workflow("killed").step(die_once, args=lambda ctx: (str(ctx.run_id),))
    plus = durable.step_of(add, args=lambda ctx: (ctx.item, 10), name="plus")
    (
        durable.workflow("everywhere")
        .step(shared, args=lambda _ctx: ("step",))
        .parallel(
            "both",
            {
                "one": durable.step_of(shared, args=lambda _ctx: ("branch",)),
                "two": durable.step_of(add, args=lambda _ctx: (1, 1)),
            },
        )
        .map("items", over=lambda _ctx: [1, 2], handler=plus)
        .route("way", lambda _ctx: "a", {"a": durable.step_of(add, args=lambda _ctx: (5,))})
        .loop(
            "again",
            durable.step_of(add, args=lambda ctx: (ctx.item, 1)),
            max_iterations=3,
            map_input=lambda _ctx: 0,
            feedback=lambda result: result,
        )
    )
    durable.workflow("undone").step(
        add,
        args=lambda _ctx: (1,),
        compensate=durable.step_of(undo, args=lambda ctx: (f"undo {ctx.result}",), queue=PAYMENTS),
    ).step(fail)


define(durable)
