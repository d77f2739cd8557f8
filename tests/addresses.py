"""Where services and the project are.

The workers that tests start import this, so it must be light.
"""

from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import make_url

ROOT = Path(__file__).resolve().parents[1]
"""The folder of the project."""


def conninfo(url: str) -> str:
    """The libpq form (``host=... dbname=...``) of a SQLAlchemy URL."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return make_conninfo("", **conninfo_to_dict(plain))
