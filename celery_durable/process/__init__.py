"""Tools of one process: time limits, threads, sockets, values made once, outages.

Rules of this room: nothing here knows Postgres, Celery or runs. A forked child makes locks and
threads anew.

    interrupts  lets a pool's time limit interrupt handlers only
    once        an attribute that an object makes once
    outage      logs one line at each end of an outage, and lets pauses grow
    tally       counts, until somebody writes them down
    output      gives up an output that nobody reads any more
    sockets     waits until a socket is readable
    threads     runs blocking calls for `async` callers
"""
