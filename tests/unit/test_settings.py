"""`durable_*` settings: read once, checked by name and type."""

import dataclasses
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery

from celery_durable import Durable
from celery_durable.core.retention import DAY, FOR_EVER, Retention
from celery_durable.core.retry import STEP_RETRY, RetryPolicy
from celery_durable.errors import ConfigurationError
from celery_durable.settings import Settings, default_retry, log_format, read_settings, step_timeout

URL = "postgresql+psycopg://user@host/shop"


def read(environment: dict[str, str] | None = None, **conf: object) -> Settings:
    """The settings of an app with these `durable_*` settings, without their prefix."""
    prefixed = {f"durable_{name}": value for name, value in conf.items()}
    return read_settings({"task_acks_late": True, **prefixed}, environment or {})


def read_named(conf: Mapping[str, object]) -> Settings:
    return read(None, **conf)


def test_only_the_database_url_is_required() -> None:
    assert read(database_url=URL) == Settings(database_url=URL)


def test_the_defaults_are_the_documented_ones() -> None:
    assert dataclasses.asdict(Settings(URL)) == {
        "database_url": URL,
        "direct_database_url": None,
        "schema": "public",
        "django_alias": "default",
        "queue": "durable",
        "relay_batch": 200,
        "poll_interval": 0.5,
        "bundle": 16,
        "inline_steps": 100,
        "inline_seconds": 10.0,
        "worker_ttl": 30.0,
        "max_crashes": 3,
        "max_depth": 100,
        "max_payload_bytes": 1_048_576,
        "default_retry": dataclasses.asdict(STEP_RETRY),
        "step_timeout": None,
        "allowed_types": (),
        "log_format": None,
        "retention": {"completed": 30 * DAY, "failed": 90 * DAY, "cancelled": 90 * DAY},
        "web_token": None,
        "web_secret": None,
        "web_url": None,
        "web_read_only": False,
        "web_metrics_token": None,
        "web_metrics_open": False,
        "web_hosts": (),
    }


def test_settings_are_taken_as_they_are_set() -> None:
    given: dict[str, Any] = {
        "database_url": URL,
        "direct_database_url": "postgresql+psycopg://direct/shop",
        "schema": "engine",
        "queue": "orders",
        "relay_batch": 1,
        "poll_interval": 0.05,
        "bundle": 4,
        "inline_steps": 7,
        "inline_seconds": 1.5,
        "worker_ttl": 60.0,
        "max_crashes": 1,
        "max_depth": 7,
        "max_payload_bytes": 1_000,
        "default_retry": RetryPolicy(max_attempts=9),
        "step_timeout": 90.0,
        "allowed_types": ("shop.orders:Order", "shop.models."),
        "log_format": "%(message)s",
        "retention": Retention(completed=1.0),
        "web_token": "opens what it should",
        "web_secret": "signs what it should",
        "web_url": "https://shop.example.com/durable",
        "web_read_only": True,
        "web_metrics_token": "reads what is measured",
        "web_metrics_open": True,
        "web_hosts": ("durable.example.com", "*"),
    }
    assert given.keys() == {field.name for field in dataclasses.fields(Settings)} - {"django_alias"}
    assert read_named(given) == Settings(**given)


def test_the_alias_is_taken_where_django_is_and_refused_elsewhere() -> None:
    conf = {"durable_django_alias": "runs"}
    assert read_settings(conf, {}, has_framework=True) == Settings("", django_alias="runs")
    with pytest.raises(ConfigurationError, match="INSTALLED_APPS"):
        read(database_url=URL, django_alias="runs")


def test_a_duration_may_be_a_timedelta() -> None:
    minute = timedelta(minutes=1)
    settings = read(database_url=URL, worker_ttl=minute, poll_interval=1, step_timeout=minute)
    assert (settings.worker_ttl, settings.poll_interval) == (60.0, 1.0)
    assert settings.step_timeout == 60.0


def test_none_is_as_good_as_not_set() -> None:
    assert read(database_url=URL, queue=None, max_crashes=None) == Settings(URL)


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings(URL).queue = "other"  # type: ignore[misc]


def test_without_a_database_url_the_error_names_both_ways_to_set_it() -> None:
    with pytest.raises(ConfigurationError) as told:
        read()
    for part in (
        "durable_database_url is not set",
        "DURABLE_DATABASE_URL",
        "postgresql+psycopg://",
    ):
        assert part in str(told.value)


def test_the_database_url_may_come_from_the_environment() -> None:
    assert read({"DURABLE_DATABASE_URL": URL}).database_url == URL


def test_what_the_app_sets_goes_before_the_environment() -> None:
    other = "postgresql+psycopg://elsewhere/shop"
    assert read({"DURABLE_DATABASE_URL": other}, database_url=URL).database_url == URL


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
@pytest.mark.parametrize("rest", ["user:p%40ss@host:5433/shop?sslmode=require", "/shop?host=/run"])
def test_a_postgres_url_is_read_with_psycopg_3_as_its_driver(scheme: str, rest: str) -> None:
    settings = read(database_url=f"{scheme}://{rest}", direct_database_url=f"{scheme}://{rest}")
    assert settings.database_url == f"postgresql+psycopg://{rest}"
    assert settings.direct_database_url == settings.database_url


SECRET = "hunter2"


@pytest.mark.parametrize("name", ["database_url", "direct_database_url"])
@pytest.mark.parametrize(
    "value",
    [
        {"ENGINE": "postgresql", "PASSWORD": SECRET},
        ["postgresql", SECRET],
        SECRET,
        f"{SECRET}@host/shop",
        f"mysql://shop:{SECRET}@host/shop",
    ],
)
def test_no_error_tells_a_password(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError) as told:
        read_named({"database_url": URL, name: value})
    assert SECRET not in str(told.value)
    assert f"durable_{name}" in str(told.value)


def test_settings_show_no_password() -> None:
    url = f"postgresql://shop:{SECRET}@host/shop"
    long = SECRET * 3
    settings = read(database_url=url, direct_database_url=url, web_token=long, web_secret=long)
    assert SECRET in settings.database_url
    assert SECRET not in repr(settings)


@pytest.mark.parametrize("schema", ["durable", 'It\'s 100% "mine"', "ö" * 31 + "x"])
def test_a_schema_may_be_called_as_postgres_allows(schema: str) -> None:
    assert read(database_url=URL, schema=schema).schema == schema


@pytest.mark.parametrize("schema", ["x" * 64, "ö" * 32, "pg_mine", "a\0b", "a\nb", "[a]"])
def test_a_schema_that_postgres_does_not_allow_is_refused(schema: str) -> None:
    with pytest.raises(ConfigurationError, match="durable_schema: no schema can be called"):
        read(database_url=URL, schema=schema)


@pytest.mark.parametrize("name", ["database_url", "direct_database_url"])
@pytest.mark.parametrize(
    ("url", "scheme"),
    [
        ("mysql://user:secret@host/shop", "mysql"),
        ("postgresql+psycopg2://user:secret@host/shop", "postgresql+psycopg2"),
        ("postgresql+asyncpg://user:secret@host/shop", "postgresql+asyncpg"),
        ("sqlite:///shop.db", "sqlite"),
        ("postgresql:shop", "postgresql"),
        ("user:secret@host/shop", "user"),
    ],
)
def test_another_database_or_driver_is_refused_by_its_scheme(
    name: str, url: str, scheme: str
) -> None:
    with pytest.raises(ConfigurationError) as told:
        read_named({"database_url": URL, name: url})
    message = str(told.value)
    assert message.startswith(f"durable_{name} must be a Postgres URL for psycopg 3")
    assert message.endswith(f"its scheme is {scheme!r}.")
    assert "secret" not in message


def test_a_wrong_url_in_the_environment_is_refused_too() -> None:
    with pytest.raises(ConfigurationError, match="its scheme is 'mysql'"):
        read({"DURABLE_DATABASE_URL": "mysql://host/shop"})


@pytest.mark.parametrize(
    ("unknown", "nearest"),
    [
        ("database_ur", " Did you mean 'durable_database_url'?"),
        ("max_crash", " Did you mean 'durable_max_crashes'?"),
        ("kaleidoscope", ""),
    ],
)
def test_an_unknown_setting_is_refused_with_the_nearest_name(unknown: str, nearest: str) -> None:
    told = re.escape(f"Unknown setting 'durable_{unknown}'.{nearest}")
    with pytest.raises(ConfigurationError, match=f"^{told}$"):
        read_named({"database_url": URL, unknown: 1})


class ProjectSettings:
    """Settings as Django has them: an object, in capitals, with much that is nobody's here."""

    TIME_ZONE = "UTC"
    DURABLE_QUEU = "another library's"
    CELERY_DURABLE_DATABASE_URL = URL


def app_with(namespace: str | None, **found: object) -> Celery:
    app = Celery("t", set_as_current=False)
    source = type("Source", (ProjectSettings if namespace == "CELERY" else object,), found)
    app.config_from_object(source, namespace=namespace)
    return app


SPELLED = [
    ("CELERY", "CELERY_DURABLE_QUEU", " Did you mean 'CELERY_DURABLE_QUEUE'?"),
    ("CELERY", "CELERY_durable_queue", " Did you mean 'CELERY_DURABLE_QUEUE'?"),
    ("CELERY", "durable_queu", " Did you mean 'durable_queue'?"),
    ("CELERY", "CELERY_DURABLE_KALEIDOSCOPE", ""),
    ("CELERY_", "CELERY_DURABLE_QUEU", " Did you mean 'CELERY_DURABLE_QUEUE'?"),
    ("APP", "APP_DURABLE_SCHEME", " Did you mean 'APP_DURABLE_SCHEMA'?"),
    ("celery", "celery_durable_queu", " Did you mean 'celery_durable_queue'?"),
    ("celery", "CELERY_DURABLE_QUEUE", " Did you mean 'celery_durable_queue'?"),
    (None, "durable_queu", " Did you mean 'durable_queue'?"),
    (None, "DURABLE_QUEUE", " Did you mean 'durable_queue'?"),
    (None, "CELERY_DURABLE_QUEUE", " Did you mean 'durable_queue'?"),
]


@pytest.mark.parametrize(("namespace", "unknown", "nearest"), SPELLED)
def test_a_setting_that_celery_would_not_find_is_refused_whatever_the_namespace(
    namespace: str | None, unknown: str, nearest: str
) -> None:
    durable = Durable(app_with(namespace, **{unknown: 1}))
    told = re.escape(f"Unknown setting {unknown!r}.{nearest}")
    with pytest.raises(ConfigurationError, match=f"^{told}$"):
        _ = durable.settings


@pytest.mark.parametrize(
    ("namespace", "found"),
    [
        ("CELERY", {"CELERY_DURABLE_QUEUE": "engine"}),
        ("CELERY", {"durable_queue": "engine"}),
        ("APP", {"APP_DURABLE_QUEUE": "engine", "APP_DURABLE_DATABASE_URL": URL}),
        (
            "APP",
            {"APP_DURABLE_DATABASE_URL": URL, "CELERY_DURABLE_QUEU": 1, "durable_queue": "engine"},
        ),
        ("celery", {"celery_durable_queue": "engine", "celery_durable_database_url": URL}),
        (None, {"DURABLE_QUEUE": "engine", "durable_queue": "engine", "durable_database_url": URL}),
    ],
)
def test_a_setting_is_found_as_celery_finds_it(
    namespace: str | None, found: dict[str, object]
) -> None:
    assert Durable(app_with(namespace, **found)).settings == Settings(URL, queue="engine")


STRING = "a string that is not empty"
SECONDS = "a number of seconds above 0"
COUNT = "a whole number above 0"
CLASSES = 'a list of "module:Class" and "package."'
POLICY = "a RetryPolicy, or a mapping of its arguments"
SECRET_TEXT = "a string of 16 characters or more"
WEB_ADDRESS = "an address such as https://shop.example.com/durable"
HOSTS = "a list of host names, without scheme and port"
AGES = "a mapping of finished statuses to durations, or None"

WRONG: dict[str, tuple[str, list[object]]] = {
    "database_url": (STRING, [7, b"postgresql://x/y", ["a"]]),
    "direct_database_url": (STRING, [7, True]),
    "schema": (STRING, [7, b"public"]),
    "django_alias": (STRING, [7, ""]),
    "queue": (STRING, [7, {"name": "durable"}]),
    "poll_interval": (SECONDS, [0, -1, "1", True, float("nan"), timedelta(0), [1]]),
    "inline_seconds": (SECONDS, [0, "10"]),
    "worker_ttl": (SECONDS, [0, "30"]),
    "relay_batch": (COUNT, [0, -1, 1.5, "200", True]),
    "bundle": (COUNT, [0, -1, "16", True]),
    "inline_steps": (COUNT, [0, 1.0]),
    "max_crashes": (COUNT, [0, "3"]),
    "max_depth": (COUNT, [0, True, 1.5]),
    "max_payload_bytes": (COUNT, [0, 1e6]),
    "default_retry": (POLICY, [3, "exponential", ("max_attempts", 3)]),
    "step_timeout": (SECONDS, [0, -1, "30", True, float("inf"), timedelta(0)]),
    "allowed_types": (CLASSES, ["shop.models.", ["shop"], [7], ["shop:"], [":Order"], ["."]]),
    "log_format": (STRING, [7, b"%(message)s"]),
    "retention": (AGES, [30, timedelta(days=30), "completed", ["completed"], False]),
    "web_token": (SECRET_TEXT, [7, "too short", b"opens what it should"]),
    "web_secret": (SECRET_TEXT, [7, "too short", True]),
    "web_url": (
        WEB_ADDRESS,
        [7, "shop.example.com", "https://", "ftp://a", "https://a?b", "https://a b"],
    ),
    "web_read_only": ("True or False", [1, "yes"]),
    "web_metrics_token": (SECRET_TEXT, [7, "too short", True]),
    "web_metrics_open": ("True or False", [1, "yes"]),
    "web_hosts": (HOSTS, ["example.com", ["http://example.com"], ["example.com:80"], [7]]),
}


def test_the_wrong_types_below_are_of_every_setting() -> None:
    assert WRONG.keys() == {field.name for field in dataclasses.fields(Settings)}


@pytest.mark.parametrize(
    ("name", "expected", "value"),
    [(name, expected, value) for name, (expected, values) in WRONG.items() for value in values],
)
def test_a_wrong_type_is_refused_with_name_and_value(
    name: str, expected: str, value: object
) -> None:
    # What was meant as a URL may hold a password.
    is_secret = name.endswith("_url") or expected == SECRET_TEXT
    shown = type(value).__name__ if is_secret else repr(value)
    told = re.escape(f"durable_{name} takes {expected}, not {shown}.")
    with pytest.raises(ConfigurationError, match=f"^{told}$"):
        read_named({"database_url": URL, name: value})


def test_the_default_retry_may_be_a_mapping_of_the_arguments_of_retry_policy() -> None:
    given = {"max_attempts": 9, "backoff": "fixed"}
    assert read(database_url=URL, default_retry=given).default_retry == RetryPolicy(9, "fixed")


def test_a_wrong_value_in_that_mapping_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match=re.escape("RetryPolicy(max_attempts=...)")):
        read(database_url=URL, default_retry={"max_attempts": 0})


def test_a_wrong_name_in_that_mapping_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigurationError, match=r"max_attempt.*Did you mean 'max_attempts'"):
        read(database_url=URL, default_retry={"max_attempt": 9})


def test_the_default_retry_can_be_read_without_a_database() -> None:
    assert default_retry({}) is STEP_RETRY
    assert default_retry({"durable_default_retry": {"max_attempts": 9}}).max_attempts == 9
    with pytest.raises(ConfigurationError, match="durable_default_retry takes"):
        default_retry({"durable_default_retry": 3})


def test_the_step_timeout_can_be_read_without_a_database() -> None:
    assert step_timeout({}) is step_timeout({"durable_step_timeout": None}) is None
    assert step_timeout({"durable_step_timeout": timedelta(minutes=1)}) == 60.0
    with pytest.raises(ConfigurationError, match="durable_step_timeout takes"):
        step_timeout({"durable_step_timeout": 0})


@pytest.mark.parametrize(
    ("chosen", "why"),
    [
        ("message", "no line can be formatted"),
        ("{message}", "no line can be formatted"),
        ("%(durable_attempt)d %(message)s", "no line can be formatted"),
        ("%(durable_rnu)s %(message)s", "'durable_rnu'. Did you mean 'durable_run'?"),
    ],
)
def test_a_log_format_that_would_spoil_every_line_is_refused(chosen: str, why: str) -> None:
    for reading in (
        lambda: read(database_url=URL, log_format=chosen),
        lambda: log_format({"durable_log_format": chosen}),
    ):
        with pytest.raises(ConfigurationError, match=re.escape(why)):
            reading()


def test_a_log_format_may_have_fields_of_the_users_own_filters() -> None:
    chosen = "%(asctime)s %(tenant)s %(task_name)s %(process)d %(durable_run)s %(message)s"
    assert log_format({"durable_log_format": chosen}) == chosen
    assert log_format({}) is None


def test_a_partial_mapping_overrides_only_the_statuses_that_it_names() -> None:
    given = {"completed": timedelta(days=7), "failed": None}
    kept = read(database_url=URL, retention=given).retention
    assert kept == Retention(7 * DAY, None, 90 * DAY)
    assert {*kept.ages} == {"completed", "cancelled"}


@pytest.mark.parametrize("prefix", ["durable", "CELERY_DURABLE"])
def test_retention_none_keeps_everything_and_is_not_the_same_as_not_set(prefix: str) -> None:
    def kept(**found: object) -> Retention:
        in_its_case = str.upper if prefix.isupper() else str.lower
        spelled = {f"{prefix}_{in_its_case(name)}": value for name, value in found.items()}
        app = app_with("CELERY" if prefix.isupper() else None, **spelled)
        return Durable(app).settings.retention

    assert kept(database_url=URL) == Retention()
    assert kept(database_url=URL, retention=None) == FOR_EVER
    assert not FOR_EVER.ages


@pytest.mark.parametrize(
    ("status", "nearest"),
    [
        ("complete", " Did you mean 'completed'?"),
        ("canceled", " Did you mean 'cancelled'?"),
        ("running", ""),
        (7, ""),
    ],
)
def test_retention_of_an_unknown_status_is_refused_with_the_nearest_one(
    status: object, nearest: str
) -> None:
    told = re.escape(
        f"durable_retention: no run ends as {status!r}; it takes completed, failed, cancelled."
        f"{nearest}"
    )
    with pytest.raises(ConfigurationError, match=f"^{told}$"):
        read(database_url=URL, retention={status: 30.0})


@pytest.mark.parametrize("age", [0, -1, "30d", True, timedelta(0), float("nan")])
def test_a_retention_that_is_no_duration_is_refused_by_its_status(age: object) -> None:
    with pytest.raises(ConfigurationError, match="durable_retention: 'failed' takes a number of"):
        read(database_url=URL, retention={"failed": age})
