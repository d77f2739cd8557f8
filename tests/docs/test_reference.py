import re
from pathlib import Path

import pytest

import celery_durable
from celery_durable.core.status import TRANSITIONS, Status
from celery_durable.store import tables
from tests.addresses import ROOT
from tests.docs import reference
from tests.docs.pages import name_of, pages
from tests.model.token_changes import CHANGES, CLAIMED, TokenState

TABLES = [table.name for table in tables.metadata.sorted_tables]

ROW = re.compile(r"^\| `(?P<column>\w+)` \| (?P<type>[^|]+) \| .+ \|$", re.MULTILINE)


@pytest.mark.parametrize("page", reference.PAGES, ids=name_of)
def test_a_reference_page_says_what_the_code_says(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text == reference.current(text), "run: python -m tests.docs.reference"


def test_everything_that_is_generated_has_its_place() -> None:
    placed = [
        match["name"]
        for page in reference.PAGES
        for match in reference.REGION.finditer(page.read_text(encoding="utf-8"))
    ]
    assert sorted(placed) == sorted(reference.GENERATED)


@pytest.mark.parametrize("name", TABLES)
def test_the_columns_of_a_table_are_described_in_order(name: str) -> None:
    text = (ROOT / "docs/reference/tables.md").read_text(encoding="utf-8")
    _, found, after = text.partition(f"\n## {name}\n")
    assert found, f"no section on {name}"
    section, _, _ = after.partition("\n## ")
    described = [(row["column"], row["type"]) for row in ROW.finditer(section)]
    assert described == reference.columns_of(name)


def test_the_diagram_has_every_legal_change_and_no_other() -> None:
    drawn = set(re.findall(r"^    (\w+) --> (\w+)$", reference.status_diagram(), re.MULTILINE))
    legal = {(str(before), str(after)) for before in TRANSITIONS for after in TRANSITIONS[before]}
    assert drawn == legal


def test_the_diagram_of_a_token_has_a_claim_in_every_change() -> None:
    drawn = set(re.findall(r"^    (\w+) --> (\w+)$", reference.token_diagram(), re.MULTILINE))
    before = {(str(place), CLAIMED) for place in CHANGES if CHANGES[place]}
    after = {(CLAIMED, str(place)) for follow in CHANGES.values() for place in follow}
    assert drawn == before | after


@pytest.mark.parametrize("generated", ["status diagram", "token diagram", "token changes"])
def test_a_change_of_the_core_makes_the_page_on_statuses_stale(
    monkeypatch: pytest.MonkeyPatch, generated: str
) -> None:
    text = (ROOT / "docs/reference/statuses.md").read_text(encoding="utf-8")
    assert f"<!-- generated: {generated} -->" in text
    ended = dict.fromkeys(Status, frozenset[Status]())
    gone = dict.fromkeys(TokenState, frozenset[TokenState]())
    monkeypatch.setattr(reference, "TRANSITIONS", ended)
    monkeypatch.setattr(reference, "CHANGES", gone)
    made = reference.GENERATED[generated]().strip()
    assert made not in text
    assert reference.current(text) != text


def test_a_stale_page_is_found() -> None:
    page = "<!-- generated: statuses -->\nold\n<!-- /generated -->"
    assert reference.current(page) != page
    assert reference.current(reference.current(page)) == reference.current(page)


def test_every_exported_name_is_explained_in_the_reference() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in reference.PAGES)
    missing = [name for name in celery_durable.__all__ if f"`{name}`" not in text]
    assert not missing


LINK = re.compile(r"\]\((?P<target>[^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    targets = [match["target"] for match in LINK.finditer(page.read_text(encoding="utf-8"))]
    broken = [
        target for target in targets if "://" not in target and not (page.parent / target).exists()
    ]
    assert not broken
