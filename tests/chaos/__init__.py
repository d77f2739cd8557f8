"""The chaos run: mixed workflows, faults drawn from a seed, and a ledger held against both.

app        the workflows under test; their handlers write into the ledger
ledger     what handlers did, written to files: the engine does not know it
field      the servers and processes, and what can be done to them
faults     the kinds of faults, and the schedule that a seed draws
load       starts runs, sends their signals, cancels some
accounts   what the database says of runs in the end
verdict    holds runs, ledger and faults against each other
report     tables and progress

`python -m tests.chaos --help`. The same seed draws the same schedule and the same runs; which run a
fault meets is up to the machine.
"""
