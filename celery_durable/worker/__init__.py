"""Celery lives here: tasks, boot steps, signals, publishing.

Rules of this room: it translates between Celery and the engine, and decides nothing. A task body
hands an id to the engine; a boot step owns a relay; a signal tells the liveness what happens to the
process.

    install     joining an app: tasks, boot steps, routes, signals, command-line options
    tasks       durable.advance, durable.compensate, durable.recover, durable.start
    bootsteps   the relay inside a worker, and the checks before it starts
    queues      what a worker consumes, and what workflows need
    configuration  what the app's settings are to us: taken, refused, warned of
    loggers     loggers that a logging configuration has silenced
    lifecycle   what happens to the process
    publisher   outbox rows -> kombu
    process     what this process is to Celery
"""

from celery_durable.worker.install import install, refuse_eager
from celery_durable.worker.process import TIMEOUTS, is_exit, surroundings
from celery_durable.worker.publisher import KombuPublisher

__all__ = ["TIMEOUTS", "KombuPublisher", "install", "is_exit", "refuse_eager", "surroundings"]
