"""Authoring: what users define, and executing it.

Rules of this room: no SQL and no Celery. A workflow is a `Plan` (pure data) and the callables of
its nodes. `execute` is the only place that calls them, and makes an event of whatever happens.

    step          functions with options, and their compensators
    options       how a step is executed, and checks of what users say of it
    arguments     checks arguments that several kinds of nodes take
    definition    a node as users define it, with its callables
    node_kinds    makes the definition of a node, one function for each kind
    builder       `Workflow`: appends nodes, and makes the plan
    schemas       models of inputs and signals: checks values, and describes them
    filling       fills dataclasses from plain values
    scalars       checks values without parts, and reads them from text
    hints         the types of a dataclass's fields
    inputs        checks inputs and signals against the models of a workflow
    starting      what a workflow starts its runs with
    registry      the workflows that a process has imported
    hooks         the tasks that are sent at the end of a run
    twins         compares two definitions of one workflow, and refuses them if they differ

    context       the argument of every handler
    callbacks     what a signed link says that answers a wait, and its signature
    sending       the tasks that a handler sends with its unit
    around        context managers around units
    execute       a claim -> an event
    node_results  what a node's own function returns -> an event
    suspend       the result by which a step waits for an answer
    logs          tells log records which unit logged them
    observing     those who watch: tracing, the reporting of errors
    failures      an exception -> an event, and the record of an error
    loops         runs coroutines to their end
    forks         ends the processes that user code forks
"""
