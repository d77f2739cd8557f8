"""Waiting for something to read, on every platform."""

from __future__ import annotations

import select
from collections.abc import Sequence


def readable(descriptors: Sequence[int], seconds: float) -> set[int]:
    """Those that have something to read, or whose other end is gone; empty after `seconds`."""
    if not hasattr(select, "poll"):  # Windows
        return {*select.select(descriptors, (), (), seconds)[0]}
    poll = select.poll()  # `select.select` takes no descriptor above 1023
    for one in descriptors:
        poll.register(one, select.POLLIN)
    return {one for one, _ in poll.poll(1000 * seconds)}
