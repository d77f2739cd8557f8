"""Says whether a person may send a run a signal, and whether it would be of use.

For what people do on the page and in Django's admin. Code sends whatever signal it likes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from celery_durable.core.status import FINISHED
from celery_durable.durable import Durable
from celery_durable.store import signals
from celery_durable.store.read import asking, overview, views
from celery_durable.store.read.asking import AskedWait
from celery_durable.view.formatting import one_of


@dataclass(frozen=True, slots=True)
class Signalling:
    """A signal that a person is about to send.

    `waits` are open and ask a person; `nodes` are those of the plan that wait for the signal.
    `warning`: no wait of the run takes it.
    """

    signal: str
    waits: Sequence[AskedWait] = ()
    nodes: Sequence[Mapping[str, Any]] = ()
    warning: str | None = None

    def why_not(self, name: str) -> str | None:
        """Why this person may not send it; None if they may.

        A signal that comes before its wait is kept for it, so those count that are not open yet.
        """
        for names in self._assignees():
            if names and name not in names:
                return f"{name} may not send {self.signal!r}: {one_of(names)} may answer."
        is_asked = any(not wait.is_answered for wait in self.waits)
        if not is_asked and any(node.get("finds_assignees") for node in self.nodes):
            return (
                f"Who may send {self.signal!r} is asked when the run comes to the wait for it: send"
                " it then."
            )
        return None

    def _assignees(self) -> Iterator[Sequence[str]]:
        yield from (wait.assignees for wait in self.waits)
        yield from (node.get("assignees") or () for node in self.nodes)


def read_signalling(durable: Durable, run_id: UUID, signal: str) -> Signalling:
    """Read what there is to say of a signal; nothing of a run that has ended or is not there."""
    with durable.database.read_only() as connection:
        status = views.status_of(connection, run_id)
        workflow = views.workflow_of(connection, run_id)
        if status is None or workflow is None or status[0] in FINISHED:
            return Signalling(signal)
        plan = overview.plan(connection, *workflow)
        return Signalling(
            signal,
            waits=asking.waits_for(connection, run_id, signal),
            nodes=[node for node in (plan or {}).get("nodes", ()) if node.get("signal") == signal],
            warning=signals.warning(connection, run_id, signal),
        )
