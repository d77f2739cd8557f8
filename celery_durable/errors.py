"""Every error of celery_durable.

    DurableError
    ├── ConfigurationError        the app, a setting or a definition is wrong
    │   ├── InvalidWorkflow
    │   ├── DuplicateWorkflow
    │   ├── UnknownWorkflow
    │   └── SchemaOutOfDate
    ├── DatabaseUnavailable       Postgres does not answer
    ├── BrokerUnavailable         the broker does not answer; the outbox keeps what it would get
    ├── RunError                  about one run
    │   ├── RunNotFound
    │   ├── RunExists
    │   ├── RunFailed
    │   ├── RunCancelled
    │   ├── RunRefused            it does not stand so that this can be done to it
    │   └── ResultTimeout
    ├── PayloadError              an input, a result or a signal cannot be stored, or does not fit
    │   ├── NotSerializable
    │   └── PayloadTooLarge
    ├── GiveUp                    raised by handlers
    ├── RetryLater                raised by handlers
    └── recorded by the engine, by type
        ├── StepTimeout           a unit took longer than its `timeout`
        ├── RunTimeout            a run took longer than its `timeout`
        ├── WorkerLost            its worker died, too often; `ctx.heartbeat()` may raise it too
        ├── ChildFailed           a child run failed or was cancelled
        ├── SignalTimeout         a signal did not come in time
        ├── TooDeep               a child would have been deeper than durable_max_depth
        ├── UnknownRoute          a selector named no case
        └── LoopExhausted         a loop was not done after `max_iterations`

The message of each says what happened, to which thing, and what to do next; the same facts are
attributes, so that a caller never parses a message.
"""

from __future__ import annotations

import copyreg
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from typing import Any
from uuid import UUID

LONGEST = 100 * 366 * 86_400.0
"""A hundred years in seconds; a longer duration is a mistake."""


def number_of_seconds(value: object) -> float | None:
    """Return the seconds of a number or a timedelta, however many; None for any other value."""
    number: Any = value.total_seconds() if isinstance(value, timedelta) else value
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    return number if is_number else None


def seconds_of(value: object) -> float | None:
    """Return the seconds of a number or a timedelta; None unless they are from 0 to `LONGEST`."""
    number = number_of_seconds(value)
    return float(number) if number is not None and 0 <= number <= LONGEST else None


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """Why a unit, an attempt or a run failed. `traceback` is text, empty where there is none."""

    type: str
    message: str
    traceback: str = ""
    unit: str = ""


class DurableError(Exception):
    """The root of every error of this library."""

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions are pickled as a call with their message, which is not what `__init__` takes.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a sentence that suggests the closest known name; empty if none is close."""
    close = get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


class ConfigurationError(DurableError):
    """The app, a setting or a definition is wrong; nothing was started."""


class InvalidWorkflow(ConfigurationError):
    """A workflow definition breaks a rule of the builder."""


class DuplicateWorkflow(ConfigurationError):
    """Two different definitions claim the same workflow name and version."""


class UnknownWorkflow(ConfigurationError):
    """Neither this process nor the database knows the workflow, or that version of it."""

    def __init__(self, workflow: str, version: int | None, known: Iterable[str]) -> None:
        self.workflow = workflow
        self.version = version
        names = sorted(known)
        which = f"{workflow!r}" if version is None else f"{workflow!r} version {version}"
        listed = ", ".join(names) if names else "none"
        super().__init__(
            f"Unknown workflow {which}; known here: {listed}.{nearest(workflow, names)}"
            " Import the module that defines it, or start a worker that does."
        )


class SchemaOutOfDate(ConfigurationError):
    """The tables are missing, or of an older or a newer release.

    `found` is their revision, None if there are none, and empty if nobody has looked.
    """

    def __init__(self, schema: str, found: str | None, expected: str) -> None:
        self.schema = schema
        self.found = found
        self.expected = expected
        state = f"is at revision {found}" if found else "does not exist"
        if found == "":
            state = "is missing, or older than this release"
        what_helps = "Run: celery -A <your app> durable migrate"
        if found and found > expected:  # they are numbered, with as many digits
            what_helps = "A newer release made it; install that one."
        super().__init__(
            f"The durable schema in {schema!r} {state}; this release needs {expected}. {what_helps}"
        )


class DatabaseUnavailable(DurableError):
    """Postgres could not be reached, dropped the connection, or could not do it now (a lock that is
    held for long, a full disk). Nothing is known to be lost.
    """

    is_there = False
    """True if Postgres answers, and only cannot do it now."""

    is_given_up = False
    """True if the engine has retried for as long as it may, and has given up."""


class BrokerUnavailable(DurableError):
    """The broker did not answer or confirm; `sent` are the outbox rows that it has taken."""

    def __init__(self, sent: Iterable[int], why: object) -> None:
        self.sent = tuple(sent)
        self.why = str(why)
        super().__init__(f"The broker is not available: {why}")


class RunError(DurableError):
    """An error about one run; `run_id` is None if no run was found by its key."""

    def __init__(self, run_id: UUID | None, message: str) -> None:
        self.run_id = run_id
        super().__init__(message)


class RunNotFound(RunError):
    """No run has this id."""

    def __init__(self, run_id: UUID) -> None:
        super().__init__(
            run_id,
            f"No run {run_id}. It was never committed, or its rows have been deleted;"
            " `celery -A <your app> durable list` shows what there is.",
        )


class RunRefused(RunError):
    """The run does not stand so that this can be done to it; the message says how it stands."""


class RunExists(RunError):
    """A start with `on_conflict="raise"` found a run that has its key; nothing was started.

    `status` is how that run stood then.
    """

    def __init__(self, run_id: UUID, workflow: str, key: str, status: str) -> None:
        self.workflow = workflow
        self.key = key
        self.status = status
        super().__init__(
            run_id,
            f"Run {run_id} of {workflow!r} has the key {key!r} and is {status}. Start with another"
            " key; or say with on_conflict= or reuse_key= what becomes of that run.",
        )


class RunFailed(RunError):
    """The run ended `failed`; `error` says why, as recorded by the engine."""

    def __init__(self, run_id: UUID, error: ErrorRecord | None) -> None:
        self.error = error
        why = f" at {error.unit}: {error.type}: {error.message}" if error else ""
        super().__init__(run_id, f"Run {run_id} failed{why}")


class RunCancelled(RunError):
    """The run ended `cancelled`."""

    def __init__(self, run_id: UUID, reason: str | None = None) -> None:
        self.reason = reason
        super().__init__(run_id, f"Run {run_id} was cancelled" + (f": {reason}" if reason else ""))


class ResultTimeout(RunError):
    """The run has not ended within the caller's `timeout`; it goes on."""

    def __init__(self, run_id: UUID, timeout: float, status: str) -> None:
        self.timeout = timeout
        self.status = status
        super().__init__(
            run_id,
            f"Run {run_id} is still {status} after {timeout:g} s"
            f"{'' if status == 'paused' else '; it goes on by itself'}. What it waits for, be it a"
            f" worker or somebody: celery -A <your app> durable why {run_id}",
        )


class PayloadError(DurableError):
    """An input, a result or a signal cannot be stored, or does not fit; nothing was committed.

    `fields` says of each field of a model that does not fit why, by its path (`address.street`);
    under "" what no field alone is to blame for. It is empty if there is no model.
    """

    def __init__(self, message: str = "", fields: Mapping[str, str] | None = None) -> None:
        self.fields: Mapping[str, str] = fields or {}
        super().__init__(message)


class NotSerializable(PayloadError):
    """A value has no JSON form; `path` says where it is, `type_name` what it is."""

    def __init__(self, path: str, type_name: str, why: str) -> None:
        self.path = path
        self.type_name = type_name
        self.why = why
        super().__init__(
            f"{path} ({type_name}) cannot be stored: {why}. What can be: JSON, dates and times,"
            " Decimal, UUID, bytes, tuples, sets, enums, paths, dataclasses and pydantic models."
        )


class PayloadTooLarge(PayloadError):
    """A value is longer than its limit; store a reference to it instead.

    `setting` names the limit of inputs and results, `durable_max_payload_bytes`; it is None for a
    fixed limit.
    """

    def __init__(
        self, what: str, size: int, limit: int, setting: str | None = "durable_max_payload_bytes"
    ) -> None:
        self.what = what
        self.size = size
        self.limit = limit
        self.setting = setting
        named = f" ({setting})" if setting else ""
        super().__init__(
            f"{what} is {size} bytes of JSON, the limit is {limit}{named}."
            " Store it elsewhere and pass a reference."
        )


class GiveUp(DurableError):
    """Raised by a handler: this attempt failed, and no other is to be made."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        super().__init__(reason)


class RetryLater(DurableError):
    """Raised by a handler: try again in `delay` seconds.

    With `counts=False` the attempt does not count against the policy's `max_attempts`.
    """

    is_bounded = True
    """False where the handler has a limit of its own: `max_attempts` then does not hold."""

    def __init__(self, delay: float | timedelta, *, counts: bool = False, reason: str = "") -> None:
        seconds = seconds_of(delay)
        if seconds is None:
            raise ValueError(
                f"RetryLater takes a delay in seconds, from 0 to a hundred years: {delay!r}"
            )
        self.delay = seconds
        self.counts = counts
        self.reason = reason
        super().__init__(reason or f"retry in {seconds:g} s")


class WorkerLost(DurableError):
    """Recorded for a unit whose worker died `durable_max_crashes` times while it executed."""


class StepTimeout(DurableError):
    """Recorded for an attempt that took longer than its step's `timeout`."""


class RunTimeout(DurableError):
    """Recorded for a run that took longer than its `timeout`; `unit` is where it stood."""


class ChildFailed(DurableError):
    """Recorded for a unit whose child run failed or was cancelled."""


class TooDeep(DurableError):
    """Recorded for a unit whose child run would be more than `durable_max_depth` levels below its
    root run.
    """

    def __init__(self, workflow: str, depth: int, limit: int) -> None:
        self.workflow = workflow
        self.depth = depth
        self.limit = limit
        super().__init__(
            f"A run of {workflow!r} would be {depth} levels below the root of its tree;"
            f" the limit is {limit} (durable_max_depth)."
        )


class SignalTimeout(DurableError):
    """Recorded for a wait whose signal did not come in time."""


class UnknownRoute(DurableError):
    """Recorded for a route whose selector named no case."""


class LoopExhausted(DurableError):
    """Recorded for a loop with `on_exhausted="fail"` that was not done after `max_iterations`."""
