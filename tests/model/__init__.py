"""All schedules of small runs, and random ones of larger runs.

`test_decide` explores `decide` alone. The rest runs the real engine on the real store, at the
granularity of transactions:

    stage       one session of Postgres, a clock that the explorer turns, marks to go back to
    hands       actors that stop before each transaction, and can be put back to any such place
    world       one state; which states are the same
    laws        what holds in every state and at every end, by promise
    bench       the moves: deliver, go on, crash, reap, recover, let time pass, a client's act
    explorer    all moves in every state, depth first; a state seen before is not walked again
    scenarios   small workflows, what their clients do, how much may go wrong in one schedule

Every so many states it also asks: if all workers died and all messages were lost right here, would
every run still end? `test_explorer_finds` breaks promises and expects to be told.

`bundles` is a model by itself, of tables and workers as plain values, without Postgres: of how
several tokens share a message, a claim and a commit. `test_bundles` walks it.

    pytest tests/model                   every scenario; the summary says how much was covered
    pytest tests/model --model-longer    more mishaps at once, and more random workflows

What a violation prints is the schedule and the tables at its end.
"""
