"""Finds runs that ended long ago, and deletes them with all that belongs to them.

Rules of this room: what finds locks nothing, and reads by an index; what deletes has locked the
rows of its runs with SKIP LOCKED before, and looks at them again after that. A statement reads and
writes no more rows than its caller allows. Rows of runs are locked first, and no other row is
waited for that a living run needs.

    finding   finds what may go: tops of trees, children of deleted runs
    counting  counts what would go
    locking   locks trees of runs, and says what they hold and who needs them
    erasing   deletes runs
    strays    deletes hints for tokens that are gone
    lease     the lease that relays share for pruning
"""
