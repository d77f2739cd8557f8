"""When, and how long after a failure, a unit is tried again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeGuard, get_args

from celery_durable.errors import ConfigurationError, number_of_seconds, seconds_of

Backoff = Literal["exponential", "linear", "fixed"]

OnExhausted = Literal["fail", "pause"]

ExceptionTypes = tuple[type[BaseException], ...]


UNLIMITED = 2**31 - 1
"""The `max_attempts` of a unit that is tried until it succeeds."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a unit is tried and how long is waited between tries.

    `max_attempts` counts the first try too. `initial`, `maximum` and `max_elapsed` are seconds. The
    wait before try n+1 is `initial * factor ** (n - 1)` (exponential), `initial * n` (linear) or
    `initial` (fixed), at most `maximum`. With `jitter` the wait is drawn evenly from its upper half
    ("equal jitter", Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
    No try begins later than `max_elapsed` after the first began.

    `on_exhausted` says what becomes of a unit that has used up its tries. With "fail" it fails, and
    the run is rolled back. With "pause" it stays where it is with its error, until somebody mends
    the cause and calls `retry_now`, `skip` or `cancel`.

    Only failures that are an instance of `retry_on` and not of `give_up_on` are tried again. With
    `Exception` in it, `retry_on` means whatever a handler may raise, `sys.exit()` too.
    """

    max_attempts: int = 3
    backoff: Backoff = "exponential"
    initial: float = 1.0
    factor: float = 2.0
    maximum: float = 60.0
    jitter: bool = True
    max_elapsed: float | None = None
    retry_on: ExceptionTypes = (Exception,)
    give_up_on: ExceptionTypes = ()
    on_exhausted: OnExhausted = "fail"

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_attempts", _attempts(self.max_attempts))
        if self.backoff not in get_args(Backoff):
            raise _wrong("backoff", "one of " + ", ".join(get_args(Backoff)), self.backoff)
        if self.on_exhausted not in get_args(OnExhausted):
            expected = "one of " + ", ".join(get_args(OnExhausted))
            raise _wrong("on_exhausted", expected, self.on_exhausted)
        for name in ("initial", "factor", "maximum", "max_elapsed"):
            object.__setattr__(self, name, _seconds(name, getattr(self, name)))
        for name in ("retry_on", "give_up_on"):
            object.__setattr__(self, name, _exception_types(name, getattr(self, name)))

    def retries(self, failure: BaseException) -> bool:
        """Return True if a failure of this type may be tried again at all."""
        is_any = Exception in self.retry_on and not isinstance(failure, Exception)
        is_wanted = is_any or isinstance(failure, self.retry_on)
        return is_wanted and not isinstance(failure, self.give_up_on)

    def delay_after(self, attempt: int, chance: float) -> float:
        """Seconds to wait after try `attempt` (from 1); `chance` is a number from 0 up to 1."""
        match self.backoff:
            case "exponential":
                wait = self.initial * _power(self.factor, attempt - 1)
            case "linear":
                wait = self.initial * attempt
            case "fixed":
                wait = self.initial
        wait = min(wait, self.maximum)
        return wait * (1 + chance) / 2 if self.jitter else wait


def _power(factor: float, exponent: int) -> float:
    try:
        return factor**exponent
    except OverflowError:
        return 1e300


def _wrong(name: str, expected: str, value: object) -> ConfigurationError:
    return ConfigurationError(f"RetryPolicy({name}=...) takes {expected}, not {value!r}.")


def _attempts(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong("max_attempts", "a whole number", value)
    if value < 1:
        raise _wrong("max_attempts", "1 or more (the first try counts)", value)
    return value


def _seconds(name: str, value: object) -> float | None:
    if value is None and name == "max_elapsed":
        return None
    seconds = seconds_of(value)
    if seconds is None:
        number = number_of_seconds(value)
        raise _wrong(name, "a number that is not negative", value if number is None else number)
    return seconds


def _is_exception_type(kind: object) -> TypeGuard[type[BaseException]]:
    return isinstance(kind, type) and issubclass(kind, BaseException)


def _exception_types(name: str, value: Any) -> ExceptionTypes:
    given: list[object] = [*value] if isinstance(value, tuple | list) else [value]
    for kind in given:
        if not _is_exception_type(kind):
            raise _wrong(name, "exception classes", kind)
    return tuple(kind for kind in given if _is_exception_type(kind))


STEP_RETRY = RetryPolicy()
"""The policy of a step that names none, unless `durable_default_retry` is set."""

COMPENSATOR_RETRY = RetryPolicy(max_attempts=5)
"""The policy of a compensator that names none: an undo is worth more patience."""
