"""Tasks that a handler sends with the commit of its unit: what `ctx.send_task` needs."""

from __future__ import annotations

from typing import NoReturn, Protocol

from celery_durable.core.message import TaskMessage
from celery_durable.core.values import value


@value(frozen=True, slots=True)
class Composed:
    """The messages of a signature, and the id of the task, or the group, that it stands for."""

    id: str
    messages: tuple[TaskMessage, ...]


class Compose(Protocol):
    """Makes messages of a signature of Celery, which this room does not know."""

    def __call__(self, signature: object, *, root_id: str, parent_id: str) -> Composed:
        """`root_id` and `parent_id` are those of the task. Raises what `Durable.send_task` does."""
        ...


def cannot_compose(signature: object, **_: str) -> NoReturn:
    """Refuse every signature: there is no Celery app."""
    raise RuntimeError(f"{signature!r:.80} cannot be sent: its unit is executed without an app.")
