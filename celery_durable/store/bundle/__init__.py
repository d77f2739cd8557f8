"""Bundles: what several tokens need, as one statement for all of them.

Each statement has every condition of its counterpart for one token. It locks rows in the order of
their ids, and leaves out a row that another transaction has locked, so it waits for no token. What
it leaves out, its answer does not name: the caller does that alone.

    claiming    claims tokens, looks at claims again, releases them
    committing  commits decisions that are plain: most are
    given       the document that names the tokens, and the rows that are locked for it
"""
