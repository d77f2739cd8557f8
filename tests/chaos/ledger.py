"""What the handlers did, apart from the engine: each process appends to a file of its own.

A line is written with one system call, so that a process that is killed leaves whole lines. Times
are those of the monotonic clock, which the processes of a machine share.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

FOLDER = "CHAOS_LEDGER"


@dataclass(frozen=True, slots=True)
class Execution:
    """One call of a handler: `ended` is None when its process never came to the end of it."""

    run_id: UUID
    unit: str
    attempt: int
    pid: int
    began: float
    ended: float | None


@contextmanager
def executing(ctx: Any) -> Iterator[None]:
    """Note that a handler begins, and that it ends; an attempt that raises has ended too."""
    number = uuid4().hex
    about = {"run": str(ctx.run_id), "unit": ctx.unit, "attempt": ctx.attempt, "pid": os.getpid()}
    _append({"call": number, "began": time.monotonic(), **about})
    try:
        yield
    finally:
        _append({"call": number, "ended": time.monotonic()})


def _append(line: dict[str, Any]) -> None:
    os.write(_file(os.getpid()), (json.dumps(line) + "\n").encode())


@cache
def _file(pid: int) -> int:
    path = Path(os.environ[FOLDER]) / f"{pid}.jsonl"
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def read(folder: Path) -> list[Execution]:
    """Every execution, in the order in which they began."""
    began: dict[str, dict[str, Any]] = {}
    ended: dict[str, float] = {}
    for path in folder.glob("*.jsonl"):
        for text in path.read_text().splitlines():
            line = json.loads(text)
            if "began" in line:
                began[line["call"]] = line
            else:
                ended[line["call"]] = line["ended"]
    found = [
        Execution(
            UUID(line["run"]),
            line["unit"],
            line["attempt"],
            line["pid"],
            line["began"],
            ended.get(call),
        )
        for call, line in began.items()
    ]
    return sorted(found, key=lambda one: one.began)
