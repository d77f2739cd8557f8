"""Tasks that a workflow has sent when its runs end: `on_completed` and `on_failed`.

They belong to the code, not to the plan: the process that ends a run sends what its own definition
says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from celery_durable.core.message import TaskMessage
from celery_durable.core.status import Status


@dataclass(frozen=True, slots=True)
class Hook:
    """A signature of an ordinary task, as plain data that JSON can hold.

    The run's id comes before its own arguments, unless it is immutable.
    """

    task: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    options: Mapping[str, Any]
    is_immutable: bool

    def message(self, run_id: UUID, status: Status) -> TaskMessage:
        """Return the message to send when the run has ended with `status`."""
        args = [*self.args] if self.is_immutable else [str(run_id), *self.args]
        options = {**self.options, "task_id": task_id_of(run_id, status)}
        return TaskMessage(
            self.task,
            json.dumps(args),
            json.dumps(self.kwargs),
            json.dumps(options),
            self.options.get("queue") or "",
            self.options.get("priority") or 0,
        )


def task_id_of(run_id: UUID, status: Status) -> str:
    """Return the id of the task that is sent when the run ends: always the same for one run."""
    return str(uuid5(run_id, f"on_{status}"))


@dataclass(frozen=True, slots=True)
class Hooks:
    """What is sent at the end of a workflow's runs; None for nothing."""

    on_completed: Hook | None = None
    on_failed: Hook | None = None

    def message(self, run_id: UUID, status: Status) -> TaskMessage | None:
        """Return what is sent when a run ends with `status`; nothing is if it was cancelled."""
        match status:
            case Status.COMPLETED:
                hook = self.on_completed
            case Status.FAILED:
                hook = self.on_failed
            case _:
                hook = None
        return None if hook is None else hook.message(run_id, status)


NO_HOOKS = Hooks()
