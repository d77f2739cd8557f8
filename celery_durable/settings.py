"""Reads and checks the `durable_*` settings of a Celery app.

Under Django with `namespace="CELERY"` they are written `CELERY_DURABLE_...`. A `durable_` setting
that does not exist is refused with the nearest name that does.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from celery_durable.core.retention import BY_DEFAULT, FOR_EVER, Retention
from celery_durable.core.retry import STEP_RETRY, RetryPolicy
from celery_durable.errors import ConfigurationError, nearest, seconds_of

PREFIX = "durable_"

Secret = str
"""Text that no message shows."""

WebAddress = str
"""Where a page is opened: it begins with http:// or https://."""

Host = str
"""A name of a machine, without a port."""


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

    django_alias: str = "default"
    """With `celery_durable.contrib.django`: the database in Django's DATABASES that has the tables.
    """

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

    log_format: str | None = None
    """Format of the lines that a worker logs, in place of Celery's two: with the fields of Celery,
    `task_id` and `task_name` among them, and `durable_run`, `durable_workflow`, `durable_unit` and
    `durable_attempt`. None leaves Celery's as they are.
    """

    retention: Retention = BY_DEFAULT
    """After how long runs that have ended are deleted, by status. A status that is left out keeps
    its default. None for a status keeps its runs for ever; None alone keeps all.
    """

    web_token: Secret | None = field(default=None, repr=False)
    """What lets viewers into the web page, 16 characters or more. None: `celery -A app durable web`
    makes one at each start, and prints it.
    """

    web_secret: Secret | None = field(default=None, repr=False)
    """Signs the page's cookies, so that they hold after a restart and in several processes, and
    the links of `ctx.callback_url`: 16 characters or more, alike in workers and pages. None:
    `durable_web_token`, or one that is made at each start, signs cookies, and there are no links.
    """

    web_url: WebAddress | None = None
    """Where people open the page, or the view of links: "https://shop.example.com/durable". The
    links of `ctx.callback_url` begin with it.
    """

    web_read_only: bool = False
    """The page only shows: nobody acts there."""

    web_metrics_token: Secret | None = field(default=None, repr=False)
    """What reads `/metrics` of the web page, and nothing else, as a bearer token, 16 characters or
    more. None: `durable_web_token` does it alone.
    """

    web_metrics_open: bool = False
    """Everybody who reaches the web page reads its `/metrics`."""

    web_hosts: tuple[Host, ...] = ()
    """Names by which the page is opened, besides `localhost` and addresses: "durable.example.com";
    "*" for any.
    """

    @property
    def tokens_per_message(self) -> int:
        """`bundle`; but 1 where the first crash is the last: a neighbour must not cause it."""
        return self.bundle if self.max_crashes > 1 else 1


def read_settings(
    conf: Mapping[str, Any],
    environment: Mapping[str, str] = os.environ,
    namespace: str | None = None,
    *,
    has_framework: bool = False,
) -> Settings:
    """Read the settings from a Celery app's `conf`; a `ConfigurationError` names what is wrong.

    `namespace` is the app's own: the prefix of its settings in the object that they come from.
    With `has_framework` the framework knows the address of the database, and `database_url` is "".
    """
    known = {field.name for field in fields(Settings)}
    _refuse_unknown(conf, known, namespace.rstrip("_") + "_" if namespace else "")
    values: dict[str, Any] = {}
    for name in known:
        value = conf.get(PREFIX + name)
        if value is not None:
            values[name] = _checked(name, value)
    if conf.get(PREFIX + "retention", BY_DEFAULT) is None:
        values["retention"] = FOR_EVER
    if has_framework:
        values["database_url"] = ""
    elif "django_alias" in values:
        raise ConfigurationError(
            f"{PREFIX}django_alias is set, and Django is not set up with the library in it: add"
            ' "celery_durable.contrib.django" to INSTALLED_APPS, and call django.setup() before'
            " runs are started."
        )
    values.setdefault("database_url", environment.get("DURABLE_DATABASE_URL"))
    if not values["database_url"] and not has_framework:
        raise ConfigurationError(
            "durable_database_url is not set. Set it in the Celery configuration, or the"
            " environment variable DURABLE_DATABASE_URL, to an SQLAlchemy URL such as"
            " postgresql+psycopg://user@host/database."
        )
    _check_schema_name(values.get("schema", "public"))
    _check_log_format(values.get("log_format"))
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


def log_format(conf: Mapping[str, Any]) -> str | None:
    """Read `durable_log_format` alone: logging is set up before anything else is known."""
    value = conf.get(PREFIX + "log_format")
    chosen: str | None = None if value is None else _checked("log_format", value)
    _check_log_format(chosen)
    return chosen


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

SHORTEST_SECRET = 16
"""Characters below which a secret can be guessed."""

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


LOG_FIELDS = ("durable_run", "durable_workflow", "durable_unit", "durable_attempt")
"""What every record of a worker has besides Celery's own (`workflow.logs`)."""


class _AnyRecord(dict[str, object]):
    """The fields of a record that no unit has logged; those that are not ours are numbers."""

    def __missing__(self, name: str) -> object:
        if name in LOG_FIELDS:
            return "-"
        if name.startswith(PREFIX):
            raise ConfigurationError(
                f"{PREFIX}log_format: no record has a field {name!r}.{nearest(name, LOG_FIELDS)}"
            )
        return 0


def _check_log_format(chosen: str | None) -> None:
    """Raise `ConfigurationError` for a format that could not be used, or names no field of ours.

    Other fields may be those of a filter of the user's.
    """
    if chosen is None:
        return
    try:
        logging.Formatter(chosen)
        _ = chosen % _AnyRecord()
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{PREFIX}log_format is {chosen!r}, by which no line can be formatted: {error}"
        ) from error


def _positive(value: Any) -> float | None:
    return seconds_of(value) or None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _classes(value: Any) -> tuple[str, ...] | None:
    if not isinstance(value, list | tuple | set | frozenset):
        return None
    are_patterns = all(isinstance(one, str) and _PATTERN.fullmatch(one) for one in value)
    return tuple(value) if are_patterns else None


def _secret(value: Any) -> str | None:
    return value if isinstance(value, str) and len(value) >= SHORTEST_SECRET else None


def _web_address(value: Any) -> str | None:
    is_address = isinstance(value, str) and _WEB_ADDRESS.fullmatch(value)
    return value.rstrip("/") if is_address else None


_WEB_ADDRESS = re.compile(r"https?://[^\s?#]+")


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _hosts(value: Any) -> tuple[str, ...] | None:
    if not isinstance(value, list | tuple | set | frozenset):
        return None
    are_names = all(isinstance(one, str) and _HOST.fullmatch(one) for one in value)
    return tuple(one.lower() for one in value) if are_names else None


_HOST = re.compile(r"\*|[\w.-]+")

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


def _retention(value: Any) -> Retention | None:
    if isinstance(value, Retention):
        return value
    if not isinstance(value, Mapping):
        return None
    known = [field.name for field in fields(Retention)]
    ages: dict[str, float | None] = {}
    for status, age in value.items():
        if status not in known:
            raise ConfigurationError(
                f"{PREFIX}retention: no run ends as {status!r}; it takes {', '.join(known)}."
                f"{nearest(str(status), known)}"
            )
        ages[status] = None if age is None else _positive(age)
        if age is not None and ages[status] is None:
            raise ConfigurationError(
                f"{PREFIX}retention: {status!r} takes a number of seconds above 0, a timedelta, or"
                f" None for ever, not {age!r}."
            )
    return Retention(**ages)


_CHECKS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "str": ("a string that is not empty", _string),
    "str | None": ("a string that is not empty", _string),
    "float": ("a number of seconds above 0", _positive),
    "float | None": ("a number of seconds above 0", _positive),
    "int": ("a whole number above 0", _count),
    "tuple[str, ...]": ('a list of "module:Class" and "package."', _classes),
    "Secret | None": (f"a string of {SHORTEST_SECRET} characters or more", _secret),
    "WebAddress | None": ("an address such as https://shop.example.com/durable", _web_address),
    "bool": ("True or False", _flag),
    "tuple[Host, ...]": ("a list of host names, without scheme and port", _hosts),
    "RetryPolicy": ("a RetryPolicy, or a mapping of its arguments", _policy),
    "Retention": ("a mapping of finished statuses to durations, or None", _retention),
}


def _checked(name: str, value: Any) -> Any:
    kinds = {field.name: str(field.type) for field in fields(Settings)}
    expected, check = _CHECKS[kinds[name]]
    checked = check(value)
    if checked is None:
        # A URL holds a password, whatever the type of the value.
        is_secret = name.endswith("_url") or kinds[name].startswith("Secret")
        shown = type(value).__name__ if is_secret and value else repr(value)
        raise ConfigurationError(f"{PREFIX}{name} takes {expected}, not {shown}.")
    return checked
