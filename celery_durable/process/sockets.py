"""Waits until a socket is readable, on every platform."""

from __future__ import annotations

import select
from collections.abc import Sequence


def readable(descriptors: Sequence[int], seconds: float) -> set[int]:
    """Return those with something to read, or without another end; none after `seconds`."""
    if not hasattr(select, "poll"):  # Windows
        return {*select.select(descriptors, (), (), seconds)[0]}
    poll = select.poll()  # `select.select` takes no descriptor above 1023
    for one in descriptors:
        poll.register(one, select.POLLIN)
    return set(dict(poll.poll(1000 * seconds)))
