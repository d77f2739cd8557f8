"""The mutants of this library fit the code, and the tests they name are there."""

import ast
from collections import Counter
from functools import lru_cache

import pytest

from tests.addresses import ROOT
from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import Mutant, mutated


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_finds_its_snippet_exactly_once_and_is_other_code(mutant: Mutant) -> None:
    source = mutant.file(ROOT).read_text(encoding="utf-8")
    assert what_it_says(mutated(mutant, ROOT)) != what_it_says(source)


@lru_cache(maxsize=128)
def what_it_says(source: str) -> str:
    """The code without its comments and its layout."""
    return ast.dump(ast.parse(source))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_tests_that_must_notice_are_there(mutant: Mutant) -> None:
    for test in mutant.tests:
        path, _, name = test.partition("::")
        function = name.partition("[")[0]
        assert f"def {function}(" in (ROOT / path).read_text(encoding="utf-8"), test


def test_no_two_mutants_have_one_name() -> None:
    assert [name for name, times in Counter(m.name for m in MUTANTS).items() if times > 1] == []
