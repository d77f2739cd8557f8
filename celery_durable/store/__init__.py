"""Postgres: one statement per function, on the connection it is given.

Rules of this room: a function takes a `Connection` first, executes one statement (its SQL stands
above it as a `Statement`), and never commits. Whoever calls decides what a transaction is; a
connection of `Database.autocommit()` commits each statement by itself. All times are the
database's.

    connection    executes statements through whatever connection it is handed
    tables        the schema, as SQLAlchemy tables
    sql           parameters and expressions that many statements share
    rows          rows -> values of the core
    codec         values <-> JSON text

    tokens        claims a token: a hot statement
    commit        writes what became of a unit: the hot statement
    runs          starts runs
    journal       reads what has been recorded
    inbox         commands that wait to be applied
    signals       signals that wait to be consumed
    cancelling    applies a cancel to a tree of runs
    heartbeat     what a unit says of itself while it executes

    outbox        messages to publish
    due           messages that are due, for a relay
    origin        where a hint comes from
    workers       who is alive
    dead_workers  who has died
    reaping       reaps what the dead had claimed
    lost_hints    finds tokens whose hints were lost
    definitions   stored plans

    read          what users see of runs
"""
