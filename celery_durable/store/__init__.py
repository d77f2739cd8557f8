"""Postgres: one statement per function, on the connection that the caller passes.

Rules of this room: a function takes a `Connection` first, executes one statement (its SQL stands
above it as a `Statement`), and never commits. The caller decides what a transaction is; a
connection of `Database.autocommit()` commits each statement by itself. All times are the
database's. `tests/integration/golden` shows the hot statements as Postgres gets them.

    connection    executes statements through a psycopg or an SQLAlchemy connection
    sqlstates     errors of Postgres -> errors of this library
    tables        the schema, as SQLAlchemy tables
    sql           parameters and expressions that many statements share
    rows          rows <-> values of the core
    codec         values <-> JSON text

    tokens        claims and releases a token: hot statements
    commit        writes the decision on a unit: the hot statement
    bundle        the same for several tokens in one statement
    runs          starts runs
    reopening     reopens runs that have ended, to compensate
    journal       reads what has been recorded
    inbox         commands that wait to be applied
    deadlines     ends runs whose time is up
    signals       signals that wait to be consumed
    pauses        what is paused
    actions       notes what people do
    steering      what operators do to a unit: try it now, record it by hand
    inheriting    a run goes on with what another has completed
    cancelling    applies a cancel to a tree of runs
    heartbeat     writes a unit's progress, reads its flags

    outbox        puts ordinary tasks; parts of statements that put hints
    due           takes due messages, for a relay
    origin        the schema and database a hint comes from
    relays        that relays are there
    workers       the rows and the locks of workers
    dead_workers  tells dead workers, and marks them as ended
    reaping       takes claims away from dead workers
    watching      reads both at once, for a reaper
    lost_hints    finds tokens whose hints were lost
    scan_lease    the lease that relays share for that
    pruning       deletes runs
    definitions   stored plans
    counts        the sums of what processes have counted

    read          what users see of runs
"""
