"""Background duties: publishing, recovering, staying alive, cancelling.

Rules of this room: a duty looks at levels, never at edges, and may run anywhere, any number at
once. It survives every error: it logs one line at each end of an outage, and tries again. No users'
code, no Celery.

    relay         moves due outbox rows into the broker
    presence      says that a relay is there
    backlog       decides which rows a relay takes next
    bundling      puts the hints of several tokens into one message
    backpressure  pauses queues that take no more for now
    recovery      reaps claims of dead workers, puts new hints for lost ones
    deadlines     ends runs whose time is up
    counting      writes down what a process has counted
    liveness      keeps a worker's lease: registers, renews, audits
    pruning       deletes runs that ended long ago
    retention     does so by `durable_retention`, one relay at a time
    cancelling    applies a cancel to a run and all runs below it
"""
