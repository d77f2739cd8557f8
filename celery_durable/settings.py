"""Reads and checks the `durable_*` settings of a Celery app.

Under Django with `namespace="CELERY"` they are written `CELERY_DURABLE_...`. A `durable_` setting
that does not exist is refused with the nearest name that does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from celery_durable.core.retry import STEP_RETRY, RetryPolicy
from celery_durable.errors import ConfigurationError, nearest, seconds_of

PREFIX = "durable_"


@dataclass(frozen=True, slots=True)
class Settings:
    """One attribute per setting, without the `durable_` prefix. Durations are seconds."""

    database_url: str = field(repr=False)
    """SQLAlchemy URL of the Postgres database; also from the environment, `DURABLE_DATABASE_URL`.
    """

    direct_database_url: str | None = field(default=None, repr=False)
    """The same database past a transaction pooler, for worker locks and LISTEN."""

    schema: str = "public"
    """Postgres schema of the tables. One schema belongs to one Celery app."""

    queue: str = "durable"
    """Celery queue of steps without one."""

    relay_batch: int = 200
    """Most outbox rows published in one transaction of the relay."""

    poll_interval: float = 0.5
    """Longest wait of an idle relay for a notification before it reads the outbox anyway."""

    bundle: int = 16
    """Most runs that one message names when many are due; 1 for one each. It names four times as
    many branches of a large map.
    """

    inline_steps: int = 100
    """Most steps that one message executes before the run goes back to the broker."""

    inline_seconds: float = 10.0
    """A message older than this begins no further step."""

    worker_ttl: float = 30.0
    """A worker that has not renewed its lease for so long is dead, even if its lock is held."""

    max_crashes: int = 3
    """A unit whose worker died so many times fails with `WorkerLost`."""

    max_depth: int = 100
    """Most levels of child runs below a run; a unit that starts a deeper one fails."""

    max_payload_bytes: int = 1024 * 1024
    """Longest JSON of one input or result."""

    allowed_types: tuple[str, ...] = ()
    """Classes whose modules may be imported to read a stored value: "module:Class", or "package."
    for all classes in it. Classes of modules that are loaded anyway need no entry.
    """

    default_retry: RetryPolicy = STEP_RETRY
    """The retry policy of steps without one."""

    step_timeout: float | None = None
    """Seconds that a step without a `timeout` may take; None for no limit."""

    @property
    def tokens_per_message(self) -> int:
        """`bundle`; but 1 where the first crash is the last: a neighbour must not cause it."""
        return self.bundle if self.max_crashes > 1 else 1


def read_settings(
    conf: Mapping[str, Any],
    environment: Mapping[str, str] = os.environ,
    namespace: str | None = None,
) -> Settings:
    """Read the settings from a Celery app's `conf`; a `ConfigurationError` names what is wrong.

    `namespace` is the app's own: the prefix of its settings in the object that they come from.
    """
    known = {field.name for field in fields(Settings)}
    _refuse_unknown(conf, known, namespace.rstrip("_") + "_" if namespace else "")
    values: dict[str, Any] = {}
    for name in known:
        value = conf.get(PREFIX + name)
        if value is not None:
            values[name] = _checked(name, value)
    values.setdefault("database_url", environment.get("DURABLE_DATABASE_URL"))
    if not values["database_url"]:
        raise ConfigurationError(
            "durable_database_url is not set. Set it in the Celery configuration, or the"
            " environment variable DURABLE_DATABASE_URL, to an SQLAlchemy URL such as"
            " postgresql+psycopg://user@host/database."
        )
    _check_schema_name(values.get("schema", "public"))
    for name in ("database_url", "direct_database_url"):
        if values.get(name):
            values[name] = _postgres_url(name, str(values[name]))
    return Settings(**values)


def default_retry(conf: Mapping[str, Any]) -> RetryPolicy:
    """Read `durable_default_retry` alone: a workflow is frozen with it, also without a database."""
    value = conf.get(PREFIX + "default_retry")
    policy: RetryPolicy = STEP_RETRY if value is None else _checked("default_retry", value)
    return policy


def step_timeout(conf: Mapping[str, Any]) -> float | None:
    """Read `durable_step_timeout` alone, in seconds, for the same reason."""
    value = conf.get(PREFIX + "step_timeout")
    seconds: float | None = None if value is None else _checked("step_timeout", value)
    return seconds


def _refuse_unknown(conf: Mapping[str, Any], known: set[str], prefix: str) -> None:
    """Raise `ConfigurationError` for a key that is meant as our setting and that Celery ignores.

    Celery reads `durable_queue` under this name and, with a namespace, under the name with that
    prefix, in capitals if the namespace is in capitals.
    """
    case = str.upper if prefix.isupper() else str.lower
    read = {spelled for name in known for spelled in (PREFIX + name, case(prefix + PREFIX + name))}
    for key in conf:
        name = _meant_setting(key, prefix)
        # A module of settings may set `durable_queue` by a constant DURABLE_QUEUE of its own.
        is_constant = name in known and conf.get(f"{PREFIX}{name}") is not None
        if name is not None and key not in read and not is_constant:
            close = [
                PREFIX + one if key.startswith(PREFIX) else case(prefix + PREFIX + one)
                for one in get_close_matches(name, known, n=1)
            ]
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ConfigurationError(f"Unknown setting {key!r}.{hint}")


def _meant_setting(key: str, prefix: str) -> str | None:
    """Return the name of the setting of ours that `key` is meant for, in any case; None if none."""
    lower = key.lower()
    # With a namespace, Celery reads no key in capitals that lacks it.
    is_bare = lower.startswith(PREFIX) and (not prefix or key.startswith(PREFIX))
    before = "" if is_bare else (prefix or "celery_").lower()
    start = before + PREFIX
    return lower.removeprefix(start) if lower.startswith(start) else None


def _postgres_url(name: str, url: str) -> str:
    """Return `url` with psycopg 3 as its driver; refuse any other database."""
    if re.match(r"\s*\w+\s*=", url):
        return url  # a connection string of libpq: host=... dbname=...
    scheme, separator, rest = url.partition("://")
    if separator and scheme in ("postgresql", "postgres", "postgresql+psycopg"):
        return f"postgresql+psycopg://{rest}"
    raise ConfigurationError(
        f"{PREFIX}{name} must be a Postgres URL for psycopg 3, postgresql+psycopg://...; its scheme"
        f" is {scheme if separator else (re.match(_SCHEME, url) or [''])[0]!r}."
    )


_SCHEME = r"[a-z][a-z0-9+.-]*(?=:)"
"""The text before a colon. A URL without one is not shown: it may hold a password."""

LONGEST_NAME = 63
"""Most bytes of a name in Postgres (NAMEDATALEN), which silently cuts a longer one."""


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _check_schema_name(name: str) -> None:
    """Raise `ConfigurationError` if no schema can have this name."""
    why = None
    if len(name.encode(errors="replace")) > LONGEST_NAME:
        why = f"it is longer than {LONGEST_NAME} bytes"
    elif name.startswith("pg_"):
        why = "names that begin with pg_ are PostgreSQL's"
    elif not name.isprintable() or set("[]") & set(name):
        why = "it holds a square bracket, or a character that cannot be printed"
    if why is not None:
        raise ConfigurationError(f"{PREFIX}schema: no schema can be called {name!r}: {why}.")


def _positive(value: Any) -> float | None:
    return seconds_of(value) or None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _classes(value: Any) -> tuple[str, ...] | None:
    if not isinstance(value, list | tuple | set | frozenset):
        return None
    are_patterns = all(isinstance(one, str) and _PATTERN.fullmatch(one) for one in value)
    return tuple(value) if are_patterns else None


_PATTERN = re.compile(r"(\w+\.)+|\w+(\.\w+)*:.+")


def _policy(value: Any) -> RetryPolicy | None:
    if isinstance(value, Mapping):
        known = {field.name for field in fields(RetryPolicy)}
        for name in value:
            if name not in known:
                raise ConfigurationError(
                    f"{PREFIX}default_retry: RetryPolicy has no argument {name!r}."
                    f"{nearest(str(name), known)}"
                )
        return RetryPolicy(**value)
    return value if isinstance(value, RetryPolicy) else None


_CHECKS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "str": ("a string", _string),
    "str | None": ("a string", _string),
    "float": ("a number of seconds above 0", _positive),
    "float | None": ("a number of seconds above 0", _positive),
    "int": ("a whole number above 0", _count),
    "tuple[str, ...]": ('a list of "module:Class" and "package."', _classes),
    "RetryPolicy": ("a RetryPolicy, or a mapping of its arguments", _policy),
}


def _checked(name: str, value: Any) -> Any:
    kinds = {field.name: str(field.type) for field in fields(Settings)}
    expected, check = _CHECKS[kinds[name]]
    checked = check(value)
    if checked is None:
        # A URL holds a password, whatever the type of the value.
        shown = type(value).__name__ if name.endswith("_url") else repr(value)
        raise ConfigurationError(f"{PREFIX}{name} takes {expected}, not {shown}.")
    return checked
