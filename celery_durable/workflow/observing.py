"""Observers of what this process does with runs: tracing, and the reporting of errors.

They are told of calls (a start, a signal), of units, of signals that runs have consumed, of
failures and of messages. While there is no observer, nothing is called and nothing is made. What
one raises is logged, and changes nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeVar
from uuid import UUID

from celery_durable.core.claim import Claim
from celery_durable.core.event import Event, Signalled
from celery_durable.core.names import shared_name
from celery_durable.errors import ErrorRecord

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Call:
    """A start or a signal. `name` is the workflow's, or the signal's.

    `run_id` is known once a start is done; it stays None where many runs are started, `runs` of
    them.
    """

    verb: Literal["start", "signal"]
    name: str
    version: int | None = None
    run_id: UUID | None = None
    runs: int | None = None


class Fate(StrEnum):
    """What a failure leads to."""

    RETRIED = "retried"
    PAUSED = "paused"
    """The tries are used up, and an operator is waited for."""
    GAVE_UP = "gave up"
    """The handler has decided it, by `GiveUp`."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure of a unit that is committed. `exception` is None where no handler has raised."""

    claim: Claim
    error: ErrorRecord
    exception: BaseException | None
    fate: Fate


@dataclass(frozen=True, slots=True)
class Followed:
    """A message that has been followed: its runs by id, with their workflows, and what failed."""

    runs: Mapping[UUID, str]
    failures: tuple[str, ...]


class Observer:
    """Is told what this process does with runs. A subclass overrides what it wants to hear.

    What a `begin_...` returns its `end_...` gets.
    """

    def trace(self) -> Mapping[str, str]:
        """Return the headers that tell of the trace which a run or a signal belongs to."""
        return {}

    def begin_call(self, call: Call) -> object:
        """Called before something is written for a call."""

    def end_call(self, begun: object, call: Call, error: BaseException | None) -> None:
        """Called after it, also where it has raised `error`."""

    def begin_unit(self, claim: Claim) -> object:
        """Called before a unit is executed, in its thread."""

    def end_unit(self, begun: object, event: Event | None, error: BaseException | None) -> None:
        """Called after it, in the same thread; without an `event` if the process has to exit."""

    def signalled(self, claim: Claim, event: Signalled) -> None:
        """Called when a run has consumed a signal."""

    def failed(self, failure: Failure) -> None:
        """Called when the failure of a unit is committed, by the thread that has executed it."""

    def followed(self, message: Followed) -> None:
        """Called when a message of a relay has been followed, before its task ends."""


observers: list[Observer] = []
"""The observers of this process, in the order in which they are told."""


def trace_here(otherwise: str | None = None) -> str | None:
    """Return the trace of whoever calls, as JSON text; `otherwise` where there is none."""
    if not observers:
        return otherwise
    found: dict[str, str] = {}
    for one in observers:
        found |= _told(one.trace) or {}
    return json.dumps(found) if found else otherwise


def headers_of(trace: str | None) -> Mapping[str, str]:
    """Return the headers of a trace that is JSON text, whoever has written it."""
    try:
        found = json.loads(trace) if trace else {}
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def kind_of(claim: Claim) -> str:
    """Return what the unit is called with others of its kind: items of a node share one name."""
    token = claim.token
    is_undone = token.rollback is not None
    return shared_name(token.unit, token.node, token.part, token.position, is_undone=is_undone)


@contextmanager
def calling(call: Call) -> Iterator[Call]:
    """Tell the observers of a call, which the block does."""
    begun = [(one, _told(one.begin_call, call)) for one in observers]
    error: BaseException | None = None
    try:
        yield call
    except BaseException as raised:
        error = raised
        raise
    finally:
        for one, what in reversed(begun):
            _told(one.end_call, what, call, error)


Ended = Callable[[Event | None, BaseException | None], None]
"""Notes what became of the unit."""


@contextmanager
def executing(claim: Claim) -> Iterator[Ended]:
    """Tell the observers of a unit, which the block executes; it calls what this yields."""
    begun = [(one, _told(one.begin_unit, claim)) for one in observers]
    event: Event | None = None
    error: BaseException | None = None

    def ended(became: Event | None, raised: BaseException | None) -> None:
        nonlocal event, error
        event, error = became, raised

    try:
        yield ended
    finally:
        for one, what in reversed(begun):
            _told(one.end_unit, what, event, error)


def signalled(claim: Claim, event: Signalled) -> None:
    """Tell the observers of a signal that has been consumed."""
    for one in observers:
        _told(one.signalled, claim, event)


def failed(failure: Failure) -> None:
    """Tell the observers of a failure."""
    for one in observers:
        _told(one.failed, failure)


def followed(message: Followed) -> None:
    """Tell the observers of a message."""
    for one in observers:
        _told(one.followed, message)


def _told(tell: Callable[..., T], *what: object) -> T | None:
    """Call a method of an observer."""
    try:
        return tell(*what)
    except Exception:  # whatever a tracer or its exporter raises is no failure of a run
        logger.exception("%s has failed; the run goes on", tell.__qualname__)
        return None
