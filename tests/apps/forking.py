"""The shop, in a process that talks to the database before it forks its children."""

from tests.apps.shop import app, durable

__all__ = ["app"]

for _ in range(3):
    durable.start("order", {}, version=1, tags={"started": "at import"})
