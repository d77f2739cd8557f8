"""Celery lives here: tasks, boot steps, signals, publishing.

Rules of this room: it translates between Celery and the engine, and decides nothing. A task body
hands an id to the engine; a boot step owns a relay; a signal tells the liveness what happens to the
process.

    host           what a worker needs of the app's `Durable`
    install        joins an app: tasks, boot steps, routes, signals, command-line options
    tasks          durable.advance, durable.compensate, durable.recover, durable.start
    bootsteps      the relay inside a worker, and the checks before it starts
    queues         what a worker consumes, and what workflows need
    configuration  what the app's settings are to us: taken, refused, warned of
    limits         time limits of the app, which do not hold for our messages
    loggers        loggers that a logging configuration has silenced
    lifecycle      what happens to the process
    process        what this process is to Celery
    request        how the main process holds a message of ours
    reconnect      finds a broker again that was away
    publisher      outbox rows -> kombu
    brokers        the connection through which a relay publishes
    confirms       what RabbitMQ says of what was published
"""
