"""Celery lives here: tasks, boot steps, signals, publishing.

Rules of this room: it translates between Celery and the engine, and decides nothing. A task body
passes an id to the engine; a boot step owns a relay; a signal handler updates the lease.

    host           the app's `Durable` as a worker uses it: a client with an engine and a lease
    install        joins an app: tasks, boot steps, routes, signals, command-line options
    in_caller      the hook for runs that are executed in their callers
    tasks          durable.advance, durable.compensate, durable.recover, durable.prune,
                   durable.start
    bootsteps      the relay inside a worker, and the checks before it starts
    queues         the queues that a worker consumes, and those that workflows need
    configuration  checks the app's Celery settings: takes, refuses, or warns
    limits         keeps time limits of the app from our messages
    loggers        our loggers, which unit logged a line, and the format of a worker's log
    lifecycle      the signals by which Celery reports that a process starts or ends
    process        the worker that this process belongs to; what Celery raises to end it
    request        a message of ours in the main process
    examination    looks at what `durable doctor` judges
    remote         `celery inspect durable`, and pausing by remote control
    reconnect      two fixes for workers whose broker was away
    publisher      outbox rows -> kombu
    brokers        the connection through which a relay publishes
    confirms       RabbitMQ's answers to what was published
"""
