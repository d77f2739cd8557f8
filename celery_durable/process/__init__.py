"""What belongs to one process, whatever runs in it.

Rules of this room: nothing here knows Postgres, Celery or runs. What is made here is made anew in a
forked child.

    interrupts  where a pool's time limit strikes
    once        a value that an object makes once
    outage      what is said of a service that is away: one line at each end
    sockets     waiting for something to read
    threads     blocking calls for `async` callers
"""
