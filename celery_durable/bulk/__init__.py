"""Bulk: one action on all runs of a filter, page by page.

Rules of this room: a page is done in few statements, however many runs it has; what one run is
refused for says nothing of the others. What cannot be done together, because somebody has locked a
run or changed it meanwhile, is done by the operation for one run, in whose words it is refused.
Nothing is kept of a page but counts. What has been done does not match again, so that whoever was
interrupted begins anew.

    result   what has come of it
    action   what every action has in common
    actions  what each one does to a page of runs
    walk     goes over the runs
    client   `Client` with `bulk`
"""
