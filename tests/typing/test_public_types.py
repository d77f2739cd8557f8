"""The typed public API: code as users write it, under `mypy --strict`.

The snippets are never run. Each states with `assert_type` what a user gets, and with
`type: ignore[...]` what a user is warned of: strict mypy refuses an `ignore` that is not needed.
"""

import re
from collections import defaultdict
from pathlib import Path

import pytest
from mypy import api

import celery_durable

pytestmark = pytest.mark.timeout(600)  # mypy, which knows nothing the first time

HERE = Path(__file__).parent
SNIPPETS = sorted((HERE / "snippets").glob("*.py"))

Errors = dict[str, list[str]]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Where mypy keeps what it knows: from one session to the next, where pytest keeps things."""
    kept = getattr(request.config, "cache", None)
    return kept.mkdir("mypy") if kept else tmp_path_factory.mktemp("mypy")


@pytest.fixture(scope="module")
def errors(cache: Path) -> Errors:
    """What mypy says of each snippet; one run for all."""
    return errors_of(SNIPPETS, cache)


def errors_of(paths: list[Path], cache: Path) -> Errors:
    options = ["--config-file", str(HERE / "mypy.ini"), "--cache-dir", str(cache)]
    options += ["--no-error-summary", "--hide-error-context", "--no-pretty", "--no-color-output"]
    told, failure, _status = api.run([*options, *map(str, paths)])
    assert not failure, failure
    found: Errors = defaultdict(list)
    for line in told.splitlines():
        place, separator, message = line.partition(": error: ")
        if separator:
            path, _, number = place.rpartition(":")
            found[Path(path).name].append(f"line {number}: {message}")
        else:
            assert re.search(": note: ", line), line
    return found


@pytest.mark.parametrize("path", SNIPPETS, ids=lambda path: path.stem)
def test_a_users_code_type_checks(path: Path, errors: Errors) -> None:
    assert errors.get(path.name, []) == []


def test_all_errors_are_in_the_snippets(errors: Errors) -> None:
    assert errors.keys() <= {path.name for path in SNIPPETS}


def test_a_wrong_type_is_found(tmp_path: Path, cache: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text("from celery_durable import Status\nstatus: int = Status.FAILED\n")
    (message,) = errors_of([wrong], cache)["wrong.py"]
    assert message.startswith("line 2: Incompatible types in assignment")


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(celery_durable.__file__).parent / "py.typed").exists()
