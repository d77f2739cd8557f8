"""Where a mutant goes: a snippet within one named function, class or assignment of a module.

A snippet is compared word by word. Line breaks, indentation, comments and the comma that a
formatter puts before a closing bracket make no difference, and neither does anything outside the
named place.
"""

import ast
import re
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

_WORD = re.compile(
    r"""
    (?P<quotes>\"{3}|'{3})(?:\\.|.)*?(?P=quotes)
    | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*'
    | \#[^\n]*
    | \w+
    | [^\w\s]
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    start: int
    end: int


class NotFoundOnce(Exception):
    """The code has moved on: the place or the snippet in it is not there exactly once."""


def patched(source: str, qualname: str, old: str, new: str) -> str:
    """The source with `old` replaced by `new` within `qualname`; "" is the whole module.

    Raises `NotFoundOnce`. Lines of `new` after its first are indented like the line it goes to.
    """
    if not (spans := [_offsets(source, each) for each in _named(source, qualname)]):
        raise NotFoundOnce(f"there is no {qualname!r}")
    wanted = [word.text for word in _words(old)]
    ends_with_comma = wanted[-1:] == [","]
    if ends_with_comma:
        wanted.pop()
    found = [
        (words[0].start, words[-1].end)
        for span in spans
        for words in _occurrences(_words(source), wanted, span)
    ]
    if len(found) != 1:
        raise NotFoundOnce(f"`old` occurs {len(found)} times")
    ((start, end),) = found
    if ends_with_comma and (comma := re.compile(r"\s*,").match(source, end)):
        end = comma.end()
    line = source[source.rfind("\n", 0, start) + 1 : start]
    indent = line[: len(line) - len(line.lstrip())]
    first, *others = textwrap.dedent(new).strip("\n").split("\n")
    inserted = "\n".join([first.lstrip(), *(indent + other for other in others)])
    return source[:start] + inserted + source[end:]


def changed_function(before: str, after: str, qualname: str) -> str | None:
    """The function that `qualname` is or lies in, where nothing but its body was changed."""
    names = qualname.split(".")
    for n in range(1, len(names) + 1):
        outer = ".".join(names[:n])
        try:
            found = [*_named(before, outer), *_named(after, outer)]
        except SyntaxError:
            return None
        match found:
            case [ast.FunctionDef() | ast.AsyncFunctionDef(), _]:
                heads = {ast.dump(type(each)(**vars(each) | {"body": []})) for each in found}
                return outer if len(heads) == 1 else None
            case [ast.ClassDef(), _]:
                continue
            case _:
                return None
    return None


_parsing = threading.Lock()
"""Python 3.11 counts how deep it is in a tree for all threads together, and fails when two parse.
https://github.com/python/cpython/issues/106905
"""


@lru_cache(maxsize=128)
def _parsed(source: str) -> ast.Module:
    """Nobody changes it: it is the same for all mutants of a file."""
    with _parsing:
        return ast.parse(source)


def _named(source: str, qualname: str) -> list[ast.stmt] | list[ast.Module]:
    """The statements of that name: more than one where a name is bound in two branches."""
    module = _parsed(source)
    if not qualname:
        return [module]
    found: list[ast.stmt] = []
    bodies: list[ast.AST] = [module]
    for name in qualname.split("."):
        found = [each for body in bodies for each in _bound_in(body) if name in _names(each)]
        bodies = [*found]
    return found


def _bound_in(body: ast.AST) -> Iterator[ast.stmt]:
    """The statements of a body, those in its branches too, not those of functions and classes."""
    for child in ast.iter_child_nodes(body):
        if isinstance(child, ast.stmt):
            yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.expr):
            yield from _bound_in(child)


def _names(statement: ast.stmt) -> set[str]:
    match statement:
        case ast.FunctionDef(name) | ast.AsyncFunctionDef(name) | ast.ClassDef(name):
            return {name}
        case ast.Assign(targets=targets):
            return {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
        case ast.AnnAssign(target=ast.Name(name)):
            return {name}
        case _:
            return set()


def _offsets(source: str, node: ast.stmt | ast.Module) -> tuple[int, int]:
    """Where the lines of a node begin and end in the text, decorators included."""
    if isinstance(node, ast.Module):
        return 0, len(source)
    decorators = getattr(node, "decorator_list", [])
    first = min(each.lineno for each in [node, *decorators])
    lines = source.splitlines(keepends=True)
    assert node.end_lineno is not None  # the parser sets it
    return len("".join(lines[: first - 1])), len("".join(lines[: node.end_lineno]))


def _words(text: str) -> list[_Word]:
    """The words of a text without its comments and without commas before closing brackets."""
    words = [_Word(m.group(), m.start(), m.end()) for m in _WORD.finditer(text)]
    words = [word for word in words if not word.text.startswith("#")]
    closing = {a.start for a, b in pairwise(words) if a.text == "," and b.text in ")]}"}
    return [word for word in words if word.start not in closing]


def _occurrences(
    words: list[_Word], wanted: list[str], span: tuple[int, int]
) -> Iterator[list[_Word]]:
    within = [word for word in words if span[0] <= word.start < span[1]]
    for at in range(len(within) - len(wanted) + 1):
        window = within[at : at + len(wanted)]
        if [word.text for word in window] == wanted:
            yield window
