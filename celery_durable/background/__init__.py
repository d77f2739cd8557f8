"""What goes on beside the messages: publishing, recovering, staying alive, cancelling.

Rules of this room: a duty here looks at levels, never at edges, and may run anywhere, any number at
once. It survives everything but its own end: whatever it meets, it says so once and tries again.
No users' code, no Celery.

    relay         moves due outbox rows into the broker
    backlog       which rows a relay takes next
    backpressure  queues that take no more for now
    recovery      reaps what dead workers had claimed, sends lost hints again
    liveness      a worker's lease: registered, renewed, audited
    cancelling    applies a cancel to a run and all below it
"""
