"""Authoring: what users write, and running it.

Rules of this room: no SQL and no Celery. A workflow is a `Plan` (pure data) and the callables that
belong to its nodes; `execute` is the only place that calls them, and turns whatever happens into an
event.

    step       decorated functions and their options
    arguments  what is checked of more than one kind of node
    nodes      a node as it was written, and its callables
    kinds      one function for each kind of node
    builder    the chain of nodes
    registry   the workflows a process knows
    context    what a handler is given
    execute    a claim -> an event
"""
