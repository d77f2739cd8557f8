"""Celery's own command line, called in the process of the tests, and what it answers."""

from __future__ import annotations

import io
import json
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from celery import Celery
from celery.bin.celery import celery as celery_command

ESCAPE = "\x1b"


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    @property
    def fields(self) -> list[list[str]]:
        """The words of each line."""
        return [line.split() for line in self.out.splitlines()]


Cli = Callable[..., Answer]


def called(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    app: Celery,
    *arguments: str,
    flags: Sequence[str] = (),
) -> Answer:
    """What Celery's own command line says, called in this process."""
    module = types.ModuleType("cli_under_test")
    module.app = app  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        celery_command.main(
            [*flags, "-A", module.__name__, "durable", *arguments], prog_name="celery"
        )
    said = capsys.readouterr()
    code = ended.value.code
    return Answer(code if isinstance(code, int) else 0, said.out, said.err)


def assert_refused(answer: Answer, code: int, *words: str) -> None:
    """One line on standard error that says so, and nothing else."""
    assert answer.code == code
    assert answer.out == ""
    assert answer.err.startswith("Error: ")
    assert answer.err.count("\n") == 1, answer.err
    for word in words:
        assert word in answer.err


def is_plain(text: str) -> bool:
    return ESCAPE not in text and not any("\u2500" <= c <= "\u257f" for c in text)


class Terminal(io.StringIO):
    """What calls itself a terminal, to be read back."""

    def isatty(self) -> bool:
        return True
