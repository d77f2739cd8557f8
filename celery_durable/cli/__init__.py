"""`celery -A app durable ...`: commands for operators, to look at runs and to act on them.

Rules of this room: a command reads its arguments, calls `Durable`, and renders; it decides nothing
about runs. Every command writes in three forms: tables and colours on a terminal, aligned text when
piped, JSON. Celery loads this file at each of its starts, so it and `group` import nothing heavy;
the module of a command is imported when it is called.

    group          the commands by name; turns errors into one line and an exit code
    exit_codes     the exit codes
    application    finds the Durable of Celery's context, and the run that arguments name
    output         the three forms
    json_argument  JSON as an argument
    filters        the options that say which runs a command is about
    duration       a duration as an argument
    node_notes     notes on a node: its attempt, waits, counts, progress and error
    drawing        a run as `show` draws it
    follow         shows a run until it ends
    standstill     says why a run that somebody waits for does not move
    start, listing, show, why, history, graph, resume, cancel, retry, skip, pause, bulk, check,
    recover, workers, queues, doctor, metrics, prune, relay, web, migrate, dev
                   the commands; `retry` has all that try something again
"""

from celery_durable.cli.group import durable

__all__ = ["durable"]
