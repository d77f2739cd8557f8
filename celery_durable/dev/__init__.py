"""`celery -A <app> durable dev`: everything on a laptop, kept running by one command.

Rules of this room: what runs the user's code are the parts, processes of their own; the command
that was typed keeps them running and shows what they say. Nothing outlives it, however it ends. It
replaces no broker and no database that answers, and says what it puts in the place of another.

    session     one `durable dev`: what it starts first, what runs meanwhile, what it says
    home        the folder `.durable`: the lock, the embedded Postgres, the page's token
    addresses   what the app has of its own: a database, a broker; a free port
    postgres    the embedded Postgres
    parts       the commands of the parts, and what is handed on to them
    inside      what happens in the process of a part
    calm        what the parts log
    supervisor  keeps parts running, starts them anew, ends them
    process     one process with all that it starts
    watching    which files have changed
    lines       shows what the parts say
"""
