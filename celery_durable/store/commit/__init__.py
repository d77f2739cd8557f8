"""The commit: the hot statement, which writes the decision on a unit.

Rules of this room: one statement, put together from parts and compiled once for each variant.

    statement   puts the parts together, executes them, and tells why nothing was written
    fork        the parts that a fork, and a branch that leaves, add
    parameters  which parts a commit has, and the parameters of the statement
"""
