"""The hot statement: what became of a unit, written at once.

Rules of this room: one statement, put together from parts and compiled once for each variant.

    statement   puts the parts together, executes them, and says what it means if no row was there
    fork        what a token that forks, and a branch that joins, add to it
    parameters  which parts a commit has, and their values
"""
