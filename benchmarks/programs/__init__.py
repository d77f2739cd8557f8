"""The programs that are measured, each a process of its own, in the environment it needs.

A client speaks `wire`: the benchmark asks it to `prepare` an empty database, to do something that
is measured, and to `check` afterwards that all of it is there. A worker prints `wire.READY`. What
is said to both is in the environment (`wire`). A peer's program sees no other library than the
peer's, so this package and `benchmarks` import nothing.

    wire                            what a program is told, and how it answers
    durable_app, durable_client     celery_durable
    celery_app, celery_client       plain Celery: chains, chords, apply_async
    dbos_app, dbos_worker, dbos_client, absurd_worker, absurd_client    the peers
    floor_client                    bare psycopg loops
"""
