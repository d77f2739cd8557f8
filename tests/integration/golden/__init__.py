"""Golden SQL: the hot statements as Postgres gets them, formatted for a reader.

A `<name>.sql` file holds one statement. Parameters are written `:name`, as psql writes variables;
the name of the schema is left out; in an INSERT each value is called by the column it goes into.

work        executes each statement by real work on a real database, and records it
formatting  lays a statement out

`python -m tests.integration.golden` rewrites the files.
"""
