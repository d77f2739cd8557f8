"""Proof that the tests can fail: ``python -m tests.mutants``.

Each mutant takes one mechanism out of a copy of the library and names the tests that must then
fail.

    mutant      what a mutant is, and applying one
    catalogue   the mutants of this library
    verdict     what the outcomes of a mutant's tests say about it
    guard       a pytest plugin for the runs: checks what is imported, writes down the outcomes
    runner      copies, runs, judges
    report      what the terminal shows
"""
