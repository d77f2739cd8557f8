"""A stored plan as a Mermaid flowchart.

Text that users chose is only ever written inside of quotes, with everything that could mean
something there as a numbered entity. https://mermaid.js.org/syntax/flowchart.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from celery_durable.core.names import subunit_of

Data = Mapping[str, Any]
"""A plan, or a part of it, as `Plan.as_data` made it."""

UNDOABLE = "↶"
"""Marks what has a compensator."""

SAFE = frozenset(" _-.,/:()+*=?!%")
"""Signs that mean nothing to Mermaid between quotes."""

MINUTE, HOUR, DAY = 60, 3600, 86400


class Colour(StrEnum):
    """How a node of a run stands, as far as a colour says it."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    COMPENSATED = "compensated"


STYLES: Mapping[Colour, str] = {
    Colour.PENDING: "fill:#f6f8fa,stroke:#8c959f,color:#57606a",
    Colour.RUNNING: "fill:#ddf4ff,stroke:#0969da,color:#0a3069,stroke-width:3px",
    Colour.WAITING: "fill:#fff8c5,stroke:#9a6700,color:#4d2d00",
    Colour.COMPLETED: "fill:#dafbe1,stroke:#1a7f37,color:#044f1e",
    Colour.FAILED: "fill:#ffebe9,stroke:#cf222e,color:#82071e,stroke-width:3px",
    Colour.CANCELLED: "fill:#eaeef2,stroke:#57606a,color:#24292f,stroke-dasharray:4",
    Colour.COMPENSATED: "fill:#fbefff,stroke:#8250df,color:#512a97",
}


@dataclass(frozen=True, slots=True)
class Mark:
    """How a node or a part of one stands; `note` is a line below its name."""

    colour: Colour
    note: str = ""


@dataclass
class _Drawing:
    """Lines so far, and the edges that lead to whatever comes next: (from, label)."""

    marks: Mapping[str, Mark]
    lines: list[str] = field(default_factory=list[str])
    exits: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    colours: list[tuple[str, Colour]] = field(default_factory=list[tuple[str, Colour]])

    def add(self, id: str, shape: tuple[str, str], *texts: str, unit: str | None) -> None:
        """A shape with these lines of text; `unit` is what its mark is found by."""
        mark = self.marks.get(unit) if unit is not None else None
        if mark is not None:
            self.colours.append((id, mark.colour))
        said = [*texts, mark.note if mark else ""]
        label = "<br/>".join(escaped(text) for text in said if text)
        self.lines.append(f'{id}{shape[0]}"{label}"{shape[1]}')

    def link(self, start: str, end: str, label: str = "", arrow: str = "-->") -> None:
        said = f'|"{escaped(label)}"|' if label else ""
        self.lines.append(f"{start} {arrow}{said} {end}")

    def enter(self, id: str) -> None:
        """Everything that is left open leads to `id`."""
        for start, label in self.exits:
            self.link(start, id, label)
        self.exits = []


BOX = ("[", "]")
CHILD = ("[[", "]]")
FORK = ("[/", "\\]")
JOIN = ("[\\", "/]")
CHOICE = ("{", "}")
STADIUM = ("([", "])")
FLAG = (">", "]")


def flowchart(plan: Data, marks: Mapping[str, Mark] | None = None) -> str:
    """The plan as a flowchart; with `marks`, by node or `node#part`, coloured."""
    drawing = _Drawing(marks or {})
    title = f"{plan['workflow']} v{plan['version']}"
    drawing.add("begin", STADIUM, title, unit=None)
    drawing.exits = [("begin", "")]
    for number, node in enumerate(plan["nodes"]):
        _DRAW[node["kind"]](drawing, f"n{number}", node)
    drawing.enter("finish")
    drawing.add("finish", STADIUM, "result" if plan.get("returns") else "end", unit=None)
    lines = [*drawing.lines, *_coloured(drawing.colours)]
    return "\n".join(["flowchart TD", *(f"    {line}" for line in lines)])


def _coloured(colours: Iterable[tuple[str, Colour]]) -> Iterator[str]:
    colours = list(colours)
    for colour in Colour:
        ids = [one for one, found in colours if found is colour]
        if ids:
            yield f"classDef {colour} {STYLES[colour]}"
            yield f"class {','.join(ids)} {colour}"


def _draw_body(drawing: _Drawing, id: str, body: Data, title: str, unit: str) -> None:
    """A step, or a child workflow in a frame of its own shape."""
    undoable = f" {UNDOABLE}" if body.get("compensated") else ""
    if "workflow" in body:
        version = f" v{body['version']}" if body.get("version") else ""
        runs = f"runs {body['workflow']}{version}"
        drawing.add(id, CHILD, title + undoable, runs, unit=unit)
    else:
        drawing.add(id, BOX, title + undoable, unit=unit)


def _draw_step(drawing: _Drawing, id: str, node: Data) -> None:
    drawing.enter(id)
    _draw_body(drawing, id, node, node["name"], node["name"])
    drawing.exits = [(id, "")]


def _draw_parallel(drawing: _Drawing, id: str, node: Data) -> None:
    """The branches fan out of one bar and into another."""
    drawing.enter(id)
    drawing.add(id, FORK, node["name"], unit=node["name"])
    for number, branch in enumerate(node["branches"]):
        inner = f"{id}b{number}"
        _draw_body(drawing, inner, branch, branch["name"], subunit_of(node["name"], branch["name"]))
        drawing.link(id, inner)
        drawing.link(inner, f"{id}join")
    drawing.add(f"{id}join", JOIN, "all have ended", unit=None)
    drawing.exits = [(f"{id}join", "")]


def _draw_map(drawing: _Drawing, id: str, node: Data) -> None:
    """A frame around the item, which stands for all of them."""
    window = node.get("max_concurrency")
    size = f"at most {window} at a time" if window else "all at a time"
    if node.get("tolerate"):
        size += f", {node['tolerate']} may fail"
    drawing.enter(id)
    drawing.lines.append(f'subgraph {id}["{escaped(node["name"] + ": each item, " + size)}"]')
    _draw_body(drawing, f"{id}item", node["item"], node["item"]["name"], node["name"])
    drawing.lines.append("end")
    drawing.exits = [(id, "")]


def _draw_route(drawing: _Drawing, id: str, node: Data) -> None:
    """The cases lead from a diamond, under their keys."""
    name, default = node["name"], node.get("default", False)
    drawing.enter(id)
    drawing.add(id, CHOICE, name, unit=name)
    exits: list[tuple[str, str]] = []
    for number, case in enumerate(node["cases"]):
        inner = f"{id}c{number}"
        label = f"{case['name']}, or any other" if case["name"] == default else case["name"]
        _draw_body(drawing, inner, case, case["name"], subunit_of(name, case["name"]))
        drawing.link(id, inner, label)
        exits.append((inner, ""))
    drawing.exits = [*exits, *([(id, "any other")] if default is None else [])]


def _draw_loop(drawing: _Drawing, id: str, node: Data) -> None:
    """An edge leads back, and says how often at most."""
    body, name = node["body"], node["name"]
    drawing.enter(id)
    title = name if body["name"] == name else f"{name}: {body['name']}"
    _draw_body(drawing, id, body, title, name)
    every = f", every {duration(node['every'])}" if node.get("every") else ""
    drawing.link(id, id, f"again, at most {node['max_iterations']} times{every}")
    drawing.exits = [(id, "")]


def _draw_sleep(drawing: _Drawing, id: str, node: Data) -> None:
    seconds = node.get("seconds")
    length = "sleeps as its function says" if seconds is None else f"sleeps {duration(seconds)}"
    drawing.enter(id)
    drawing.add(id, STADIUM, node["name"], length, unit=node["name"])
    drawing.exits = [(id, "")]


def _draw_signal(drawing: _Drawing, id: str, node: Data) -> None:
    timeout = node.get("timeout")
    until = "" if timeout is None else f", at most {duration(timeout)}"
    wait = f"waits for {node['signal']}{until}"
    drawing.enter(id)
    drawing.add(id, FLAG, node["name"], wait, unit=node["name"])
    drawing.exits = [(id, "")]


_DRAW = {
    "step": _draw_step,
    "child": _draw_step,
    "parallel": _draw_parallel,
    "map": _draw_map,
    "route": _draw_route,
    "loop": _draw_loop,
    "sleep": _draw_sleep,
    "signal": _draw_signal,
}


def duration(seconds: float) -> str:
    """`90` as `1m 30s`: every unit that is not nought."""
    if seconds < MINUTE:
        return f"{seconds:g}s"
    parts: list[str] = []
    rest = round(seconds)
    for size, letter in ((DAY, "d"), (HOUR, "h"), (MINUTE, "m"), (1, "s")):
        if rest >= size:
            parts.append(f"{rest // size}{letter}")
            rest %= size
    return " ".join(parts)


def escaped(text: str) -> str:
    """`text` as it may stand between quotes: on one line, and nothing in it means anything."""
    return "".join(_entity(character) for character in " ".join(text.split()))


def _entity(character: str) -> str:
    if character.isalnum() or character in SAFE:
        return character
    if not character.isprintable():
        return " "
    return f"#{ord(character)};" if character.isascii() else character
