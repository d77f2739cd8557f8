"""Makes wrong tokens slow: each costs its address more time than the one before."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
"""Seconds that the first wrong token of an address costs; each further one the double."""

FORGOTTEN_AFTER = 3600.0
"""Seconds without a wrong token after which an address begins anew."""

LONGEST_QUEUE = 60.0
"""Seconds beyond which an attempt is refused at once, and not made to wait."""

MOST_ADDRESSES = 10_000


@dataclass(slots=True)
class _Record:
    wrong: int = 0
    free_at: float = 0.0
    """When the next attempt of the address is answered."""


class Patience:
    """What addresses have tried. Attempts of one address are answered one after another."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def delay(self, address: str, now: float) -> float | None:
        """Seconds that an attempt of this address waits for its answer; None: it is refused."""
        record = self._records.get(address)
        if record is None or now - record.free_at > FORGOTTEN_AFTER:
            return 0.0
        delay = max(record.free_at - now, 0.0)
        return None if delay > LONGEST_QUEUE else delay

    def wrong(self, address: str, now: float) -> int:
        """Note a wrong token; return how many the address has shown."""
        record = self._records.pop(address, _Record())
        if now - record.free_at > FORGOTTEN_AFTER:
            record = _Record()
        cost = min(FIRST_DELAY * 2**record.wrong, LONGEST_DELAY)
        record.wrong, record.free_at = record.wrong + 1, max(record.free_at, now) + cost
        self._records[address] = record
        if len(self._records) > MOST_ADDRESSES:
            self._records.popitem(last=False)
        return record.wrong

    def right(self, address: str) -> None:
        """Forget what the address has tried."""
        self._records.pop(address, None)
