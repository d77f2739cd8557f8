"""The golden files say what runs: a DBA reads in them what Postgres gets."""

from __future__ import annotations

import pytest

from tests.integration.driving import World
from tests.integration.golden import files
from tests.integration.golden.formatting import formatted
from tests.integration.golden.work import GOLDEN, text_of


@pytest.mark.parametrize("name", GOLDEN)
def test_a_golden_file_is_the_statement_that_reaches_postgres(world: World, name: str) -> None:
    difference = files.difference(name, text_of(GOLDEN[name], world))
    if difference:
        pytest.fail(f"{files.REMEDY}\n\n{difference}", pytrace=False)


def test_every_golden_file_is_of_a_statement_that_runs() -> None:
    assert files.names() == set(GOLDEN)


def test_a_statement_that_has_changed_differs_from_its_file() -> None:
    golden = files.read("release")
    assert files.difference("release", golden) == ""
    condition = "AND durable_token.fence = :held_fence::uuid"
    difference = files.difference("release", golden.replace(condition, ""))
    assert f"-    {condition}" in difference


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("SELECT a + b::INTEGER", "a + b::int"),
        ("SELECT CAST(a + b AS INTEGER)", "CAST(a + b AS INT)"),
        ("SELECT %(unit)s::VARCHAR", ":unit::varchar"),
        ("SELECT a %% 2", "a % 2"),
        ("SELECT rollback FROM public.durable_token", "rollback"),
    ],
)
def test_the_layout_changes_no_meaning(text: str, shown: str) -> None:
    laid_out = formatted(text)
    assert shown in laid_out
    assert formatted(laid_out) == laid_out
