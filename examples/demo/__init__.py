"""Orders, a broker that forgets, and a worker that is killed: `python -m examples.demo`.

app        the shop: a Celery app with one durable workflow. Start reading here
orders     which orders are placed, and how an order may legally end
ledger     the books of the shop's suppliers: every call of a handler, append-only
verdict    reads the ledger and says what is missing or doubled
services   Postgres, the broker and the folder of one demo
broker     looking into the broker, and emptying it
workers    the worker processes
story      what happens, in which order
show       what the user sees
"""
