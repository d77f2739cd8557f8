"""The project of examples/django_shop: where its database is, and workers of it."""

from __future__ import annotations

from typing import Any

from celery import Celery
from psycopg.conninfo import conninfo_to_dict

from celery_durable import Durable
from tests.addresses import ROOT, conninfo
from tests.integration.driving import Define, World

SHOP = ROOT / "examples" / "django_shop"

ALIASES = {"dbname": "NAME", "host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD"}


def database_of(url: str) -> dict[str, Any]:
    """The entry of Django's DATABASES that an SQLAlchemy URL stands for."""
    found = conninfo_to_dict(conninfo(url))
    return {"HOST": "", "PORT": "", **{ALIASES[name]: str(one) for name, one in found.items()}}


def at_home(**settings: Any) -> Durable:
    """A Durable on an app of its own, without a URL; `settings` without their prefix."""
    app = Celery("t", broker="memory://", set_as_current=False)
    app.conf.update({f"durable_{name}": value for name, value in settings.items()})
    return Durable(app)


class DjangoWorld(World):
    """Django's database. Its workers have no URL of their own, so they are at home in Django."""

    def worker(self, define: Define | None = None, **settings: Any) -> Durable:
        """A worker, or a client, that finds its database in DATABASES."""
        durable = at_home(**settings)
        if define is not None:
            define(durable)
        self._workers.append(durable)
        return durable

    def close(self) -> None:
        """End every worker in good order, and empty all tables."""
        self.end_workers()
        tables = self.rows(
            "SELECT string_agg(c.oid::regclass::text, ', ') AS names FROM pg_class c"
            " WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
            " AND (relname LIKE 'orders%%' OR relname LIKE 'durable_%%')"
            " AND relname <> 'durable_alembic_version'"
        )
        self.rows(f"TRUNCATE {tables[0]['names']}")
        self._connection.close()


def variables_of(url: str) -> dict[str, str]:
    """The environment in which the shop finds its database."""
    found = database_of(url)
    names = {"PGHOST": "HOST", "PGPORT": "PORT", "PGUSER": "USER", "PGPASSWORD": "PASSWORD"}
    variables = {name: found[part] for name, part in names.items() if found.get(part)}
    return {**variables, "SHOP_DATABASE": found["NAME"]}
