"""What may be said of where Postgres is, and what is made of it."""

from typing import Any

import pytest

from celery_durable.database.address import parameters_of
from celery_durable.errors import ConfigurationError

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        (
            "postgresql+psycopg://u:p%40ss@h:5433/shop",
            {"user": "u", "password": "p@ss", "host": "h", "port": 5433, "dbname": "shop"},
        ),
        (
            "postgresql+psycopg://u@/shop?host=/run/postgresql&sslmode=require",
            {"user": "u", "dbname": "shop", "host": "/run/postgresql", "sslmode": "require"},
        ),
        (
            "postgresql://u:p%40ss@a:5432,b:5433/shop?target_session_attrs=read-write",
            {
                "user": "u",
                "password": "p@ss",
                "host": "a,b",
                "port": "5432,5433",
                "dbname": "shop",
                "target_session_attrs": "read-write",
            },
        ),
        (
            "postgresql+psycopg://u@/shop?host=a:5432&host=b:5433",
            {"user": "u", "dbname": "shop", "host": "a,b", "port": "5432,5433"},
        ),
        ("postgresql://a,b/shop", {"host": "a,b", "port": ",", "dbname": "shop"}),
        ("postgresql://[::1]:5433/shop", {"host": "::1", "port": 5433, "dbname": "shop"}),
        ("postgresql:///?service=shop", {"service": "shop"}),
        (
            "postgresql://h/shop?options=-c%20geqo%3Doff&passfile=/x",
            {"host": "h", "dbname": "shop", "options": "-c geqo=off", "passfile": "/x"},
        ),
        (
            "host=h port=5433 dbname=shop user=u password='p w'",
            {"host": "h", "port": "5433", "dbname": "shop", "user": "u", "password": "p w"},
        ),
    ],
)
def test_where_postgres_is_may_be_said_as_libpq_and_sqlalchemy_do(
    text: str, parameters: dict[str, Any]
) -> None:
    found = parameters_of("durable_database_url", text)
    assert {name: value for name, value in found.items() if value} == parameters


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"postgresql://u:{SECRET}@h/shop?pool_size=5", "'pool_size', an option of SQLAlchemy's"),
        (f"postgresql://u:{SECRET}@a:1,b:2/shop?pool_size=5", "'pool_size', an option"),
        (f"postgresql://u:{SECRET}@h/shop?sslmod=require", "Did you mean 'sslmode'?"),
        (f"postgresql://u:{SECRET}@h/shop?kaleidoscope=1", "no parameter of a Postgres connection"),
        (f"postgresql://u:{SECRET}@h:port/shop", "cannot be read. Write postgresql"),
        (f"postgresql://u:{SECRET}@[h/shop", "cannot be read. Write postgresql"),
        (f"host=h {SECRET}", "cannot be read. Write postgresql"),
        (f"host=h pasword={SECRET}", "cannot be read. Write postgresql"),
    ],
)
def test_what_cannot_be_read_is_refused_without_its_password(text: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parameters_of("durable_database_url", text)
    assert str(refused.value).startswith("durable_database_url ")
    assert told in str(refused.value)
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None
