"""What users see of runs.

Rules of this room: nothing here is needed to execute a run, nothing locks, nothing writes.

    views      a run, its history, lists of runs
    position   where a run stands, counted
    results    results, put together from the journal
    overview   a run as it is drawn, its items counted
    folded     the attempts of units, folded
"""
