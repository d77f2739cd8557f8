"""`make_context` makes the argument of a handler, for a test of that handler alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import EllipsisType
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from celery_durable.arguments import checked_flag, checked_run_id, checked_whole
from celery_durable.core.claim import Claim, RunFacts
from celery_durable.core.names import checked_name, compensation_of, subunit_of
from celery_durable.core.status import Status
from celery_durable.core.token import Flags, Token
from celery_durable.engine.ids import uuid7
from celery_durable.errors import ErrorRecord
from celery_durable.settings import Settings
from celery_durable.store import codec
from celery_durable.store.heartbeat import Heartbeat
from celery_durable.testing.places import (
    checked_names,
    place_in,
    place_of,
    refuse_no_workflow,
    refuse_unknown,
    refuse_unknown_branch,
)
from celery_durable.workflow.builder import Workflow
from celery_durable.workflow.callbacks import PATH, Callback, signed
from celery_durable.workflow.context import Context
from celery_durable.workflow.failures import error_record_of
from celery_durable.workflow.step import Step

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

LIMIT = Settings(database_url="").max_payload_bytes
HIGHEST = 2**31 - 1


TEST_URL = "https://durable.test"
"""Where the links of a test lead to: no such name is ever anybody's (RFC 2606)."""


@dataclass(frozen=True, slots=True)
class MadeLink:
    """A link that a handler has made, and what it said of it; `expires` is in seconds."""

    url: str
    signal: str
    data: object = None
    expires: float | None = None
    key: str | None = None


class RecordingContext(Context):
    """A context that stores nothing, and keeps what its handler notes."""

    def __init__(
        self, claim: Claim, past: Past, session: Session | None, idempotency_key: str | None
    ) -> None:
        super().__init__(claim, past, session)
        self._past = past
        self._key = idempotency_key
        self._link = self._made

    @property
    def heartbeats(self) -> Sequence[Any]:
        """The `details` of each `heartbeat` so far; None for one without."""
        return tuple(self._past.heartbeats)

    @property
    def progressed(self) -> Sequence[tuple[float, str]]:
        """The fraction and the message of each `progress` so far."""
        return tuple(self._past.progressed)

    @property
    def sent(self) -> Sequence[object]:
        """The signatures of the tasks that the handler has sent, in order."""
        return tuple(self._past.sent)

    @property
    def links(self) -> Sequence[MadeLink]:
        """The links that the handler has made, in order."""
        return tuple(self._past.links)

    def _made(
        self,
        signal: str,
        *,
        data: tuple[object] | None,
        expires: float | None,
        key: str | None,
    ) -> str:
        """Make a link that looks like one, and opens nothing."""
        text = None if data is None else _text(data[0], f"the data of {signal}")
        callback = Callback(self.run_id, signal, self.unit, key=key, data=text)
        url = f"{TEST_URL}/{PATH}/{signed(callback, str(self.run_id))}"
        self._past.links.append(MadeLink(url, signal, data and data[0], expires, key))
        return url

    def send_task(self, signature: object) -> str:
        """Keep the signature; nothing sends it."""
        self._past.sent.append(signature)
        return str(uuid4())

    @property
    def idempotency_key(self) -> str:
        """The key of the unit, or the one that the test has chosen."""
        return super().idempotency_key if self._key is None else self._key

    def heartbeat(self, details: Any = None) -> None:
        """Keep the details. Raises `RunCancelled` if the context was made with `cancelled=True`."""
        if details is None:
            self._past.heartbeats.append(None)
        super().heartbeat(details)


@dataclass
class Past:
    """The past of a run that a test has made up. Results, payloads and the item are JSON text."""

    results: Mapping[str, str]
    signals: Mapping[str, str]
    item: str | None
    flags: Flags
    heartbeats: list[Any] = field(default_factory=list)
    progressed: list[tuple[float, str]] = field(default_factory=list)
    sent: list[object] = field(default_factory=list)
    links: list[MadeLink] = field(default_factory=list)

    def decode(self, text: str) -> Any:
        """Return the value that this JSON text was made of."""
        return codec.loads(text)

    def result(self, unit: str) -> tuple[Any] | None:
        """Return the result of a completed unit, in a tuple; None if it has not completed."""
        text = self.results.get(unit)
        return None if text is None else (codec.loads(text),)

    def completed_nodes(self) -> tuple[str, ...]:
        """Return the names of the completed nodes."""
        return tuple(self.results)

    def input(self, unit: str) -> str | None:  # noqa: ARG002 - of the only unit there is
        """Return the item of the unit that a compensator undoes."""
        return self.item

    def signal(self, name: str) -> str | None:
        """Return the payload of the signal."""
        return self.signals.get(name)

    def beat(self, claim: Claim, note: dict[str, Any] | None) -> Heartbeat:
        """Keep the note, which must have a JSON form as in a run."""
        if note is not None:
            _text(note, f"the progress of {claim.token.unit}")
            if "details" in note:
                self.heartbeats.append(note["details"])
            else:
                self.progressed.append((note["fraction"], note["message"]))
        return Heartbeat(self.flags)


def make_context(
    step: Step | Callable[..., Any] | str,
    *,
    workflow: Workflow | None = None,
    input: object = None,
    results: Mapping[str, object] | None = None,
    item: object | EllipsisType = ...,
    iteration: int | None = None,
    branch: str | None = None,
    attempt: int = 1,
    snapshot: object = None,
    resume_data: object | EllipsisType = ...,
    signals: Mapping[str, object] | None = None,
    result: object | EllipsisType = ...,
    error: BaseException | ErrorRecord | None = None,
    cancelled: bool = False,
    idempotency_key: str | None = None,
    session: Session | None = None,
    run_id: UUID | str | None = None,
) -> RecordingContext:
    """Make the context of one handler, for a test that calls it: `charge(make_context(charge))`.

    It is a real `Context`: values come out of it as they would out of the database. `step` is a
    step, a function of the context, or the name of a node. With `workflow` it must be a part of
    that, and the names in `results` and `signals` must be known to it.

    `item`, `iteration` and `branch` are those of a map, a loop or a parallel node. `resume_data`,
    also None, makes the context of a step that is resumed. `result` or `error` make that of a
    compensator. With `cancelled` the run was cancelled meanwhile. `session` is that of a
    transactional step. What the handler noted is in `heartbeats` and `progressed` of the context,
    what it sent in `sent`, and the links of `callback_url` in `links`.

    Raises `ConfigurationError` for a name that the workflow does not have, and `NotSerializable`
    for a value without a JSON form.
    """
    results, signals = checked_names("results", results), checked_names("signals", signals)
    refuse_no_workflow(workflow)
    place = place_of(step) if workflow is None else place_in(workflow, step)
    if workflow is not None:
        refuse_unknown(workflow, results, signals)
        refuse_unknown_branch(workflow, place.node, branch)
    branch = place.branch if branch is None else checked_name("branch", branch)
    position = None if iteration is None else checked_whole("iteration", iteration, 0, HIGHEST)
    part = position if branch is None else branch
    unit = place.node if part is None else subunit_of(place.node, part)
    is_compensator = place.is_compensator or error is not None or result is not ...
    if is_compensator:
        results[unit] = None if result is ... else result
    item_text = _text_unless_left_out(item, "the item")
    run = RunFacts(
        id=uuid7() if run_id is None else checked_run_id(run_id),
        workflow="test" if workflow is None else workflow.name,
        version=1 if workflow is None else workflow.version,
        status=Status.COMPENSATING if is_compensator else Status.RUNNING,
        key=None,
        priority=None,
        tags={},
        input=_text(input, "the input"),
        error=error_record_of(error, unit) if isinstance(error, BaseException) else error,
    )
    token = Token(
        id=uuid4(),
        run_id=run.id,
        node=place.node,
        unit=compensation_of(unit) if is_compensator else unit,
        attempt=checked_whole("attempt", attempt, 1, HIGHEST),
        rollback=Status.FAILED if is_compensator else None,
        part=branch,
        position=position,
        input=item_text,
        snapshot=None if snapshot is None else _text(snapshot, "the snapshot"),
        answer=_text_unless_left_out(resume_data, "resume_data"),
    )
    past = Past(
        {name: _text(value, f"the result of {name}") for name, value in results.items()},
        {name: _text(value, f"the payload of {name}") for name, value in signals.items()},
        item_text,
        Flags.CANCEL if checked_flag("cancelled", cancelled) else Flags.NONE,
    )
    claim = Claim(token, run, uuid4(), uuid4(), "durable", None, datetime.now(UTC))
    return RecordingContext(claim, past, session, idempotency_key)


def _text(value: object, what: str) -> str:
    return codec.dumps(value, what=what, limit=LIMIT)


def _text_unless_left_out(value: object | EllipsisType, what: str) -> str | None:
    return None if value is ... else _text(value, what)
