"""A model of the protocol of bundles: all its schedules, without Postgres and without the engine.

It says what the engine has to do where a message names several tokens, and walks what two workers,
their guards, the relay, a reaper, a cancel and all that goes wrong may do to two or three tokens. A
state is a value; a statement takes its snapshot, locks row by row and commits, each a move of its
own. So it finds what a test on real tables meets by luck: deadlocks, and what is lost in between.

    rules       the rules of the protocol, each of which can be switched off
    scenario    what a small world is made of
    scenarios   the worlds that are walked
    state       tables, locks, messages, workers, statements
    statements  what each statement locks, on which conditions, and what it writes
    answers     what a worker makes of a statement's answer
    executor    the thread that claims, executes and commits
    guard       the thread that writes and gives back while a handler is executed
    background  relay, reaper, recovery, cancel; and what goes wrong
    moves       all that may happen in a state
    laws        what holds in every state, by promise
    symmetry    states that differ in names only
    walk        the search, breadth first: the schedule that a violation prints is a shortest one

`test_bundles` walks every scenario, and misses each rule in one. These rules are each as good as
another of them, and only both together are missed: names of the fence and of the worker in a
set-wise commit; the unit in it and the journal's primary key; skipping locked rows and locking them
in the order of ids, or a parent after its branches. Skipping is what keeps a bundle from waiting.

What it leaves out: time limits, values, retries, compensation, children. A wait for a lock has no
end, so a deadlock is a violation, where Postgres would end one of the statements.
"""
