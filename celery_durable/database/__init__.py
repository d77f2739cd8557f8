"""Connections to Postgres, and the schema.

Rules of this room: connections are opened, pooled, lent and closed here and nowhere else. Nothing
here knows what runs are. An outage becomes `DatabaseUnavailable`.

    address      reads a database setting: URL -> parameters of libpq
    opening      opens a connection, and sets what our statements rely on
    pool         keeps idle connections, the last used first
    connections  lends connections, transactions and sessions, and bounds them
    joining      finds the transaction that a call without `session=` joins
    framework    what a framework that owns the database does in place of the library
    notify       wakes the relays, tells of runs that ended, and waits for notifications
    ends         wakes whoever waits for the end of a run
    schema       migrates the tables, and checks that they are of this release
    self_test    tests what the server is, and whether its locks hold
    rights       checks that the role may do what our statements do
    migrations   Alembic's
"""
