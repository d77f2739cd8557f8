"""A mutant: one mechanism taken out, and the tests that must notice."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Mutant:
    """A patch of one place. ``name`` is for ``-k`` and the table, ``promise`` a number like "P4".

    Every entry of ``tests`` must fail: a pytest node id; one without a parameter stands for all its
    parameters, of which one failing is enough.
    """

    name: str
    promise: str
    takes_out: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.tests:
            raise ValueError(f"mutant {self.name!r} names no test that must fail")
        if self.old == self.new:
            raise ValueError(f"mutant {self.name!r} changes nothing")


class StaleMutant(Exception):
    """The code has moved on: the snippet to replace is not there exactly once."""


def apply(mutant: Mutant, root: Path) -> None:
    """Patch the copy of the project at ``root``. Raises `StaleMutant`."""
    path = root / mutant.file
    source = path.read_text(encoding="utf-8") if path.exists() else ""
    if (found := source.count(mutant.old)) != 1:
        raise StaleMutant(
            f"`old` occurs {found} times in {mutant.file}; bring the catalogue up to date"
        )
    path.write_text(source.replace(mutant.old, mutant.new), encoding="utf-8")
