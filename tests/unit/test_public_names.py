"""What the package shows to its users."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import celery_durable

PACKAGE = Path(celery_durable.__file__).parent

PROMISE = re.compile(r"\bP\d+\b")


def test_dir_shows_the_public_names_and_the_version() -> None:
    for name in celery_durable.__all__:
        assert getattr(celery_durable, name)  # what was imported for one is not shown
    shown = [name for name in dir(celery_durable) if not name.startswith("_")]
    assert shown == sorted(celery_durable.__all__)
    assert "__version__" in dir(celery_durable)
    assert re.fullmatch(r"\d+\.\d+\.\d+", celery_durable.__version__)


def test_a_module_of_ours_that_cannot_be_imported_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An AttributeError in it would read as `cannot import name 'Durable'`."""
    (tmp_path / "broken.py").write_text("import math\n\nmath.no_such_function\n")
    monkeypatch.setattr(celery_durable, "__path__", [*celery_durable.__path__, str(tmp_path)])
    monkeypatch.setitem(celery_durable._HOME, "Durable", "broken")
    with pytest.raises(ImportError, match="no_such_function"):
        from celery_durable import Durable  # noqa: F401, PLC0415


def test_docstrings_do_not_number_what_they_promise() -> None:
    numbered = [
        f"{path.relative_to(PACKAGE)}: {found}"
        for path in PACKAGE.rglob("*.py")
        for found in docstrings(path)
        if PROMISE.search(found)
    ]
    assert not numbered


def docstrings(path: Path) -> list[str]:
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = (node for node in ast.walk(tree) if isinstance(node, documented))
    return [inspect.cleandoc(ast.get_docstring(node) or "") for node in nodes]
