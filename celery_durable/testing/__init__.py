"""Tools for users' tests, this library's own tests and the demo.

Nothing here is needed to run workflows, and nothing outside this package, `tests` and `examples`
imports it. A module may need an extra (`pip install "celery-durable[demo]"`); each says so in a
`ConfigurationError` when it is used, not when it is imported.

    embedded  a Postgres server that tests start and stop
    binaries  finds and copies the programs of that server
"""
