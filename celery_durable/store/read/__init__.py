"""What users see of runs.

Rules of this room: nothing here is needed to execute a run, nothing locks, nothing writes.

    views      a run
    listing    lists of runs
    filters    which runs a list has
    matching   which runs a bulk action is about
    history    the journal of a run
    actions    what people have done
    ended_units  the same, a page at a time, by node and outcome
    position   where a run stands: its tokens, counted
    units      the units that it stands at
    results    results, put together from the journal
    outcome    what became of a run, for those who wait for its end
    overview   a run as it is drawn: its plan, its items counted
    asking     waits for a person, and what became of one
    facts      what there is to know of runs that do not move
    fleet      workers and queues
    gauges     what is measured of all runs
    vitals     the state of the server
    standstill how many runs wait for what
    folded     the journal with items and iterations counted
    workflows  which workflows there are, and how many runs of each
    spans      when units were executed: the parts of a node, or how many ended when
    traffic    how many runs there are, and have begun and ended lately
    received   the signals that have come to a run
    exposed    the views that users' own queries read
"""
