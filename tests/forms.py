"""Two forms of a test that is long by repetition: short, or long under ``--long``.

The short form goes once through each kind of what the long one repeats.
"""

import os
from typing import TypeVar

import pytest

T = TypeVar("T")

LONG = "DURABLE_TEST_LONG"
"""The environment variable that ``--long`` sets, for what a module does as it is collected."""


def is_long() -> bool:
    return LONG in os.environ


def of_the_long_form() -> pytest.MarkDecorator:
    """Marks a test that goes once more through what another one shows."""
    return pytest.mark.skipif(not is_long(), reason="of the long form: --long")


def short_or_long(short: T, long: T) -> T:
    """How often, how many, or which."""
    return long if is_long() else short
