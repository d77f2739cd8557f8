"""Each line of the page on compatibility is held by a test that exists."""

import ast
import re

import pytest

from tests.addresses import ROOT

PAGE = ROOT / "docs/reference/compatibility.md"

TEST = re.compile(r"`(?P<file>tests/[\w/]+\.py)::(?P<name>\w+)`")

LINES = [
    line
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("|") and not line.startswith(("|---", "| setting "))
]


@pytest.mark.parametrize("line", LINES)
def test_a_line_names_tests_that_exist(line: str) -> None:
    named = TEST.findall(line)
    assert named, "the last column names a test: `tests/....py::test_...`"
    for file, name in named:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert name in functions, f"{file} has no {name}"
