"""Answers waits, for the page of approvals and for links: what is asked, and whether it still is.

A wait is answered once: all answers to it have one key, so that of two that race one is stored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from celery_durable.core.status import FINISHED, Status
from celery_durable.durable import Durable
from celery_durable.errors import PayloadError
from celery_durable.store import codec
from celery_durable.store.read import asking
from celery_durable.store.read.asking import Standing
from celery_durable.view.document import as_json
from celery_durable.web.bounds import beyond
from celery_durable.web.fields import Field, fields_of
from celery_durable.web.forms import beside, readings, texts_of, value_of
from celery_durable.workflow.callbacks import Callback

DONE, ALREADY = "Thank you: this is answered.", "This was answered already."


@dataclass(frozen=True, slots=True)
class Closed:
    """Why nothing is to be answered any more; `at` is since when, where that is known.

    `actor` is who has answered, if somebody has. `is_new`: it is answered by this call.
    """

    text: str
    at: datetime | None = None
    is_answered: bool = False
    actor: str | None = None
    is_new: bool = False

    @property
    def thanks(self) -> Closed:
        """The same, said to the one who has answered."""
        return replace(self, text=DONE) if self.is_answered else self


@dataclass(frozen=True, slots=True)
class Question:
    """What a person is asked: by whom, and the fields of the answer.

    `texts` is what the fields show, `errors` what is wrong with it; under "" with all of it.
    `answer` is what the answer is to be, if that is fixed; `readings` are its parts, with labels.
    """

    callback: Callback
    standing: Standing
    fields: tuple[Field, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict[str, str])
    errors: Mapping[str, str] = field(default_factory=dict[str, str])
    answer: object = None
    readings: Sequence[tuple[str, str]] = ()

    @property
    def title(self) -> str:
        """What the answer is called."""
        schema = self.standing.node.get("schema") or {}
        return str(schema.get("title") or self.callback.signal)

    @property
    def description(self) -> str:
        """What the model says of itself."""
        schema = self.standing.node.get("schema") or {}
        return str(schema.get("description") or "")


def closed(  # noqa: PLR0911 - a table of cases
    callback: Callback, standing: Standing | None
) -> Closed | None:
    """Why the wait is not to be answered any more; None if it is."""
    if standing is None:
        return Closed("The run is not there any more.")
    if (at := _answered_at(callback, standing)) is not False:
        return Closed(ALREADY, at, is_answered=True, actor=standing.actor)
    if standing.timed_out_at is not None:
        return Closed("The deadline has passed: nobody answered in time.", standing.timed_out_at)
    if standing.status in FINISHED:
        return Closed(f"The run has ended, {standing.status}.", standing.finished_at)
    if standing.status is Status.COMPENSATING:
        return Closed("The run is being rolled back.")
    if standing.has_ended:
        return Closed("The run has gone on: it does not wait for this any more.")
    if callback.expires_at is not None and standing.at >= callback.expires_at:
        return Closed("The link has expired.", callback.expires_at)
    return None


def _answered_at(callback: Callback, standing: Standing) -> datetime | Literal[False] | None:
    """When it was answered; None if it was, and nobody knows when; False if it was not.

    The signals of a run that has ended are gone: there only what was noted says it.
    """
    if standing.taken_at is not None:
        return standing.taken_at
    is_open = standing.status not in FINISHED
    if is_open and callback.wait is not None and standing.arrived != callback.wait:
        return standing.answered_at
    is_over = standing.has_ended or not is_open
    return standing.answered_at if is_over and standing.answered_at is not None else False


def standing_of(durable: Durable, callback: Callback) -> Standing | None:
    """What became of the wait; None if there is no such run."""
    with durable.database.read_only() as connection:
        return asking.standing(
            connection,
            callback.run_id,
            callback.signal,
            callback.signal_key,
            callback.unit,
        )


def question(durable: Durable, callback: Callback) -> Question | Closed:
    """What is asked, or why nothing is."""
    standing = standing_of(durable, callback)
    over = closed(callback, standing)
    if over is not None or standing is None:
        return over or Closed("The run is not there any more.")
    fields = fields_of(standing.node.get("schema"))
    if callback.data is not None:
        data = codec.loads(callback.data)
        plain = json.loads(as_json(data))
        return Question(callback, standing, answer=data, readings=readings(fields, plain))
    return Question(callback, standing, fields, texts_of(fields))


def answer(
    durable: Durable, callback: Callback, form: Mapping[str, Any], actor: str
) -> Question | Closed:
    """Answer, and return that it is answered; or ask again, or say why nothing is asked.

    Nothing is written unless this call has answered: `Closed.is_new` says which.
    """
    asked = question(durable, callback)
    if isinstance(asked, Closed):
        return asked
    data, texts = asked.answer, asked.texts
    if callback.data is None:
        filled = value_of(asked.fields, form)
        data, texts = filled.value, filled.texts
        errors = filled.errors
        if not errors and not _is_known(durable, asked.standing):
            errors = beyond(asked.fields, data)
        if errors:
            return _again(asked, texts, errors)
    try:
        with durable.acting(actor):
            delivery = durable.resume(
                callback.run_id, callback.signal, data, key=callback.signal_key
            )
    except PayloadError as error:
        faults = error.fields or {"": str(error)}
        return _again(asked, texts, beside(asked.fields, faults))
    if delivery.outcome == "stored":
        return Closed(DONE, asked.standing.at, is_answered=True, actor=actor, is_new=True)
    return closed(callback, standing_of(durable, callback)) or Closed(delivery.reason)


def _is_known(durable: Durable, standing: Standing) -> bool:
    """True if this process imports the workflow, so that its model checks an answer."""
    return durable.registry.find(standing.workflow, standing.version) is not None


def _again(asked: Question, texts: Mapping[str, str], errors: Mapping[str, str]) -> Question:
    return replace(asked, texts=texts, errors=errors)
