"""`celery -A app durable ...`: what an operator sees of runs, and does to them.

Rules of this room: a command reads its arguments, calls `Durable`, and renders; it decides nothing
about runs. Every command writes in three forms: tables and colours on a terminal, aligned text when
piped, JSON. Celery loads this file at each of its starts, so it and `group` import nothing heavy;
the module of a command is imported when it is called.

    group          the commands by name; errors become one line and an exit code
    exit_codes     the exit codes
    application    from Celery's context to a Durable, and from arguments to a run
    output         the three forms
    document       JSON
    formatting     times and texts in words
    json_argument  JSON as an argument
    run_view       reads what is drawn of a run
    steps          how each node of a run stands
    node_notes     what is said of a node beside its state
    drawing        a run as `show` draws it
    follow         a run as it moves
    start, listing, show, history, graph, resume, cancel, check, recover, relay, migrate
                   the commands
"""

from celery_durable.cli.group import durable

__all__ = ["durable"]
