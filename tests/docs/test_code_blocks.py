import importlib.util
from pathlib import Path

import pytest

from tests.docs.pages import Block, blocks, name_of, pages
from tests.docs.playground import Playground


def python_blocks(page: Path) -> list[Block]:
    """The blocks to run; a page with terminals is followed in `test_tutorial`."""
    found = blocks(page)
    if any("terminal" in block.directives for block in found):
        return []
    return [b for b in found if b.language == "python" and "no-run" not in b.directives]


def is_missing(block: Block) -> bool:
    needed = block.directives.get("needs")
    return needed is not None and importlib.util.find_spec(needed) is None


WITH_PYTHON = [page for page in pages() if python_blocks(page)]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_the_python_blocks_of_a_page_run_in_order(
    page: Path, database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    playground = Playground(page, database_url, monkeypatch)
    chosen = python_blocks(page)
    left_out = [block for block in chosen if is_missing(block)]
    with playground.opened():
        for block in chosen:
            if block not in left_out:
                playground.run(block)
    if left_out:
        needed = ", ".join(sorted({block.directives["needs"] for block in left_out}))
        pytest.skip(f"all but {len(left_out)} blocks ran; these need {needed}")


def test_every_block_names_its_language() -> None:
    nameless = [
        f"{name_of(page)}:{block.line}"
        for page in pages()
        for block in blocks(page)
        if not block.language
    ]
    assert not nameless
