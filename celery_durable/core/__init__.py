"""The pure core: what a run is, and how it changes.

Rules of this room: no clock, no randomness, no I/O, no logging, no SQLAlchemy, no Celery. Time and
chance come in as arguments, no value is changed, `admit` is the only place where it is decided
whether a unit is executed, and `decide` the only place where a run changes.
`tests/unit/test_core_is_pure.py` holds the room to it.

    values         classes of values that are quickly made
    generics       type variables of contexts, steps, workflows and runs
    names          what a workflow, node or branch may be called; the grammar of units
    keys           what becomes of a start whose key another run has
    status         the statuses of a run and the legal changes between them
    retention      how long runs are kept after their end
    retry          when and how long after a failure to try again
    failure        a failure as it is recorded
    message        an ordinary task that the outbox sends
    nodes          the kinds of nodes, each a class that answers for itself
    plan           a workflow without its callables
    token          where a run stands
    child          child runs that start, or are undone
    pause          what an operator has paused
    action         what people have done
    claim          what a worker holds while it executes a unit
    event          what happened to a token
    decision       what becomes of the token
    units          what a plan says of a unit, and the way from one to the next
    progress       how a unit ends
    waits          forking, choosing, waiting
    rollback       cancelling and compensating
    admit          claim, facts -> executed, checked, concluded, or released
    decide         plan, token, event -> decision
    compatibility  whether a plan fits where a run stands
    diagram        stored plans as pictures
    reason         reasons why a run stands, as users see them
    situation      the facts that they are made of
    remedy         what moves a run on, as it is typed
    why            facts -> reasons
    fleet          workers and queues, as people are shown them
    metrics        the names of what is measured
    finding        what `doctor` finds, and the facts that it judges
    doctor         judges these facts
    surroundings   its checks of settings, broker and server
    population     its checks of relays, workers, queues and runs
"""
