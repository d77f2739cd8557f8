"""Processor time of what takes part, from `/proc/<pid>/stat`, by role.

A process counts with its descendants, and with its children that have ended and were waited for
(`cutime`), so a backend that ends between two looks is not lost: its time moves to the postmaster.
What is missed:

- children that were not waited for, and whatever a process used in less than a tick (10 ms)
  since;
- the kernel's own threads: writing to the disk, the loopback network outside of a system call;
- a server on another machine, or one whose process cannot be found: its column is empty;
- on a Postgres that others use too, backends that ended meanwhile. There only processes count that
  have the contender's database in their title, and those that serve all (`_is_of`).

A broker counts whole, and so does a Postgres of our own: what others ask of them at the same time
is counted too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")

FOR_ALL = ("checkpointer", "background writer", "walwriter", "io worker")
"""Processes of Postgres that write for every database."""

ROLES = ("workers", "postgres", "broker", "client")


@dataclass(frozen=True, slots=True)
class Processor:
    """Processor seconds by role; None where they cannot be known."""

    workers: float | None = None
    postgres: float | None = None
    broker: float | None = None
    client: float | None = None

    def since(self, before: Processor) -> Processor:
        """What was used between two looks."""
        pairs = ((getattr(self, role), getattr(before, role)) for role in ROLES)
        return Processor(*(None if a is None or b is None else a - b for a, b in pairs))

    @property
    def all(self) -> float:
        """All roles together, as far as they are known."""
        return sum(getattr(self, role) or 0.0 for role in ROLES)


@dataclass(frozen=True, slots=True)
class Roles:
    """Ids of the processes that play each role; those of the client count without descendants."""

    workers: tuple[int, ...]
    postgres: int | None
    broker: tuple[int | None, ...]
    """What carries messages and results; empty without a broker, None where it cannot be found."""

    client: int
    database: str | None = None
    """What a backend of Postgres has in its title to count; None counts the whole server."""

    def look(self) -> Processor:
        """What each has used so far. Children that a client has are workers."""
        if not PROC.is_dir():
            return Processor()
        table = _processes()
        client = table[self.client].own if self.client in table else 0.0
        clients_children = _tree(table, [self.client]) - client
        return Processor(
            workers=_tree(table, self.workers) + clients_children,
            postgres=self._server(table) if self.postgres in table else None,
            broker=_tree(table, self.broker) if self._knows_broker(table) else None,
            client=client,
        )

    def _knows_broker(self, table: Mapping[int, _Process]) -> bool:
        return bool(self.broker) and all(pid in table for pid in self.broker)

    def _server(self, table: Mapping[int, _Process]) -> float:
        if self.database is None:
            return _tree(table, [self.postgres])
        backends = _with_descendants(table, [self.postgres]) - {self.postgres}
        return sum(table[pid].own for pid in backends if _is_of(pid, self.database))


@dataclass(frozen=True, slots=True)
class _Process:
    parent: int
    own: float
    ended_children: float


def parent_of(pid: int) -> int | None:
    """The parent of a process of this machine; None if there is no such process."""
    process = _processes().get(pid)
    return process.parent if process else None


def memory(pids: Iterable[int]) -> list[tuple[float, float]]:
    """MiB of each of the processes and their descendants, the largest first: its share of what it
    shares with others included (PSS), and all that is resident (RSS). See proc_pid_smaps(5).
    """
    table = _processes() if PROC.is_dir() else {}
    found = []
    for pid in _with_descendants(table, pids):
        try:
            lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]
        except OSError:  # it has ended meanwhile
            continue
        sizes = {line.split()[0]: int(line.split()[1]) / 1024 for line in lines}
        found.append((sizes["Pss:"], sizes["Rss:"]))
    return sorted(found, reverse=True)


def _processes() -> dict[int, _Process]:
    """Every process of the machine. See proc_pid_stat(5) for the numbers of the fields."""
    tick = os.sysconf("SC_CLK_TCK")
    found = {}
    for folder in PROC.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        user, system, ended_user, ended_system = (int(field) / tick for field in fields[11:15])
        found[int(folder.name)] = _Process(int(fields[1]), user + system, ended_user + ended_system)
    return found


def _is_of(pid: int, database: str) -> bool:
    """Whether a process of Postgres works for the database: by its title, which says "postgres:
    user database address", or by its job for all ("postgres: walwriter")."""
    try:
        title = (PROC / str(pid) / "cmdline").read_text(errors="replace")
    except OSError:  # it has ended meanwhile
        return False
    return database in title or any(f": {job}" in title for job in FOR_ALL)


def _tree(table: Mapping[int, _Process], roots: Iterable[int | None]) -> float:
    present = [table[pid] for pid in _with_descendants(table, roots)]
    return sum(process.own + process.ended_children for process in present)


def _with_descendants(table: Mapping[int, _Process], roots: Iterable[int | None]) -> set[int]:
    children: dict[int, list[int]] = {}
    for pid, process in table.items():
        children.setdefault(process.parent, []).append(pid)
    found: set[int] = set()
    waiting = [pid for pid in roots if pid is not None and pid in table]
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children.get(pid, [])
    return found
