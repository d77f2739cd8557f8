"""One attempt of a step that is a Celery task, as Celery's worker calls a task.

The task sees a request, its hooks are called, and Celery's signals are sent with the task as
sender, in the order of `celery.app.trace.build_tracer`. All of it happens before the attempt is
committed, so after a crash it happens again, as Celery's does with `acks_late`.
"""

from __future__ import annotations

import inspect
import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from billiard.einfo import ExceptionInfo
from celery import signals, states
from celery._state import _task_stack
from celery.app.task import Context as Request
from celery.app.task import Task
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded
from celery.utils.time import maybe_make_aware

from celery_durable.core.claim import Claim
from celery_durable.core.retry import RetryPolicy
from celery_durable.errors import GiveUp, PayloadError, RetryLater, StepTimeout
from celery_durable.workflow import loops

logger = logging.getLogger(__name__)

OF_TASKS = "celery.app.task"
OF_AUTORETRY = "celery.app.autoretry"
OF_DJANGO = "celery.fixups.django"
"""The modules of Celery that ask for `StepRequest.is_eager`."""


class StepRequest(Request):
    """What a task sees as `self.request` where it is a step.

    `has_retried`: `self.retry()` was called; `by_autoretry`: by Celery, for `autoretry_for`.
    `in_transaction`: the step is transactional.
    """

    has_retried = False
    by_autoretry = False
    in_transaction = False

    if TYPE_CHECKING:
        task: str

    @property
    def is_eager(self) -> bool:
        """False, but for `Task.retry`: for a request that is eager it publishes no message, and
        raises `Retry` all the same.

        `Task.replace` asks, too, before it sends what replaces the task; that is refused. So does
        Celery's care for Django, which would close the connection of a transactional step.
        """
        asking = sys._getframe(1)  # noqa: SLF001 - there is no public way to it
        if asking.f_globals.get("__name__") == OF_DJANGO:
            return self.in_transaction
        if asking.f_globals.get("__name__") != OF_TASKS:
            return False
        match asking.f_code.co_name:
            case "retry":
                if options := asking.f_locals.get("options"):
                    raise GiveUp(
                        f"{self.task} calls self.retry() with {', '.join(options)}, of a message:"
                        " a step has none of its own. Say queue= or priority= of the step."
                    )
                self.has_retried = True
                caller = asking.f_back
                if caller is not None and caller.f_globals.get("__name__") == OF_AUTORETRY:
                    self.by_autoretry = True
                return True
            case "replace" | "on_replace":
                raise GiveUp(
                    f"{self.task} calls self.replace(), and a step cannot be replaced: make a"
                    " workflow of what shall follow, or start one and return its id."
                )
            case _:
                return False


class TaskRetry(RetryLater):
    """`self.retry()` of a task: it has kept to its own `max_retries`."""

    is_bounded = False


def request_of(
    task: Task, task_id: str, claim: Claim, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> StepRequest:
    """Return the request of an attempt.

    Its id is the idempotency key, its root the run. What the message carries that is executed,
    such as the host's name, is the same for the step.
    """
    outer: Any = getattr(_task_stack.top, "request", None)
    delivery = dict(getattr(outer, "delivery_info", None) or {})
    return StepRequest(
        id=task_id,
        correlation_id=task_id,
        root_id=str(claim.run.id),
        parent_id=None,
        task=task.name,
        args=args,
        kwargs=kwargs,
        retries=claim.token.attempt - 1,
        called_directly=False,
        hostname=getattr(outer, "hostname", None),
        delivery_info={**delivery, "is_eager": False, "priority": claim.priority},
        timelimit=[None, claim.time_limit],
        utc=True,
    )


def perform(task: Any, request: StepRequest, policy: RetryPolicy) -> Any:
    """Call the task, and return its result; raise what became of it in the words of a handler."""
    attempt = _Attempt(task, request, policy)
    with _in_place_of_the_message(task, request), attempt.announced():
        try:
            task.before_start(request.id, request.args, request.kwargs)
            result = _run(task, request)
        except Exception as error:
            became = attempt.failed(error)
            if became is error:
                raise
        else:
            attempt.succeeded(result)
            return result
        raise became


def _run(task: Any, request: StepRequest) -> Any:
    """Call the task's function; a `__call__` of its own is called instead, as Celery does."""
    function = task.run if type(task).__call__ is Task.__call__ else task
    called_with: Any = request
    result = function(*called_with.args, **called_with.kwargs)
    if inspect.iscoroutine(result):
        result = loops.run(result, task.name)
    if request.has_retried:
        raise GiveUp(
            f"{task.name} goes on after self.retry(): a step is tried again, or it has a result."
            " Let the exception of self.retry() pass, and do not say throw=False."
        )
    return result


@contextmanager
def _in_place_of_the_message(task: Any, request: StepRequest) -> Iterator[None]:
    """Let `self.request` and `current_task` be of the task, and not of our message."""
    _task_stack.push(task)
    task.request_stack.push(request)
    try:
        yield
    finally:
        task.request_stack.pop()
        _task_stack.pop()


class _Attempt:
    """Calls the hooks of the task and sends the signals of one attempt."""

    def __init__(self, task: Any, request: StepRequest, policy: RetryPolicy) -> None:
        self._task = task
        self._request = request
        self._policy = policy
        self._began = time.monotonic()
        self._became: tuple[str | None, object] = (None, None)

    @contextmanager
    def announced(self) -> Iterator[None]:
        """Send `task_prerun` before the attempt, and `task_postrun` after it in any case."""
        request = self._request
        common: dict[str, Any] = {
            "task_id": request.id,
            "task": self._task,
            "args": request.args,
            "kwargs": request.kwargs,
        }
        signals.task_prerun.send(sender=self._task, **common)
        try:
            yield
        finally:
            state, result = self._became
            signals.task_postrun.send(sender=self._task, state=state, retval=result, **common)

    def succeeded(self, result: object) -> None:
        """Called with what the task has returned."""
        self._became = (states.SUCCESS, result)
        self._call_hook("on_success", result, *self._arguments())
        runtime = time.monotonic() - self._began
        signals.task_success.send(sender=self._task, result=result, runtime=runtime)
        self._call_hook("after_return", states.SUCCESS, result, *self._arguments(), None)

    def failed(self, error: Exception) -> BaseException:
        """Called with what the task has raised; return what a handler would have raised."""
        info = ExceptionInfo()
        became = _in_our_words(self._task, self._request, error)
        if self._is_tried_again(became):
            self._send_retry(error, became, info)
            return became
        self._became = (states.FAILURE, became)
        self._call_hook("on_failure", became, *self._arguments(), info)
        signals.task_failure.send(
            sender=self._task,
            task_id=self._request.id,
            exception=became,
            args=self._request.args,
            kwargs=self._request.kwargs,
            traceback=became.__traceback__,
            einfo=info,
        )
        self._call_hook("after_return", states.FAILURE, became, *self._arguments(), info)
        return became

    def _send_retry(self, error: Exception, became: BaseException, info: ExceptionInfo) -> None:
        cause = error.exc if isinstance(error, Retry) else became
        retry = error if isinstance(error, Retry) else Retry(exc=cause)
        self._became = (states.RETRY, retry)
        self._call_hook("on_retry", cause, *self._arguments(), info)
        signals.task_retry.send(sender=self._task, request=self._request, reason=retry, einfo=info)

    def _is_tried_again(self, error: BaseException) -> bool:
        """Return what the engine will decide; but for `max_elapsed`, which it looks at alone."""
        has_more = self._request.retries + 1 < self._policy.max_attempts
        match error:
            case GiveUp() | PayloadError():
                return False
            case RetryLater():
                return has_more or not (error.counts and error.is_bounded)
            case SoftTimeLimitExceeded() if self._request.timelimit != [None, None]:
                return has_more and self._policy.retries(StepTimeout())
            case _:
                return has_more and self._policy.retries(error)

    def _arguments(self) -> tuple[Any, Any, Any]:
        return self._request.id, self._request.args, self._request.kwargs

    def _call_hook(self, name: str, *arguments: object) -> None:
        try:
            getattr(self._task, name)(*arguments)
        except Exception:
            logger.exception(
                "%s of the task %s raised; what became of the attempt stands", name, self._task.name
            )


def _in_our_words(task: Any, request: StepRequest, error: Exception) -> BaseException:
    """Return what the engine understands of an exception that a task has raised."""
    became: BaseException
    if isinstance(error, Retry) and request.by_autoretry and error.__context__ is not None:
        raised: Any = error.__context__  # the step's policy says when
    else:
        raised = error
    match raised:
        case Retry():
            became = _later(task, request, raised)
        case Ignore():
            became = GiveUp(
                f"{task.name} raised Ignore, and a step has to end: return a value, or raise"
                " GiveUp."
            )
        case Reject():
            became = GiveUp(
                f"{task.name} raised Reject, and a step has no message of its own: raise"
                " RetryLater to have it tried again, or GiveUp."
            )
        case _:
            return cast("BaseException", raised)
    became.__cause__ = raised
    return became


def _later(task: Any, request: StepRequest, retry: Retry) -> BaseException:
    again: Any = retry.sig
    if again is None:
        return GiveUp(f"{task.name} raised Retry itself: call self.retry(), or raise RetryLater.")
    if (tuple(again.args), again.kwargs) != (request.args, request.kwargs):
        return GiveUp(
            f"{task.name} calls self.retry() with other arguments; those of a step are what its"
            " args= and kwargs= return. A .loop with feedback= changes them from one to the next."
        )
    return TaskRetry(seconds_until(retry.when), counts=True, reason=str(retry))


def seconds_until(when: Any) -> float:
    """Return the seconds until a retry: `when` is a number of them, or a datetime."""
    if not isinstance(when, datetime):
        return max(float(when or 0), 0.0)
    moment: datetime = maybe_make_aware(when, UTC)
    return max((moment - datetime.now(UTC)).total_seconds(), 0.0)
