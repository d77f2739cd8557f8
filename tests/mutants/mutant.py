"""A mutant: one mechanism taken out, and the tests that must notice."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.place import NotFoundOnce, patched


@dataclass(frozen=True, slots=True)
class Mutant:
    """A patch of one place. ``name`` is for ``-k`` and the table, ``promise`` a number like "P4".

    ``at`` is ``package.module:Class.method``: ``old`` is looked for in this function, class or
    assignment only, word by word (see `place`). Without a name, in the whole module.
    Every entry of ``tests`` must fail: a pytest node id; one without a parameter stands for all its
    parameters, of which one failing is enough.
    """

    name: str
    promise: str
    takes_out: str
    at: str
    old: str
    new: str
    tests: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.tests:
            raise ValueError(f"mutant {self.name!r} names no test that must fail")
        if self.old == self.new:
            raise ValueError(f"mutant {self.name!r} changes nothing")

    @property
    def module(self) -> str:
        return self.at.partition(":")[0]

    @property
    def qualname(self) -> str:
        """The function, class or assignment; "" is the whole module."""
        return self.at.partition(":")[2]

    def file(self, root: Path) -> Path:
        """The module's file in a copy of the project."""
        path = root.joinpath(*self.module.split("."))
        return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


class StaleMutant(Exception):
    """The code has moved on: the snippet to replace is not there exactly once."""


def mutated(mutant: Mutant, root: Path) -> str:
    """The source of the mutant's module with the mutant in it. Raises `StaleMutant`."""
    try:
        source = mutant.file(root).read_text(encoding="utf-8")
        return patched(source, mutant.qualname, mutant.old, mutant.new)
    except (FileNotFoundError, NotFoundOnce) as why:
        raise StaleMutant(f"{mutant.at}: {why}; bring the catalogue up to date") from None


@contextmanager
def applied(mutant: Mutant, source: str, root: Path, original: Path) -> Iterator[None]:
    """Put the mutated source into `root`, which holds links to the files of `original`.

    Compiled code goes with its source: it is told from stale code by the second of the last
    change, which may be the same.
    """
    path = mutant.file(root)
    _unlink(path)
    path.write_text(source, encoding="utf-8")
    try:
        yield
    finally:
        _unlink(path)
        before = mutant.file(original)
        for each in (before, *_compiled(before)):
            os.link(each, root / each.relative_to(original))


def _unlink(path: Path) -> None:
    for each in (path, *_compiled(path)):
        each.unlink()


def _compiled(path: Path) -> list[Path]:
    return [*path.parent.glob(f"__pycache__/{path.stem}.*.pyc")]
