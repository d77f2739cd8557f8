"""Finds the types of a dataclass's fields."""

from __future__ import annotations

import builtins
import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, get_type_hints


@lru_cache(maxsize=1024)
def hints_of(model: Any) -> Mapping[str, Any]:
    """The types of a dataclass's fields, but for those with a name in them that is not found."""
    try:
        return get_type_hints(model)
    except (NameError, TypeError, AttributeError):
        return {name: hint for base in reversed(model.__mro__) for name, hint in _own(base)}


def _own(base: type) -> Iterator[tuple[str, Any]]:
    """Each type of a class that can be found: a name may be imported for type checkers only."""
    names = vars(sys.modules.get(base.__module__, builtins))
    for name, one in inspect.get_annotations(base).items():
        alone = SimpleNamespace(__annotations__={name: one})
        with suppress(NameError, TypeError, AttributeError):
            yield from get_type_hints(alone, names, dict(vars(base))).items()
