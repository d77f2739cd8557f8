"""Applies a cancel to a tree of runs: statements over many runs at once.

Rules of this room: statements lock tokens with SKIP LOCKED, so that nobody waits for a transaction
that may wait for ours. Only the parents of branches that are locked are waited for, in the order of
their ids. Rows of runs come last. Every other transaction locks tokens of one run only, and waits
for no branch.

    announcing  raises the flags on the first token of every run of the tree
    branches    ends idle branches, and counts them down at the gates of their parents
    ending      ends tokens and runs that wait for nothing any more
    selecting   conditions and lists of ids that these statements share
"""
