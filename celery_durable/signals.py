"""Signals, as Celery has them: what has become of runs and units, told in the process that did it.

    @run_failed.connect(sender="order")
    def page_someone(sender, run_id, error, **_): ...

A signal is sent in the process that has committed what it tells, after the commit: in a worker
between two units, or by a client or a relay that has started or cancelled a run. The sender is the
name of the workflow. Each has these arguments, and those that its docstring names:

    run_id    the run's id, a `uuid.UUID`
    workflow  its name
    version   its version

Signals are sent at most once. A process that dies between its commit and the signal sends none, and
so does one that has lost the answer to its commit. What must not be missed belongs into a step, or
into `on_completed` and `on_failed` of the workflow. What a receiver raises is logged; one that
takes long holds up the process that sends, and nothing else. Receivers take `**kwargs`: later
releases may send more. As in Celery, a receiver is kept by a weak reference unless `weak=False`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, cast, overload

from celery.utils import dispatch

R = TypeVar("R", bound=Callable[..., object])


class Signal(Protocol):
    """A signal of Celery (`celery.utils.dispatch.Signal`), which has no types of its own."""

    name: str
    receivers: Sequence[object]
    """Empty if nobody is connected."""

    @overload
    def connect(
        self,
        receiver: R,
        /,
        sender: str | None = None,
        weak: bool = True,  # noqa: FBT001, FBT002 - it is Celery's
        dispatch_uid: object = None,
        retry: bool = False,  # noqa: FBT001, FBT002
    ) -> R: ...

    @overload
    def connect(
        self,
        *,
        sender: str | None = None,
        weak: bool = True,
        dispatch_uid: object = None,
        retry: bool = False,
    ) -> Callable[[R], R]: ...

    def connect(self, *args: Any, **options: Any) -> Any:
        """Have a receiver called; only for the workflow `sender`, if that is given."""
        ...

    def disconnect(
        self, receiver: object = None, sender: str | None = None, *, dispatch_uid: object = None
    ) -> bool:
        """Have a receiver called no more; return True if it was connected."""
        ...

    def send(self, sender: str, **arguments: Any) -> object:
        """Call the receivers. What one raises is logged."""
        ...


def _signal(name: str, *arguments: str) -> Signal:
    made: Any = dispatch.Signal(
        name=name, providing_args={"run_id", "workflow", "version", *arguments}
    )
    return cast("Signal", made)


run_started = _signal("run_started", "key", "parent_run_id")
"""A run was started: it is in the tables. `key` is None without one, `parent_run_id` for a run that
is nobody's child. A delayed run is told when it was started, too, not when it begins.

The process that has started it sends this: a client, or the worker whose unit is a child run. It is
not sent by a `start` with `session=`, which does not know when, and whether, the caller commits.
"""

run_completed = _signal("run_completed")
"""A run has completed."""

run_failed = _signal("run_failed", "error")
"""A run has ended as failed, and what there was to compensate is compensated. `error` is an
`ErrorRecord`, whose `unit` says where.
"""

run_cancelled = _signal("run_cancelled")
"""A run has ended as cancelled; a completed child that was undone with its parent, too."""

run_paused = _signal("run_paused", "unit", "error")
"""A unit has used up its tries, and its policy says to pause: the run waits for an operator.

`unit` is where it stands; `error`, an `ErrorRecord`, is why. A `pause` by somebody sends nothing.
"""

unit_failed = _signal("unit_failed", "unit", "attempt", "error")
"""A unit has failed for good, and the journal says so: a step, branch, iteration or compensation.
`attempt` is the last one's number, `error` an `ErrorRecord`.
"""

unit_retried = _signal("unit_retried", "unit", "attempt", "error", "delay")
"""A unit has failed and is tried again `delay` seconds later. `attempt` is the number of the one
that has failed, `error` an `ErrorRecord`.
"""


def are_heard() -> bool:
    """Return True if anybody in this process is connected to any of the signals.

    It is asked at each commit.
    """
    return bool(
        run_started.receivers
        or run_completed.receivers
        or run_failed.receivers
        or run_cancelled.receivers
        or run_paused.receivers
        or unit_failed.receivers
        or unit_retried.receivers
    )
