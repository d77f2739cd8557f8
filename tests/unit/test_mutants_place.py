"""Finding the place of a mutant: by name, and word by word within it."""

import pytest

from tests.mutants.place import NotFoundOnce, changed_function, patched

SOURCE = '''\
LIMIT, FIRST = 3, 1


def take(names: list[str]) -> int:
    """Take (1, 2) and leave the rest."""
    return sum(
        len(name),  # of each, "all"
        FIRST,
    )


@decorated(LIMIT)
class Counter:
    step: int = 1

    def add(self, by: int) -> None:
        if by > LIMIT:
            by = LIMIT
            self.warn()
        self.count += by

    def take(self) -> int:
        return self.count
'''


def line_of(found: str, source: str) -> str:
    return next(line for line in source.splitlines() if found in line)


@pytest.mark.parametrize(
    ("qualname", "old", "new"),
    [
        ("LIMIT", "3, 1", "4, 1"),
        ("FIRST", "LIMIT, FIRST = 3, 1", "LIMIT, FIRST = 3, 2"),
        ("take", "sum(len(name), FIRST)", "0"),
        ("take", "len(name), FIRST", "1"),
        ("take", "FIRST,", ""),
        ("take", "return sum(\n\n  len(name)", "return max(len(name)"),
        ("Counter", "@decorated(LIMIT)", ""),
        ("Counter.step", "1", "2"),
        ("Counter.add", "if by > LIMIT: by = LIMIT\nself.warn()", "pass"),
        ("Counter.take", "self.count", "0"),
        ("", "self.count += by", "pass"),
    ],
)
def test_a_snippet_is_found_however_it_is_laid_out(qualname: str, old: str, new: str) -> None:
    changed = patched(SOURCE, qualname, old, new)
    compile(changed, "changed", "exec")
    assert changed != SOURCE


def test_only_the_snippet_is_replaced() -> None:
    assert patched(SOURCE, "Counter.take", "count", "step") == SOURCE.replace(
        "return self.count", "return self.step"
    )


def test_further_lines_are_indented_like_the_first() -> None:
    new = "if by:\n    self.warn()\nself.count -= by"
    changed = patched(SOURCE, "Counter.add", "self.count += by", new)
    assert "        if by:\n            self.warn()\n        self.count -= by\n" in changed


@pytest.mark.parametrize(
    ("qualname", "old", "why"),
    [
        ("gone", "1", "there is no 'gone'"),
        ("Counter.gone", "1", "there is no 'Counter.gone'"),
        ("take", "self.count", "occurs 0 times"),
        ("take", "of each", "occurs 0 times"),
        ("Counter", "self.count", "occurs 2 times"),
        ("Counter.add", "count += b", "occurs 0 times"),
    ],
)
def test_what_is_not_there_exactly_once_is_refused(qualname: str, old: str, why: str) -> None:
    with pytest.raises(NotFoundOnce, match=why):
        patched(SOURCE, qualname, old, "")


def test_a_name_that_is_bound_in_two_branches_stands_for_both() -> None:
    source = "if A:\n    def f(): return 1\nelse:\n    def f(): return 2\n"
    assert "return 3" in patched(source, "f", "return 2", "return 3")


@pytest.mark.parametrize(
    ("qualname", "old", "new", "function"),
    [
        ("take", "FIRST,", "LIMIT,", "take"),
        ("take", "names: list[str]", "names: set[str]", None),
        ("LIMIT", "3, 1", "4, 1", None),
        ("Counter.add", "by = LIMIT", "by = FIRST", "Counter.add"),
        ("Counter.step", "1", "2", None),
        ("Counter", "@decorated(LIMIT)", "", None),
        ("Counter", "self.count += by", "pass", None),
        ("", "self.count += by", "pass", None),
        ("take", "sum(len(name), FIRST)", "(", None),
        ("take.inner", "1", "2", "take"),
    ],
)
def test_what_changes_the_body_of_one_function_is_known(
    qualname: str, old: str, new: str, function: str | None
) -> None:
    source = SOURCE.replace(
        "    return sum(", "    def inner():\n        return 1\n\n    return sum("
    )
    changed = patched(source, qualname, old, new)
    assert changed_function(source, changed, qualname) == function
