"""What has come of a bulk action."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from uuid import UUID

NAMED = 3
"""Runs that are named of those that were refused for one reason."""

_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class BulkResult:
    """How many runs a bulk action has come to, and what became of them.

    `matched` runs were looked at, in a dry run counted. To `done` it has been done. `refused` says
    of how many it was refused, by the reason; `examples` names the first runs of each.
    """

    matched: int = 0
    done: int = 0
    refused: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    examples: Mapping[str, Sequence[UUID]] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def unchanged(self) -> int:
        """How many needed it no more when their turn came; in a dry run, all of them."""
        return self.matched - self.done - sum(self.refused.values())


@dataclass(frozen=True, slots=True)
class Acted:
    """What became of a page of runs. What is named by neither has not been changed."""

    done: frozenset[UUID] | set[UUID] = frozenset()
    refused: Mapping[UUID, Exception] = field(default_factory=lambda: MappingProxyType({}))


class Tally:
    """Counts what becomes of runs."""

    def __init__(self) -> None:
        self._matched = self._done = 0
        self._refused: Counter[str] = Counter()
        self._examples: dict[str, list[UUID]] = {}

    def add(self, matched: int, acted: Acted) -> None:
        """Count a page."""
        self._matched += matched
        self._done += len(acted.done)
        for run_id, error in acted.refused.items():
            reason = reason_of(error)
            self._refused[reason] += 1
            examples = self._examples.setdefault(reason, [])
            if len(examples) < NAMED:
                examples.append(run_id)

    def result(self) -> BulkResult:
        """Return what was counted until now."""
        examples = {reason: tuple(runs) for reason, runs in self._examples.items()}
        return BulkResult(
            self._matched,
            self._done,
            MappingProxyType(dict(self._refused)),
            MappingProxyType(examples),
        )


def reason_of(error: Exception) -> str:
    """Return the words of an error without the ids in it: they are alike for many runs."""
    return _ID.sub("…", str(error))
