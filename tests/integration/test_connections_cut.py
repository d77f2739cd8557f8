"""The connection is cut at each statement that a worker sends, before and after the server has it.

A run that nobody disturbs says which statements there are. For each of them, and for both moments,
another run is cut there: it ends like the first, without recovery, and no handler is called twice.
Of a transactional step, what has not been committed is done again (P1, P2, P3, P6, P8).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from tests.faults.proxy import Moment, Proxy
from tests.forms import short_or_long
from tests.integration import stories
from tests.integration.driving import World, end, worker_id
from tests.integration.stories import STORIES, Scene, Story

NOT_ITS_OWN = ("pg_notify",)
"""Sent or not, as time goes by."""


@dataclass(frozen=True)
class Statement:
    """The `nth` of this text."""

    text: str
    nth: int

    def __str__(self) -> str:
        return f"#{self.nth} of {' '.join(self.text.split())}"


class Observer:
    """Numbers the statements that pass, and cuts at one of them."""

    def __init__(self, cut_at: Statement | None = None, moment: Moment = Moment.BEFORE) -> None:
        self.seen: list[Statement] = []
        self.has_cut = False
        self._counts: Counter[str] = Counter()
        self._cut_at = cut_at
        self._moment = moment

    def __call__(self, text: str) -> Moment | None:
        if any(words in text for words in NOT_ITS_OWN):
            return None
        self._counts[text] += 1
        statement = Statement(text, self._counts[text])
        self.seen.append(statement)
        if statement != self._cut_at or self.has_cut:
            return None
        self.has_cut = True
        return self._moment


@pytest.fixture(autouse=True)
def _ledger(world: World) -> None:
    world.rows(stories.LEDGER)


@dataclass
class Theatre:
    """Plays a story over and over; each time with a worker whose connections go by the proxy."""

    world: World
    proxy: Proxy
    story: Story

    def play(self, observer: Observer, *, is_new: bool = False) -> Scene:
        """`is_new`: what the worker sends to register is observed too."""
        stories.forget(self.world)
        client = self.world.worker()
        scene = Scene(self.world, client)
        self.story.define(client, scene)
        worker = self.world.worker(
            lambda durable: self.story.define(durable, scene), database_url=self.proxy.url
        )
        if not is_new:
            worker_id(worker)
        self.proxy.judge(observer)
        stories.see_through(scene, worker, self.story)
        self.proxy.judge(None)
        self.world.drain(worker)
        for durable in (worker, client):
            end(durable)
        return scene

    def trouble_at(
        self, cut: Statement, moment: Moment, undisturbed: Scene, expected: object, *, is_new: bool
    ) -> str | None:
        """What is different from the undisturbed run; None when nothing is."""
        observer = Observer(cut, moment)
        try:
            scene = self.play(observer, is_new=is_new)
        except Exception as error:  # noqa: BLE001 - the table says where
            return f"{type(error).__name__}: {error}"
        if not observer.has_cut:
            return "was not reached"
        if (found := stories.account(self.world)) != expected:
            return f"ends otherwise: {found}"
        # A transaction that was cut has not happened; one that has committed has.
        is_committed = cut.text == "COMMIT" and moment is Moment.AFTER
        again = {} if is_committed else {unit: 1 for unit in scene.called if is_booked(unit)}
        more, less = scene.called - undisturbed.called, undisturbed.called - scene.called
        if less or not more.items() <= again.items():
            return f"calls otherwise: {scene.called}"
        return None


def is_booked(unit: str) -> bool:
    """Whether it is a unit of a transactional step."""
    return unit.startswith("booked")


MOMENTS = pytest.mark.parametrize("moment", Moment, ids=lambda moment: moment.value)


@MOMENTS
@pytest.mark.parametrize("name", STORIES)
def test_a_run_cut_at_any_statement_ends_like_an_undisturbed_one(
    world: World, proxy: Proxy, name: str, moment: Moment
) -> None:
    theatre = Theatre(world, proxy, STORIES[name])
    observer = Observer()
    undisturbed = theatre.play(observer)
    assert_none_matters(theatre, observer.seen, moment, undisturbed)


@MOMENTS
def test_a_worker_cut_at_any_statement_of_its_registration_registers(
    world: World, proxy: Proxy, moment: Moment
) -> None:
    theatre = Theatre(world, proxy, STORIES["transactional"])
    observer = Observer()
    undisturbed = theatre.play(observer, is_new=True)
    first_claim = next(n for n, one in enumerate(observer.seen) if CLAIM in one.text)
    assert first_claim > 0
    assert_none_matters(theatre, observer.seen[:first_claim], moment, undisturbed, is_new=True)


def in_short(statements: Sequence[Statement], moment: Moment) -> list[Statement]:
    """The first of each text: claims and commits before and after, of all others each second
    before and each second after.
    """
    firsts = [one for one in statements if one.nth == 1]
    turn = list(Moment).index(moment)
    return [one for n, one in enumerate(firsts) if n % 2 == turn or is_of_the_protocol(one)]


def is_of_the_protocol(statement: Statement) -> bool:
    return statement.text == "COMMIT" or CLAIM in statement.text


CLAIM = "WITH quiet"


def assert_none_matters(
    theatre: Theatre,
    statements: Sequence[Statement],
    moment: Moment,
    undisturbed: Scene,
    *,
    is_new: bool = False,
) -> None:
    """Cut each of the statements, in a run of its own; the short form cuts fewer."""
    statements = short_or_long(in_short(statements, moment), statements)
    expected = stories.account(theatre.world)
    table = {
        one: theatre.trouble_at(one, moment, undisturbed, expected, is_new=is_new)
        for one in statements
    }
    troubles = [f"{statement}\n  {trouble}" for statement, trouble in table.items() if trouble]
    assert not troubles, f"{len(troubles)} of {len(table)}:\n" + "\n".join(troubles)
    print(f"{moment.value}: {len(table)} statements")  # noqa: T201 - pytest -rP
