"""The pages of the documentation, and the code blocks in them.

A comment right before a block says how it is treated:

    <!-- no-run: why -->          the block is not run
    <!-- needs: module -->        it is run where the module is installed
    <!-- file: shop.py -->        it is what the reader puts into that file
    <!-- terminal: worker -->     the command goes on; the reader gives it a terminal of its own
    <!-- ctrl-c: worker -->       before it, what goes on in that terminal is stopped
    <!-- when: words -->          it is run once ledger.txt holds these words

A Python block whose first line is a comment with a file's name, `# shop.py`, belongs into that file
as well. A block inside of a comment is run too: that is where what a reader sees happen is checked.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.addresses import ROOT

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[\w-]*)[^\n]*\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_FILE = re.compile(r"# (?P<name>\w+\.py)\n")
_COMMENT = re.compile(r"<!-- (?P<name>[\w-]+): (?P<value>[^>]+?) -->\s*\Z")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block; `line` is where its code begins in the page."""

    language: str
    code: str
    line: int
    directives: Mapping[str, str]
    is_hidden: bool = False

    @property
    def file(self) -> str | None:
        """The file that the block belongs into."""
        named = _FILE.match(self.code)
        return self.directives.get("file") or (named["name"] if named else None)


def pages() -> list[Path]:
    """README.md and everything below docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def lines_outside_blocks(page: Path) -> list[str]:
    """The page's lines without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8")).splitlines()


def name_of(page: Path) -> str:
    """The page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """The page's blocks, in order."""
    text = page.read_text(encoding="utf-8")
    return [_block(text, match) for match in _FENCE.finditer(text)]


def _block(text: str, match: re.Match[str]) -> Block:
    indent = match["indent"]
    code = "".join(line.removeprefix(indent) for line in match["code"].splitlines(keepends=True))
    line = text.count("\n", 0, match.start("code")) + 1
    before = text[: match.start()]
    is_hidden = before.rfind("<!--") > before.rfind("-->")
    return Block(match["language"], code, line, _directives(before), is_hidden)


def _directives(before: str) -> dict[str, str]:
    found: dict[str, str] = {}
    while comment := _COMMENT.search(before):
        found[comment["name"]] = comment["value"]
        before = before[: comment.start()]
    return found
