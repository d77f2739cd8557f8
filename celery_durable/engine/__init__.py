"""The engine: what a worker does with one message.

Rules of this room: `loop` reads like a slide, and calls the others; none of them calls it. What is
decided is decided in `core`; what is written is written by one statement of `store`; what is asked
of Postgres is asked again while Postgres is away (`retrying`). No Celery.

    loop           claim, admit, execute, commit: unit after unit
    bundle         executes units of several tokens in turn, and commits them together
    guard          looks after the bundles of a process meanwhile
    suspects       units that may kill their process take turns, with nothing else at risk
    slow_units     which units take long
    announce       sends the signals of what was committed
    counting       counts what was executed and committed
    report         what one message has done, as a line of text
    attempt        a message, and an attempt at one unit
    claims         a claim is taken, released, abandoned
    commit         an event is decided on, and the decision written
    routes         where the message of a token goes after a commit
    failure_log    logs what has failed
    transactional  a step's own SQL and the commit in one transaction
    waits          checks whether what a token waits for is there
    children       makes runs ready to start, children too
    again          makes the run that goes on with the work of another
    keys           a run starts under a key that another run may have
    compatibility  which claims the definitions of this process can go on with
    review         compares the definitions with all unfinished runs
    links          makes signed links for the next answer of a signal
    run_history    what a handler reads of its run
    retrying       asks Postgres again until it answers
    ids            ids of runs
"""
