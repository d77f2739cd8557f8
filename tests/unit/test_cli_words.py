"""Arguments that name a run before other words, or leave it to --workflow and --run-key."""

from __future__ import annotations

from uuid import UUID, uuid4

import click
import pytest

from celery_durable.cli.application import run_and_words

RUN = uuid4()


@pytest.mark.parametrize(
    ("words", "by_key", "run", "rest"),
    [
        ((str(RUN), "charge", "7"), False, RUN, ("charge", "7")),
        ((str(RUN), "charge"), False, RUN, ("charge",)),
        (("charge", "7"), True, None, ("charge", "7")),
        (("charge",), True, None, ("charge",)),
    ],
)
def test_the_run_is_left_out_where_its_key_names_it(
    words: tuple[str, ...], by_key: bool, run: UUID | None, rest: tuple[str, ...]
) -> None:
    assert run_and_words(words, "UNIT", "RESULT", by_key=by_key, optional=1) == (run, rest)


@pytest.mark.parametrize("optional", [0, 1])
@pytest.mark.parametrize("by_key", [False, True])
def test_too_few_and_too_many_words_are_wrong_usage(optional: int, by_key: bool) -> None:
    for words in ((), (str(RUN), "a", "b", "c")):
        with pytest.raises(click.UsageError, match="RUN UNIT RESULT, or --workflow, --run-key"):
            run_and_words(words, "UNIT", "RESULT", by_key=by_key, optional=optional)


def test_a_run_that_is_no_uuid_is_wrong_usage() -> None:
    with pytest.raises(click.BadParameter, match="'x' is not a valid UUID"):
        run_and_words(("x", "a"), "UNIT", by_key=False)


def test_one_word_may_be_all_there_is() -> None:
    assert run_and_words((str(RUN),), "UNIT", by_key=False, optional=1) == (RUN, ())
    assert run_and_words((), "UNIT", by_key=True, optional=1) == (None, ())
