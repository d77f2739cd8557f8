"""The views for users' own queries, laid out as the newest migration that creates them has them.

`python -m tests.integration.golden.views` prints them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sqlalchemy.dialects import postgresql
from sqlglot import exp, parse_one

from celery_durable.database.migrations import versions
from celery_durable.store.connection import SCHEMA
from celery_durable.store.read.exposed import VIEWS
from tests.integration.golden.formatting import WIDTH, Readable

CREATED_BY = Path(*versions.__path__) / "0002" / "7_views.sql"


def declared() -> str:
    """The statements that create the views, with `{schema}` for the schema."""
    return "\n".join(
        f"CREATE VIEW {{schema}}.{name} AS\n{_laid_out(view)};\n" for name, view in VIEWS.items()
    )


def _laid_out(view: Any) -> str:
    compiled = view.compile(
        dialect=postgresql.dialect(),
        compile_kwargs={"literal_binds": True},
    )
    tree = parse_one(str(compiled).replace("%%", "%"), read=Readable)
    for column in tree.find_all(exp.Column):
        column.set("db", None)
    written = tree.sql(Readable, pretty=True, normalize_functions="lower", max_text_width=WIDTH)
    text = "\n".join(line.rstrip() for line in written.splitlines())
    return text.replace(f"{SCHEMA}.durable_", "{schema}.durable_")


if __name__ == "__main__":
    sys.stdout.write(declared())
