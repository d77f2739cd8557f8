"""Proof that the tests can fail: ``python -m tests.mutants``.

Each mutant takes one mechanism out of a copy of the library and names the tests that must then
fail.

    mutant      what a mutant is, and applying one
    place       finding its snippet in a named function, class or assignment
    catalogue   the mutants of this library
    verdict     what the outcomes of a mutant's tests say about it
    guard       a pytest plugin for the runs: checks what is imported, writes down the outcomes
    nursery     forks the runs from a process that has imported what is not ours
    forks       asks the nursery
    runner      copies, runs, judges
    report      what the terminal shows
"""
