"""Authoring: what users define, and executing it.

Rules of this room: no SQL and no Celery. A workflow is a `Plan` (pure data) and the callables of
its nodes. `execute` is the only place that calls them, and makes an event of whatever happens.

    step          functions with options, and their compensators
    arguments     checks arguments that several kinds of nodes take
    definition    a node as users define it, with its callables
    node_kinds    makes the definition of a node, one function for each kind
    builder       `Workflow`: appends nodes, and makes the plan
    registry      the workflows that a process has imported
    twins         compares two definitions of one workflow, and refuses them if they differ

    context       the argument of every handler
    execute       a claim -> an event
    node_results  what a node's own function returns -> an event
    suspend       the result by which a step waits for an answer
    failures      an exception -> an event, and the record of an error
    loops         runs coroutines to their end
    forks         ends the processes that user code forks
"""
