import importlib.util
import re
from pathlib import Path

import pytest

from tests.docs.pages import Block, blocks, name_of, pages
from tests.docs.playground import Playground
from tests.docs.shell import command_lines


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
    playground = Playground(tmp_path, database_url, monkeypatch)
    chosen = python_blocks(page)
    left_out = [block for block in chosen if is_missing(block)]
    with playground.opened():
        playground.write([block for block in chosen if block.file])
        for block in chosen:
            if not block.file and block not in left_out:
                playground.run(block)
    if left_out:
        needed = ", ".join(sorted({block.directives["needs"] for block in left_out}))
        pytest.skip(f"all but {len(left_out)} blocks ran; these need {needed}")


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_a_reader_sees_all_that_the_blocks_of_a_page_need(page: Path) -> None:
    """What is hidden checks what the reader did; it sets nothing up."""
    chosen = python_blocks(page)
    assert not chosen[0].is_hidden
    assert not [block.line for block in chosen if block.is_hidden and block.file]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_the_workers_of_a_page_consume_what_its_workflows_need(page: Path) -> None:
    chosen = [block for block in python_blocks(page) if not block.is_hidden]
    if not any(".result(" in block.code and not block.file for block in chosen):
        return
    named = re.findall(r'queue="(\w+)"', "".join(block.code for block in chosen))
    consumed = [
        queue
        for words in command_lines(page)
        if "worker" in words and "-Q" in words
        for queue in words[words.index("-Q") + 1].split(",")
    ]
    assert {"durable", *named} <= set(consumed)


def test_every_block_names_its_language() -> None:
    nameless = [
        f"{name_of(page)}:{block.line}"
        for page in pages()
        for block in blocks(page)
        if not block.language
    ]
    assert not nameless
