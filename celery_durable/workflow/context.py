"""`Context`, the argument of every handler."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, Protocol, overload
from uuid import UUID, uuid5

from celery_durable.arguments import checked_deadline, checked_key, checked_signal
from celery_durable.core.claim import Claim
from celery_durable.core.generics import In_co, Value
from celery_durable.core.message import TaskMessage
from celery_durable.core.names import compensated_by
from celery_durable.core.token import Flags
from celery_durable.errors import ErrorRecord, RunCancelled, WorkerLost
from celery_durable.store.connection import NoSession
from celery_durable.store.heartbeat import Heartbeat
from celery_durable.workflow.callbacks import Link
from celery_durable.workflow.sending import Compose

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


class Journal(Protocol):
    """What a context needs of the engine: the run's past, read when a handler asks for it."""

    def decode(self, text: str) -> Any:
        """Return the value that this JSON text was made of."""
        ...

    def result(self, unit: str) -> tuple[Any] | None:
        """Return the result of a completed unit, in a tuple; None if it has not completed."""
        ...

    def completed_nodes(self) -> tuple[str, ...]:
        """Return the names of the completed nodes."""
        ...

    def input(self, unit: str) -> str | None:
        """Return JSON text of the item or iteration input of a completed, undoable unit."""
        ...

    def signal(self, name: str) -> str | None:
        """Return JSON text of the newest signal of this name that the run has consumed."""
        ...

    def beat(self, claim: Claim, note: dict[str, Any] | None) -> Heartbeat:
        """Store `note` about the unit of the claim, and return what others ask of it."""
        ...


class Results(Mapping[str, Any]):
    """The results of completed nodes by name, each loaded at its first use."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, node: str) -> Any:
        if node not in self._loaded:
            found = self._journal.result(node)
            if found is None:
                done = ", ".join(self) or "none"
                raise KeyError(f"{node!r} has not completed in this run; completed: {done}")
            self._loaded[node] = found[0]
        return self._loaded[node]

    def __iter__(self) -> Iterator[str]:
        return iter(self._journal.completed_nodes())

    def __len__(self) -> int:
        return len(self._journal.completed_nodes())


BEAT_EVERY = 0.5
"""Least seconds between queries for a cancel, however often a handler asks."""


class Context(Generic[In_co]):
    """The argument of a handler: what it can read and note in one attempt of its unit.

    `Context[Order]` has an input of the type `Order`, that of `durable.workflow(..., input=Order)`.
    """

    def __init__(
        self, claim: Claim, journal: Journal, session: Session | NoSession | None = None
    ) -> None:
        self._claim = claim
        self._journal = journal
        self._session = session
        self._last_beat = -BEAT_EVERY
        self._is_cancelled = False
        self._compose: Compose | None = None
        self._link: Link | None = None
        self._sends: list[TaskMessage] = []
        self.results = Results(journal)

    @cached_property
    def input(self) -> In_co:
        """The run's input."""
        found: In_co = self._journal.decode(self._claim.run.input)
        return found

    @overload
    def result_of(self, step: Callable[[Any], Coroutine[Any, Any, Value]]) -> Value: ...

    @overload
    def result_of(self, step: Callable[[Any], Value]) -> Value: ...

    def result_of(self, step: Callable[[Any], Any]) -> Any:
        """Return the result of a step that has completed, of the type that the step returns.

        It is `results[name]`: of a decorated step or a function that is a node of the workflow
        under its own name. Raises `KeyError` if it has not completed.
        """
        name = getattr(step, "name", None) or getattr(step, "__name__", None)
        if not isinstance(name, str):
            raise TypeError(f"result_of takes a step, not {step!r}.")
        return self.results[name]

    @property
    def run_id(self) -> UUID:
        """The run's id."""
        return self._claim.run.id

    @property
    def workflow(self) -> str:
        """The workflow's name."""
        return self._claim.run.workflow

    @property
    def step(self) -> str:
        """The node's name."""
        return self._claim.token.node

    @property
    def unit(self) -> str:
        """The unit's name, as in the journal."""
        return self._claim.token.unit

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1. A worker that dies does not raise it."""
        return self._claim.token.attempt

    @cached_property
    def item(self) -> Any:
        """In a map: the item. In a loop: the iteration's input. None elsewhere."""
        token = self._claim.token
        if token.rollback is not None:
            stored = self._journal.input(compensated_by(self.unit))
        else:
            stored = token.input
        if stored is not None:
            return self._journal.decode(stored)
        # A loop's iteration without an input of its own has the run's.
        is_iteration = token.position is not None and token.parent is None and token.part is None
        return self.input if is_iteration else None

    @property
    def iteration(self) -> int | None:
        """In a loop: the iteration, from 0. In a map: the position of the item. None elsewhere."""
        return self._claim.token.position if self.branch is None else None

    @property
    def branch(self) -> str | None:
        """The name of the branch or case; None elsewhere."""
        return self._claim.token.part

    def signal(self, name: str) -> Any:
        """Return the payload of the newest signal of this name that the run has consumed.

        None if it has consumed none. A retry has consumed those that the nodes have waited for
        which it inherits.
        """
        stored = self._journal.signal(name)
        return None if stored is None else self._journal.decode(stored)

    @cached_property
    def snapshot(self) -> Any:
        """The snapshot with which the step last suspended; None if it has not."""
        return self._decoded(self._claim.token.snapshot)

    @property
    def is_resumed(self) -> bool:
        """True if the step has suspended and the signal that it waited for has arrived."""
        return self._claim.token.answer is not None

    @cached_property
    def resume_data(self) -> Any:
        """The payload of the signal that resumed the step."""
        return self._decoded(self._claim.token.answer)

    def _decoded(self, text: str | None) -> Any:
        return None if text is None else self._journal.decode(text)

    def heartbeat(self, details: object = None) -> None:
        """Report that the unit is still at work; `details` are shown in the run's status.

        Raises `RunCancelled` if the run was cancelled and the unit's result would be dropped, and
        `WorkerLost` if the worker has lost its claim of the unit. Without `details` it queries the
        database at most twice a second.
        """
        note = None if details is None else {"details": details}
        if note is not None or self._is_time_to_beat():
            self._beat(note)
        if self._is_cancelled:
            raise RunCancelled(self.run_id)

    def progress(self, fraction: float, message: str = "") -> None:
        """Report how far the unit is, from 0 to 1; it is shown in the run's status."""
        if isinstance(fraction, bool) or not isinstance(fraction, int | float):
            raise TypeError(f"progress takes a fraction from 0 to 1, not {fraction!r}.")
        if not 0 <= fraction <= 1:
            raise ValueError(f"progress takes a fraction from 0 to 1, not {fraction!r}.")
        self._beat({"fraction": float(fraction), "message": str(message)})

    @property
    def cancelled(self) -> bool:
        """True if the run was cancelled and this unit's result would be dropped.

        Queries the database at most twice a second. False for a cancel with `compensate=True`:
        then the unit runs to its end, and its result counts.
        """
        if not self._is_cancelled and self._is_time_to_beat():
            self._beat(None)
        return self._is_cancelled

    def _is_time_to_beat(self) -> bool:
        return time.monotonic() - self._last_beat >= BEAT_EVERY

    def _beat(self, note: dict[str, Any] | None) -> None:
        heartbeat = self._journal.beat(self._claim, note)
        self._last_beat = time.monotonic()
        if not heartbeat.is_ours:
            raise WorkerLost(
                f"{self.unit} of run {self.run_id} is not this worker's any more: its result will"
                " be dropped. Stop here."
            )
        cancel = heartbeat.flags & (Flags.CANCEL | Flags.COMPENSATE)
        is_rollback = self._claim.token.rollback is not None
        self._is_cancelled = cancel is Flags.CANCEL and not is_rollback

    @property
    def idempotency_key(self) -> str:
        """A key that is the same in every attempt of this unit, and differs from all other units'.

        36 ASCII characters. Pass it to a service that must not do a thing twice: a payment
        provider, a mailer.
        """
        return str(uuid5(self.run_id, self.unit))

    @cached_property
    def result(self) -> Any:
        """In a compensator: the result of the unit that it undoes. None elsewhere."""
        if self._claim.token.rollback is None:
            return None
        found = self._journal.result(compensated_by(self.unit))
        return found[0] if found else None

    @property
    def error(self) -> ErrorRecord | None:
        """In a compensator: why the run is rolled back; None after a cancel."""
        return self._claim.run.error

    @property
    def is_transactional(self) -> bool:
        """True if the step is: what it writes in its transaction commits with it."""
        return self._session is not None

    @property
    def session(self) -> Session:
        """In a transactional step: the SQLAlchemy session that commits with the step.

        Raises `RuntimeError` in other steps, and under Django, whose ORM is in the transaction.
        """
        if isinstance(self._session, NoSession):
            raise RuntimeError(self._session.why)  # noqa: TRY004 - as below
        if self._session is None:
            raise RuntimeError(
                f"{self.unit!r} is not transactional; only a step with transactional=True has"
                " ctx.session."
            )
        return self._session

    def send_task(self, signature: object) -> str:
        """Send an ordinary task, such as `notify.s("ops")`, with the commit of this unit.

        It is sent if and only if the unit completes, or suspends: at least once, always with the
        id that this returns, after those that the unit has sent before. An attempt that fails sends
        nothing. Takes what `Durable.send_task` takes, and raises what it raises; and `RuntimeError`
        where no unit commits, as in a selector.
        """
        if self._compose is None:
            raise RuntimeError(
                f"ctx.send_task is for the handlers of steps and for compensators, which commit"
                f" what they send; {self.unit!r} calls another function, or has ended. Send the"
                " task from a step."
            )
        composed = self._compose(
            signature, root_id=str(self.run_id), parent_id=self.idempotency_key
        )
        self._sends += composed.messages
        return composed.id

    def callback_url(
        self,
        signal: str | None = None,
        *,
        data: object = ...,
        expires: float | timedelta | None = None,
        key: str | None = None,
    ) -> str:
        """Return a signed link by which a person, without a login, answers the run's next wait.

        `signal` is what the run waits for next, by default this unit's name, for which it may
        suspend. The link opens a page that asks for the answer, in a form made of the wait's
        `schema`; with `data` it asks whether to answer that. Opening it answers nothing. Whoever
        has it may answer: send it, and neither return nor log it, since viewers read results.

        It is good until the wait is answered, by whatever way, or over; until the run ends; and
        for `expires` seconds or a timedelta. Of all links for one wait one is used, once. A link
        with a `key` of its own counts once by that, whichever wait takes the answer: for a run that
        waits for several people, or whose branches share a signal.

        Raises `ConfigurationError` unless `durable_web_secret` and `durable_web_url` are set, and
        `PayloadError` for `data` that the wait does not take, or that is too long for a link.
        """
        if self._link is None:
            raise RuntimeError(
                f"ctx.callback_url is for a unit that an engine executes, and {self.unit!r} is not;"
                " in a test, make the context with make_context."
            )
        name = checked_signal(self.unit if signal is None else signal)
        seconds = checked_deadline("expires", expires)
        given = None if data is ... else (data,)
        return self._link(name, data=given, expires=seconds, key=checked_key(key))

    @cached_property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose records carry `run_id`, `workflow`, `unit` and `attempt`."""
        logger = logging.getLogger(f"celery_durable.workflow.{self.workflow}")
        extra = {
            "run_id": str(self.run_id),
            "workflow": self.workflow,
            "unit": self.unit,
            "attempt": self.attempt,
        }
        return logging.LoggerAdapter(logger, extra)
