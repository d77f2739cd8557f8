"""`once`, the decorator of an attribute that an object makes once, and `forget`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

T = TypeVar("T")


class once(Generic[T]):  # noqa: N801 - a decorator
    """Like `functools.cached_property`, which two threads may make twice since Python 3.12.

    All share one lock, since making one may need others. A forked child has a lock of its own, and
    the values that its parent had made by then.
    """

    lock = threading.RLock()

    def __init__(self, func: Callable[[Any], T]) -> None:
        self.func = func
        self.__doc__ = func.__doc__

    def __set_name__(self, _: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, owner: None, _: type) -> Self: ...

    @overload
    def __get__(self, owner: object, _: type) -> T: ...

    def __get__(self, owner: object | None, _: type) -> Self | T:
        if owner is None:
            return self
        made = vars(owner)  # later reads find the value there and do not come here
        with once.lock:
            if self._name not in made:
                made[self._name] = self.func(owner)
        found: T = made[self._name]
        return found


def forget(owner: object) -> None:
    """Forget all that `once` has made for this object; it is made anew when it is next needed."""
    names = {
        name
        for kind in type(owner).__mro__
        for name, found in vars(kind).items()
        if isinstance(found, once)
    }
    with once.lock:
        for name in names & vars(owner).keys():
            del vars(owner)[name]


def _replace_lock() -> None:
    """A thread of the parent, which the child lacks, may have held the lock in the fork."""
    once.lock = threading.RLock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_replace_lock)
