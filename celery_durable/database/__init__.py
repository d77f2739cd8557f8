"""Connections to Postgres, and the schema they find there.

Rules of this room: connections are opened, pooled, given and closed here and nowhere else, and
nothing here knows what runs are. An outage becomes `DatabaseUnavailable`.

    address      where Postgres is
    opening      opens a connection, and sets what our statements rely on
    connections  the process's own pool, and what a transaction is bounded by
    notify       wakes the relays, and listens
    schema       migrates the tables, and checks that they are of this release
    rights       what the role may do, and what it lacks
    migrations   Alembic's
"""
