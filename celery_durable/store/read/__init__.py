"""What users see of runs.

Rules of this room: nothing here is needed to execute a run, nothing locks, nothing writes.

    views      a run, and lists of runs
    history    the journal of a run
    position   where a run stands: its tokens, counted
    results    results, put together from the journal
    outcome    what became of a run, for those who wait for its end
    overview   a run as it is drawn: its plan, its items counted
    facts      what there is to know of runs that do not move
    folded     the journal with items and iterations counted
"""
