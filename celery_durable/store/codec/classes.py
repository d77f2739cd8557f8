"""Classes by name: which another process finds, and which may be read here.

A class is stored as "module:qualified name"; one of this library's by its public name, wherever it
lives. A writer of the journal must not be able to choose what is imported: a class is looked for
only in modules that are loaded, or that `durable_allowed_types` names, and in this library.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

OURS = "celery_durable"

HOME: Mapping[str, str] = {
    "Delivery": "store.signals",
    "ErrorRecord": "errors",
    "FailedAttempt": "core.failure",
    "Forked": "store.read.position",
    "JournalEntry": "store.read.history",
    "Progress": "store.read.position",
    "RetryPolicy": "core.retry",
    "RunSnapshot": "store.read.views",
    "RunSummary": "store.read.listing",
    "Status": "core.status",
    "UnitInHand": "store.read.units",
    "WorkerProcess": "store.read.units",
}
"""Where the library's own values live now. They are stored by their public names, so that they are
read again wherever their classes move.
"""

_allowed: set[str] = set()


def allow(patterns: Iterable[str]) -> None:
    """Allow importing modules for these patterns: "module:Class", or "package." for all in it."""
    _allowed.update(patterns)


@lru_cache(maxsize=1024)
def reference_to(kind: type) -> tuple[str, str | None]:
    """The name of a class, and the reason why no other process finds it by that name, or None."""
    module, name = kind.__module__, kind.__qualname__
    if f"{OURS}.{HOME.get(name)}" == module:
        return f"{OURS}:{name}", None
    reference = f"{module}:{name}"
    if "<locals>" in name:
        return reference, (
            "its class is local to a function, so that no other process can find it; define it at"
            " the top of a module"
        )
    if module == "__main__":
        return reference, (
            "its class is in __main__, which is another module in a worker; define it in a module"
            " that both import"
        )
    if _named(module, name) is not kind:
        return reference, (
            f"{reference} is not its class, so that no other process can find it; give the class a"
            " name at the top of its module"
        )
    return reference, None


def class_named(reference: str) -> type | None:
    """The class of this name; None if there is none that may be read here."""
    module, _, name = reference.partition(":")
    if module == OURS and name in HOME:
        module = f"{OURS}.{HOME[name]}"
        importlib.import_module(module)
    if module not in sys.modules:
        if not _is_allowed(module, reference):
            return None
        try:
            importlib.import_module(module)
        except ImportError:
            return None
    found = _named(module, name)
    if not isinstance(found, type) or reference_to(found)[1] is not None:
        return None
    return found


def _is_allowed(module: str, reference: str) -> bool:
    packages = {f"{module}."[: i + 1] for i, sign in enumerate(f"{module}.") if sign == "."}
    return reference in _allowed or not _allowed.isdisjoint(packages)


def _named(module: str, name: str) -> Any:
    """The value of this name in a loaded module; None if there is none.

    Reads `__dict__`: a module's `__getattr__` may import others.
    """
    found: Any = sys.modules.get(module)
    if name in getattr(found, "__dict__", ()):  # "Page[shop.Item]" is one name
        return found.__dict__[name]
    for part in name.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    return found
