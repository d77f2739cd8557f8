"""Postgres: the only room that imports SQLAlchemy and psycopg freely.

Rules of this room: a function takes a `Connection` first, executes one statement (its SQL stands
above it as a `Statement`), and never commits. Whoever calls decides what a transaction is; a
connection of `Database.autocommit()` commits each statement by itself. All times are the
database's.

    connection   statements that run through whatever connection they are handed
    address      where Postgres is
    opening      a new connection, and the settings that it relies on
    database     the process's own connections
    patience     asking Postgres again until it answers
    tables       the schema, as SQLAlchemy tables
    schema       migrating it, and checking that it is current
    rights       what the role may do, and what it lacks
    codec        values <-> JSON text
    rows         rows -> values of the core
    tokens       claiming a token: a hot statement
    commits      what became of a unit: the hot statement
    shapes       which parts a commit has, and its parameters
    gates        what a fork, and a branch that leaves, add to a commit
    journal      reading what has been recorded
    results      results, put together from the journal
    past         what a context reads of its run
    pulse        what a unit says of itself while it executes
    outbox       messages to publish
    notify       waking the relays
    inbox        commands that wait to be applied
    signals      signals that wait to be consumed
    workers      who is alive
    deaths       who has died
    orphans      freeing what the dead had claimed
    runs         starting runs
    definitions  stored plans
    stalled      finding tokens whose hints got lost
    places       where a run stands, counted
    views        what users see of runs
    overview     a run as it is drawn, its items counted
"""
