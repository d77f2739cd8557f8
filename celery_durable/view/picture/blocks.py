"""What a graph is made of: cards, and how they lie beside and after one another.

A plan is series-parallel: a row of nodes, of which some fan out and come together again. So a block
is a card, a row of blocks, or blocks side by side; an opened child run is a row in a frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from celery_durable.view.nodes import NodeState
from celery_durable.view.picture.text import Count


class Shape(StrEnum):
    """The outline of a card."""

    STEP = "step"
    CHILD = "child"
    STACK = "stack"
    """Many of a kind: the items of a map."""
    WAIT = "wait"
    """A sleep, or a wait for a signal."""
    CHOICE = "choice"
    CAP = "cap"
    """The beginning or the end of a picture."""
    MORE = "more"
    """Branches that are folded."""
    NOTHING = "nothing"
    """The way of a route that takes no case."""
    BAR = "bar"
    """Where branches come together; without text."""
    DOT = "dot"
    """Where cases do; without text."""


class Tone(StrEnum):
    """What a line of text is, for its colour."""

    NOTE = "note"
    STATE = "state"
    ERROR = "error"
    WAIT = "waits"


@dataclass(frozen=True, slots=True)
class Line:
    """A line below a card's title.

    `word` comes first, in the colour of the state; `count` is a duration in the text.
    """

    text: str
    tone: Tone = Tone.NOTE
    word: str = ""
    count: Count | None = None

    @property
    def whole(self) -> str:
        """The line as one text."""
        return " · ".join(part for part in (self.word, self.text) if part)


@dataclass(frozen=True, slots=True)
class Bar:
    """How far something is: fractions of the whole."""

    done: float
    failed: float = 0.0


@dataclass(frozen=True, slots=True)
class Fold:
    """A link that opens or closes a part of the picture; `key` names that part."""

    key: str
    is_open: bool
    what: str


@dataclass(frozen=True, slots=True)
class Card:
    """A box with text. `id` is the unit it stands for, which no other card of the picture has.

    Without a `state` nothing is said of a run, and `kind` gives the symbol. `moves`: something is
    executed. `is_queued`: nothing is yet. `aside`: the run does not pass here. `run` is the child
    run that it is. `undoable`: something undoes it.
    """

    id: str
    shape: Shape
    title: str = ""
    lines: tuple[Line, ...] = ()
    state: NodeState | None = None
    kind: str = "step"
    moves: bool = False
    is_queued: bool = False
    aside: bool = False
    undoable: bool = False
    bar: Bar | None = None
    run: UUID | None = None
    fold: Fold | None = None

    @property
    def whole(self) -> str:
        """All of its text, for who hovers over it or hears it."""
        return ": ".join(
            part for part in (self.title, ", ".join(line.whole for line in self.lines)) if part
        )


@dataclass(frozen=True, slots=True)
class Row:
    """Blocks one after another."""

    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Beside:
    """Blocks side by side, that lead from `head` and come together in `join`."""

    head: Card
    blocks: tuple[Block, ...]
    join: Card


@dataclass(frozen=True, slots=True)
class Repeated:
    """A card from which an edge leads back to itself; `label` are the lines beside that."""

    card: Card
    label: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Framed:
    """A row of blocks in a frame with a head: an opened child run."""

    head: Card
    inner: Row


Block = Card | Row | Beside | Repeated | Framed
