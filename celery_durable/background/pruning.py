"""Deletes runs that ended long ago, a little at a time.

A run at the top of a tree goes when it is old enough, and all runs below it go with it: a child
never goes before its parent. A tree stays while one of its runs is unfinished, or while a run
elsewhere is a fork of one of them, for a fork reads the results of the run that it was forked from.

A tree of a few hundred rows goes in one transaction. Of a larger one the top goes first, and a row
of `durable_leftover` is written with that: from then on nobody finds the run, so nobody ever sees
half of it. Its journal follows a page at a time, and its children as if they were tops: each with
the runs below it, and not while it is needed. The row goes last. Whoever prunes next finds it, and
goes on where a process was killed.

Transactions lock runs with SKIP LOCKED, so that any number may prune at once. How many rows one
takes follows from how long the last one took.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from celery_durable.arguments import checked_finished, checked_seconds
from celery_durable.core.retention import Retention
from celery_durable.core.status import FINISHED, Status
from celery_durable.database.connections import BRIEFLY, Database
from celery_durable.store.pruning import counting, erasing, finding, locking
from celery_durable.store.pruning.finding import FIRST, Candidate
from celery_durable.store.pruning.locking import Holding, Member
from celery_durable.store.sqlstates import Hindered

AIM = 0.02
"""Seconds that a transaction should hold locks; 0.05 are the most that anybody should wait."""

FEWEST, FIRST_ROWS, MOST = 20, 100, 5000
"""Rows that a transaction deletes: at least, at first, and at most."""

ROWS_PER_RUN = 4
"""Rows that a run is taken to have, before it is looked at."""

COUNTED = 500
"""Trees that one statement of a dry run counts."""

Ages = Mapping[Status, timedelta]
"""How long ago a run must have ended, by its status. Runs of other statuses stay."""


def ages_of(
    retention: Retention,
    older_than: float | timedelta | None = None,
    status: str | None = None,
) -> Ages:
    """How long ago runs must have ended: `older_than`, or else what `retention` says.

    With `status`, only runs of that status. Raises `ConfigurationError` for an unfinished one.
    """
    wanted = FINISHED if status is None else {checked_finished(status)}
    seconds = checked_seconds("older_than", older_than)
    ages = retention.ages if seconds is None else dict.fromkeys(FINISHED, seconds)
    return {one: timedelta(seconds=ages[one]) for one in Status if one in wanted and one in ages}


class Pace:
    """How much the next transaction may do: it looks at `tops` trees, and deletes `rows` rows."""

    def __init__(self) -> None:
        self.rows = FIRST_ROWS
        self.tops = FIRST_ROWS // ROWS_PER_RUN

    def took(self, seconds: float, rows: int) -> None:
        """Note how long a transaction took that has deleted so many rows."""
        if seconds > AIM:
            self.rows = max(int(self.rows * max(AIM / seconds, 0.5)), FEWEST)
        elif 2 * rows > self.rows:
            self.rows = min(2 * self.rows, MOST)
        self.tops = min(2 * self.tops, self.rows // ROWS_PER_RUN)

    def saw_more(self) -> None:
        """Note that the trees have more rows than a transaction may delete."""
        self.tops = max(self.tops // 2, 1)


@dataclass(frozen=True, slots=True)
class Tree:
    """Runs that go together, or stay together."""

    top: Candidate
    members: Sequence[Member]
    holdings: Mapping[UUID, Holding] = field(default_factory=dict)

    @property
    def runs(self) -> Sequence[UUID]:
        return [member.id for member in self.members]

    @property
    def rows(self) -> int:
        """How many rows it has, those of the journal included."""
        return len(self.members) + sum(self.holdings[run].units for run in self.runs)

    @property
    def may_go(self) -> bool:
        """True if it is locked, has not changed since it was found, and nobody needs it."""
        own = frozenset(self.runs)
        return (
            bool(own)
            and all(self._is_done(member, own) for member in self.members)
            and self.holdings[self.top.id].finished_at == self.top.finished_at
        )

    def _is_done(self, member: Member, own: frozenset[UUID]) -> bool:
        """True if the run is locked, had ended when it was walked, and has no fork elsewhere."""
        if not member.is_locked or member.finished_at is None:
            return False
        now = self.holdings[member.id]
        return now.finished_at == member.finished_at and now.forks <= own


@dataclass(frozen=True, slots=True)
class Done:
    """What a transaction did: how many runs it deleted, and how many of them were forks.

    `seen` is how many of the candidates need no further look; `is_larger`: the next tree is too
    large for one transaction.
    """

    runs: int = 0
    forks: int = 0
    seen: int = 0
    is_larger: bool = False


class Pruner:
    """Deletes runs of these ages, and what other pruners have left over."""

    def __init__(self, database: Database, ages: Ages) -> None:
        self._database = database
        self._ages = ages
        self._pace = Pace()
        self._reached: dict[Status, Candidate] = {}
        self._forks = self._buried = 0

    def estimate(self) -> int:
        """How many trees there are to look at; each may be needed, or have many runs."""
        with self._database.autocommit() as connection:
            return sum(finding.how_many(connection, *each) for each in self._ages.items())

    def prune(self) -> Iterator[int]:
        """Delete all that may go; yield the number of runs after each transaction.

        A run that stayed because of its fork goes in the next pass.
        """
        while True:
            self._forks = 0
            self._reached.clear()
            yield from self.go_on()
            if not self._forks:
                return

    def go_on(self) -> Iterator[int]:
        """`prune`, of what has come of age since the last pass of this pruner."""
        yield from self._clear_leftovers()
        for status, age in self._ages.items():
            while found := self._tops(status, age):
                done = self._delete(found)
                if done.seen:
                    self._reached[status] = found[done.seen - 1]
                yield done.runs
                if self._buried:
                    self._buried = 0
                    yield from self._clear_leftovers()

    def prune_these(self, found: Sequence[Candidate]) -> set[UUID]:
        """Delete what may go of these trees, whatever their ages; return the tops that stay.

        What stayed because of a fork that went later is looked at again.
        """
        is_first = True
        while found and (is_first or self._forks):
            is_first, self._forks, at = False, 0, 0
            while at < len(found):
                at += self._delete(found[at : at + self._pace.tops]).seen
            if self._buried:
                self._buried = 0
                for _ in self._clear_leftovers():
                    pass
            with self._database.autocommit() as connection:
                there = finding.still_there(connection, [one.id for one in found])
            found = [one for one in found if one.id in there]
        return {one.id for one in found}

    def _tops(self, status: Status, age: timedelta) -> Sequence[Candidate]:
        after = self._reached.get(status, FIRST)
        with self._database.autocommit() as connection:
            return finding.tops(connection, status, age, after, self._pace.tops)

    def _delete(self, found: Sequence[Candidate]) -> Done:
        """Delete what may go of the first of these trees."""
        done = self._delete_trees(found)
        if done.is_larger:
            done = self._bury(found[0])
            self._buried += done.runs
        self._forks += done.forks
        return done

    def _delete_trees(self, found: Sequence[Candidate]) -> Done:
        """Delete trees in one transaction, as many as the pace allows."""
        limit, began = self._pace.rows, time.monotonic()
        try:
            with self._database.transaction(BRIEFLY) as connection:
                members = locking.lock_trees(connection, [one.id for one in found], limit)
                if len(members) == limit:
                    # The walk was cut short; which trees are whole is not known.
                    self._pace.saw_more()
                    return Done(is_larger=len(found) == 1)
                holdings = locking.look(connection, [one.id for one in members], limit)
                trees = trees_of(found, members, holdings)
                going, seen = within(trees, limit)
                runs = [run for tree in going for run in tree.runs]
                deleted, forks = erasing.erase(connection, runs) if runs else (0, 0)
        except Hindered:
            # Somebody keeps a row locked. The next pass comes by again.
            return Done(seen=len(found))
        self._pace.took(time.monotonic() - began, sum(tree.rows for tree in going))
        return Done(deleted, forks, seen, is_larger=seen == 0)

    def _bury(self, top: Candidate) -> Done:
        """Delete the top of a tree that is too large for one transaction, if all of it may go."""
        stays = Done(seen=1)
        with self._database.autocommit() as connection:
            if top.finished_at is None or finding.is_needed(connection, top.id):
                return stays
        try:
            with self._database.transaction(BRIEFLY) as connection:
                # Of those below each is looked at again when its turn comes.
                (member,) = locking.lock_trees(connection, [top.id], 1) or (None,)
                found = locking.look(connection, [top.id], 1)
                if member is None or not trees_of([top], [member], found)[0].may_go:
                    return stays
                deleted, forks = erasing.bury(connection, top.id)
        except Hindered:
            return stays
        return Done(deleted, forks, seen=1)

    def _clear_leftovers(self) -> Iterator[int]:
        """Delete what is left of deleted runs, and their children."""
        after = UUID(int=0)
        while (run := self._next_leftover(after)) is not None:
            self._buried = 0
            yield from self._clear(run)
            # A child that was buried may be anywhere in the order of ids.
            after = UUID(int=0) if self._buried else run

    def _next_leftover(self, after: UUID) -> UUID | None:
        with self._database.autocommit() as connection:
            return finding.next_leftover(connection, after)

    def _clear(self, run: UUID) -> Iterator[int]:
        while self._clear_journal(run):
            yield 0
        after = FIRST
        while found := self._children(run, after):
            done = self._delete(found)
            if done.seen:
                after = found[done.seen - 1]
            yield done.runs
        with self._database.autocommit() as connection:
            erasing.forget(connection, run)

    def _clear_journal(self, run: UUID) -> int:
        began = time.monotonic()
        with self._database.autocommit() as connection:
            deleted = erasing.clear_journal(connection, run, self._pace.rows)
        self._pace.took(time.monotonic() - began, deleted)
        return deleted

    def _children(self, run: UUID, after: Candidate) -> Sequence[Candidate]:
        with self._database.autocommit() as connection:
            return finding.children(connection, run, after, self._pace.tops)


def trees_of(
    found: Sequence[Candidate], members: Sequence[Member], holdings: Sequence[Holding]
) -> Sequence[Tree]:
    """The trees of these candidates; one that is gone has no members."""
    by_run = {one.id: one for one in holdings}
    by_top: dict[UUID, list[Member]] = {}
    for member in members:
        by_top.setdefault(member.top, []).append(member)
    return [Tree(top, by_top.get(top.id, []), by_run) for top in found]


def within(trees: Sequence[Tree], limit: int) -> tuple[Sequence[Tree], int]:
    """The first trees that may go and have no more rows together, and how many were looked at.

    None was looked at if the first has more.
    """
    going: list[Tree] = []
    rows = 0
    for seen, tree in enumerate(trees):
        if not tree.may_go:
            continue
        rows += tree.rows
        if rows > limit:
            return going, seen
        going.append(tree)
    return going, len(trees)


def count(database: Database, ages: Ages) -> Counter[tuple[str, Status]]:
    """Count the runs that `Pruner` would delete, by workflow and status."""
    counted: Counter[tuple[str, Status]] = Counter()
    with database.autocommit() as connection:
        for status, age in ages.items():
            after = FIRST
            while found := finding.tops(connection, status, age, after, COUNTED, with_forked=True):
                counted += counting.count(connection, [one.id for one in found], ages)
                after = found[-1]
    return counted
