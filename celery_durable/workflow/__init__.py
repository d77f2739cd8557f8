"""Authoring: what users write, and running it.

Rules of this room: no SQL and no Celery. A workflow is a `Plan` (pure data) and the callables that
belong to its nodes; `execute` is the only place that calls them, and turns whatever happens into an
event.

    step          decorated functions and their options
    arguments     what is checked of more than one kind of node
    definition    a node as it was written, and its callables
    node_kinds    one function for each kind of node
    builder       the chain of nodes
    registry      the workflows a process knows
    twins         two definitions of one workflow: the same, or a mistake

    context       what a handler is given
    execute       a claim -> an event
    node_results  what the functions of nodes return -> events
    suspend       a result that waits for an answer
    failures      exceptions -> failures, as they are recorded
    loops         coroutines, run to their end
    forks         processes that a step has forked
"""
