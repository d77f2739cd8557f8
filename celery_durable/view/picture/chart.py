"""What the graph of a plan shows, and of a run that has come so far: the blocks of its nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from celery_durable.core.diagram import Data, duration
from celery_durable.core.names import RETURNS, subunit_of
from celery_durable.core.status import FINISHED, Status
from celery_durable.view.nodes import ACTIVE, NOT_BEGUN, NodeState, NodeView
from celery_durable.view.picture import notes
from celery_durable.view.picture.blocks import (
    Beside,
    Block,
    Card,
    Fold,
    Framed,
    Line,
    Repeated,
    Row,
    Shape,
)
from celery_durable.view.picture.look import OF_STATUS
from celery_durable.view.picture.text import plain

MOST_BRANCHES = 6
"""Branches of a node that are drawn; if there are more, the last box stands for the rest."""

INTERESTING = (
    frozenset({NodeState.FAILED, NodeState.COMPENSATION_FAILED}),
    frozenset({NodeState.CURRENT, NodeState.COMPENSATING}),
    frozenset({NodeState.WAITING, NodeState.PAUSED}),
)
"""The states of branches that are drawn first where there is not room for all."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A plan, and how far a run of it has come at `now`; without a run it is the plan alone.

    `opened` are the keys of the folds that are open, `children` the child runs among them by id.
    """

    plan: Data
    now: datetime
    nodes: Mapping[str, NodeView] = field(default_factory=dict)
    status: Status | None = None
    run_id: UUID | None = None
    opened: AbstractSet[str] = frozenset()
    children: Mapping[UUID, Shown] = field(default_factory=dict)
    is_child: bool = False

    def key(self, what: str) -> str:
        """The key of a fold of this run; those of a child run have its id in them."""
        return f"{self.run_id}#{what}" if self.is_child else what


def chart_of(shown: Shown) -> Row:
    """Everything that there is to be drawn, from its beginning to its end."""
    title = plain(f"{shown.plan['workflow']} v{shown.plan['version']}")
    begin = Card(_id(shown, "##begin"), Shape.CAP, title, kind="begin")
    return Row((begin, *nodes_of(shown).blocks, _end(shown)))


def _id(shown: Shown, unit: str) -> str:
    """The id of a card: of the picture's own run the unit, of a child run with its id before it."""
    return f"{shown.run_id}#{unit}" if shown.is_child else unit


def _end(shown: Shown) -> Card:
    """The end of the picture: the function of `.returns`, and how the run has ended."""
    returns = shown.nodes.get(RETURNS)
    title = "result" if shown.plan.get("returns") else "end"
    card = Card(_id(shown, "##end"), Shape.CAP, title, kind="end")
    if returns is not None and shown.status not in FINISHED:
        moves, is_queued = notes.moves(returns, RETURNS), notes.is_queued(returns, RETURNS)
        return replace(card, state=returns.state, moves=moves, is_queued=is_queued)
    if shown.status is None:
        return card
    if shown.status in FINISHED:
        card = replace(card, title=shown.status.value)
    return replace(card, state=OF_STATUS[shown.status])


def nodes_of(shown: Shown) -> Row:
    """The nodes of the plan, and then those that only the journal has."""
    planned = [_node(shown, node) for node in shown.plan["nodes"]]
    names = {RETURNS, *(node["name"] for node in shown.plan["nodes"])}
    left = (view for name, view in shown.nodes.items() if name not in names)
    return Row((*planned, *(_of_no_plan(shown, view) for view in left)))


def _node(shown: Shown, node: Data) -> Block:
    """A node of a plan, whatever its kind."""
    match node["kind"]:
        case "parallel":
            return _parallel(shown, node)
        case "map":
            return _map(shown, node)
        case "route":
            return _route(shown, node)
        case "loop":
            return _loop(shown, node)
        case "sleep" | "signal":
            return _wait(shown, node)
        case _:
            return _body(shown, node, node["name"], shown.nodes.get(node["name"]))


def _of_no_plan(shown: Shown, view: NodeView) -> Card:
    card = _with_state(shown, _card(shown, view.name, Shape.STEP, view.name, "step"), view)
    note = (Line("not in the stored plan"),) if shown.plan["nodes"] else ()
    return replace(card, lines=(*card.lines, *note))


def _card(shown: Shown, unit: str, shape: Shape, title: str, kind: str) -> Card:
    return Card(_id(shown, unit), shape, plain(title), kind=kind)


def _with_state(shown: Shown, card: Card, view: NodeView | None, unit: str | None = None) -> Card:
    """The card with what there is to say of how it stands; of a plan alone it is as it was."""
    if view is None:
        return card
    name = view.name if unit is None else unit
    now = shown.now
    return replace(
        card,
        state=view.state,
        moves=notes.moves(view, name),
        is_queued=notes.is_queued(view, name),
        lines=(*notes.standing(view, name, now), *card.lines, *notes.of(view, name, now)),
        run=view.child_run_id,
    )


def _body(
    shown: Shown, body: Data, id: str, view: NodeView | None, unit: str | None = None
) -> Block:
    """A step, or a child workflow: in a frame with its own graph if that is open.

    `unit` is what it is journaled as, where that differs from the `id` of its card.
    """
    is_child = "workflow" in body
    kind, shape = ("child", Shape.CHILD) if is_child else ("step", Shape.STEP)
    card = _card(shown, id, shape, body["name"], kind)
    card = replace(card, undoable=bool(body.get("compensated")), lines=_runs(body))
    card = _with_state(shown, card, view, unit or id)
    return _opened(shown, card) if is_child else card


def _opened(shown: Shown, card: Card) -> Block:
    """The card of a child run with a link that opens it, or all of the run in a frame."""
    if card.run is None or shown.run_id is None:
        return card
    child = shown.children.get(card.run)
    what = f"the graph of {card.title}"
    head = replace(card, fold=Fold(str(card.run), child is not None, what))
    return head if child is None else Framed(head, nodes_of(child))


def _runs(body: Data) -> tuple[Line, ...]:
    """The line that names the workflow of a child."""
    if "workflow" not in body:
        return ()
    version = f" v{body['version']}" if body.get("version") else ""
    return (Line(plain(f"runs {body['workflow']}{version}")),)


def _parallel(shown: Shown, node: Data) -> Block:
    """The branches side by side; of very many the interesting ones, and a box for the rest."""
    name, view = node["name"], shown.nodes.get(node["name"])
    parts = {part.name: part for part in view.parts} if view else {}
    key = shown.key(name)
    branches: Sequence[Data] = node["branches"]
    is_open = key in shown.opened
    drawn = branches if is_open else _interesting(branches, parts)
    blocks = [_branch(shown, name, branch, parts.get(branch["name"]), view) for branch in drawn]
    head = _card(shown, name, Shape.STEP, name, "parallel")
    head = replace(head, lines=(Line(f"{len(branches)} branches"),))
    if view is not None:
        head = _with_state(shown, replace(head, lines=()), replace(view, units=()))
        head = replace(head, moves=False)
    if is_open and len(branches) > MOST_BRANCHES:
        head = replace(head, fold=Fold(key, is_open=True, what=f"the branches of {name}"))
    if len(drawn) < len(branches):
        names = {branch["name"] for branch in drawn}
        rest = [parts.get(one["name"]) for one in branches if one["name"] not in names]
        blocks.append(_rest(shown, name, rest))
    join = Card(_id(shown, f"{name}##join"), Shape.BAR, "all have ended", state=head.state)
    return Beside(head, tuple(blocks), join)


def _interesting(branches: Sequence[Data], parts: Mapping[str, NodeView]) -> Sequence[Data]:
    """At most so many branches, those that have failed or move before the others, in order."""
    if len(branches) <= MOST_BRANCHES:
        return branches
    chosen = sorted(range(len(branches)), key=lambda i: _dullness(parts.get(branches[i]["name"])))
    return [branches[i] for i in sorted(chosen[: MOST_BRANCHES - 1])]


def _dullness(part: NodeView | None) -> int:
    found = (rank for rank, states in enumerate(INTERESTING) if part and part.state in states)
    return next(found, len(INTERESTING))


def _branch(
    shown: Shown, node: str, branch: Data, part: NodeView | None, whole: NodeView | None
) -> Block:
    """A branch; what is current in it is among the units of the whole node."""
    if part is not None and whole is not None:
        part = replace(part, units=whole.units, progress=whole.progress)
    return _body(shown, branch, subunit_of(node, branch["name"]), part)


def _rest(shown: Shown, name: str, rest: Sequence[NodeView | None]) -> Card:
    """The box that stands for branches which are not drawn."""
    parts = sorted((part for part in rest if part is not None), key=_dullness)
    counts = Counter(part.state.value for part in parts)
    lines = (Line(", ".join(f"{count} {state}" for state, count in counts.items())),)
    return Card(
        _id(shown, f"{name}##more"),
        Shape.MORE,
        f"{len(rest)} more",
        lines if counts else (),
        parts[0].state if parts else None,
        kind="parallel",
        fold=Fold(shown.key(name), is_open=False, what=f"all branches of {plain(name)}"),
    )


def _map(shown: Shown, node: Data) -> Block:
    """One box for all items, with how many of them have ended."""
    name, item = node["name"], node["item"]
    window = node.get("max_concurrency")
    said = ["for each item", f"{window} at a time" if window else ""]
    said.append(f"{node['tolerate']} may fail" if node.get("tolerate") else "")
    card = _card(shown, name, Shape.STACK, name, "map")
    lines = (Line(", ".join(part for part in said if part)), *_runs(item))
    card = replace(card, lines=lines, undoable=bool(item.get("compensated")))
    view = shown.nodes.get(name)
    if view is None:
        return card
    card = _with_state(shown, replace(card, lines=_runs(item)), view)
    return replace(card, bar=notes.bar_of(view), run=None)


def _route(shown: Shown, node: Data) -> Block:
    """The choice, and its cases side by side; once it is made, the others are put aside."""
    name, view = node["name"], shown.nodes.get(node["name"])
    head = _card(shown, name, Shape.CHOICE, name, "route")
    taken = view.branch if view is not None else None
    if view is not None:
        head = _with_state(shown, head, _choice(view), name)
    is_over = view is not None and (taken is not None or view.state not in NOT_BEGUN | ACTIVE)
    cases = []
    for case in node["cases"]:
        is_taken = view is not None and case["name"] == taken
        part = _case(view, case["name"], is_taken=is_taken) if view is not None else None
        block = _body(shown, case, subunit_of(name, case["name"]), part, name)
        cases.append(_labelled(block, case, node, is_aside=is_over and not is_taken))
    if node.get("default", False) is None:
        passed = is_over and taken is None and view is not None and view.error is None
        cases.append(_nothing(shown, name, view, is_taken=passed, is_over=is_over))
    state = view.state if view is not None else None
    join = Card(_id(shown, f"{name}##join"), Shape.DOT, "go on", state=state)
    return Beside(head, tuple(cases), join)


def _choice(view: NodeView) -> NodeView:
    """The view of a route as far as the choice is concerned; the rest is that of its case."""
    if view.branch is None:
        return view
    return replace(
        view,
        state=NodeState.COMPLETED,
        error=None,
        took=None,
        attempt=1,
        wake_at=None,
        units=(),
        child_run_id=None,
    )


def _case(view: NodeView, name: str, *, is_taken: bool) -> NodeView:
    if is_taken:
        return replace(view, kind="step")
    state = NodeState.PENDING if view.state in NOT_BEGUN | ACTIVE else NodeState.NOT_REACHED
    state = NodeState.NOT_REACHED if view.branch is not None else state
    return NodeView(name, state)


def _labelled(block: Block, case: Data, node: Data, *, is_aside: bool) -> Block:
    """The case with what leads to it beside its own name."""
    if isinstance(block, Framed):
        return block
    assert isinstance(block, Card)
    other = (Line("or any other answer"),) if case["name"] == node.get("default") else ()
    return replace(block, lines=(*block.lines, *other), aside=is_aside)


def _nothing(
    shown: Shown, name: str, view: NodeView | None, *, is_taken: bool, is_over: bool
) -> Card:
    """The way of an answer that names no case."""
    state = NodeState.COMPLETED if is_taken else NodeState.PENDING
    return Card(
        _id(shown, f"{name}##nothing"),
        Shape.NOTHING,
        "any other answer",
        state=None if view is None else state,
        kind="route",
        aside=is_over and not is_taken,
    )


def _loop(shown: Shown, node: Data) -> Block:
    """The body, with an edge that leads back and says how often it has been taken."""
    name, body = node["name"], node["body"]
    title = name if body["name"] == name else f"{name}: {body['name']}"
    block = _body(shown, {**body, "name": title}, name, shown.nodes.get(name))
    view = shown.nodes.get(name)
    most, ended = node["max_iterations"], view.tally.ended if view and view.tally else 0
    times = f"{ended} of at most {most} times" if ended else f"again, at most {most} times"
    every = (f"every {duration(node['every'])}",) if node.get("every") else ()
    if not isinstance(block, Card):
        return block
    return Repeated(block, (times, *every))


def _wait(shown: Shown, node: Data) -> Block:
    """A sleep, or a wait for a signal. What it waits for is said better by a unit that waits."""
    name, view = node["name"], shown.nodes.get(node["name"])
    card = _card(shown, name, Shape.WAIT, name, node["kind"])
    is_current = view is not None and any(unit.waits_for for unit in view.units)
    lines = () if is_current else (Line(plain(_wait_text(node))),)
    return _with_state(shown, replace(card, lines=lines), view, name)


def _wait_text(node: Data) -> str:
    if node["kind"] == "sleep":
        seconds = node.get("seconds")
        return "for as long as its function says" if seconds is None else f"for {duration(seconds)}"
    timeout = node.get("timeout")
    until = "" if timeout is None else f", at most {duration(timeout)}"
    return f"for {node['signal']}{until}"


def child_runs(row: Block) -> Iterator[UUID]:
    """Yield the child runs whose cards are drawn."""
    match row:
        case Card():
            if row.run is not None:
                yield row.run
        case Row():
            for block in row.blocks:
                yield from child_runs(block)
        case Beside():
            for block in (row.head, *row.blocks):
                yield from child_runs(block)
        case Repeated():
            yield from child_runs(row.card)
        case Framed():
            yield from child_runs(row.head)
            yield from child_runs(row.inner)
