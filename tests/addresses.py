"""Where services are. The workers that tests start import this, so it must be light."""

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import make_url


def conninfo(url: str) -> str:
    """The libpq form (``host=... dbname=...``) of a SQLAlchemy URL."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return make_conninfo("", **conninfo_to_dict(plain))
