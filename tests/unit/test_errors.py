"""Every error: where it stands in the tree, what its message says, and that it can travel."""

import copy
import inspect
import pickle
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

import celery_durable
from celery_durable import errors
from celery_durable.errors import (
    BrokerUnavailable,
    ChildFailed,
    ConfigurationError,
    DatabaseUnavailable,
    DuplicateWorkflow,
    DurableError,
    ErrorRecord,
    GiveUp,
    InvalidWorkflow,
    LoopExhausted,
    NotSerializable,
    PayloadError,
    PayloadTooLarge,
    ResultTimeout,
    RetryLater,
    RunCancelled,
    RunError,
    RunExists,
    RunFailed,
    RunNotFound,
    RunRefused,
    RunTimeout,
    SchemaOutOfDate,
    SignalTimeout,
    StepTimeout,
    TooDeep,
    UnknownRoute,
    UnknownWorkflow,
    WorkerLost,
    nearest,
)

RUN = UUID("01900000-0000-7000-8000-000000000001")
DECLINED = ErrorRecord("shop.CardDeclined", "no money", "Traceback ...", unit="charge")

EXAMPLES: list[DurableError] = [
    DurableError("what"),
    ConfigurationError("what"),
    InvalidWorkflow("what"),
    DuplicateWorkflow("what"),
    UnknownWorkflow("ordr", 2, ["refund", "order"]),
    SchemaOutOfDate("public", "0001", "0002"),
    DatabaseUnavailable("what"),
    BrokerUnavailable([3, 4], ConnectionError("refused")),
    RunError(RUN, "what"),
    RunNotFound(RUN),
    RunRefused(RUN, "what"),
    RunExists(RUN, "order", "order-42", "running"),
    RunFailed(RUN, DECLINED),
    RunCancelled(RUN, "out of stock"),
    ResultTimeout(RUN, 2.5, "running"),
    PayloadError("what"),
    NotSerializable("the result of charge['card']", "Card", "it has no JSON form"),
    PayloadTooLarge("the result of charge", 2_000, 1_000),
    GiveUp("no money"),
    RetryLater(5, counts=True, reason="busy"),
    StepTimeout("what"),
    RunTimeout("what"),
    WorkerLost("what"),
    ChildFailed("what"),
    SignalTimeout("what"),
    TooDeep("w", 101, 100),
    UnknownRoute("what"),
    LoopExhausted("what"),
]


def classes() -> set[type[DurableError]]:
    found = (member for _, member in inspect.getmembers(errors, inspect.isclass))
    return {member for member in found if issubclass(member, DurableError)}


def drawn(docstring: str) -> Iterator[tuple[str, str]]:
    """The (class, its base) pairs of the tree in a docstring."""
    above: list[str] = []
    for line in docstring.splitlines():
        stem = line.removeprefix("    ")
        name = stem.lstrip("│├└─ ").split(" ", 1)[0]
        if stem == line or not name:
            continue
        depth = (len(stem) - len(stem.lstrip("│├└─ "))) // 4
        if not name[0].isupper():  # words over a group: what is under them is of the class above
            above[depth:] = [above[depth - 1]]
            continue
        above[depth:] = [name]
        if depth:
            yield name, above[depth - 1]


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    real = {(c.__name__, c.__base__.__name__) for c in classes() - {DurableError} if c.__base__}
    assert set(drawn(errors.__doc__ or "")) == real


def test_every_error_has_an_example_here() -> None:
    assert {type(example) for example in EXAMPLES} == classes()


def test_every_error_a_user_may_catch_is_a_public_name() -> None:
    internal = {"BrokerUnavailable"}
    assert {c.__name__ for c in classes()} - internal <= set(celery_durable.__all__)


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (
            UnknownWorkflow("ordr", 2, ["refund", "order"]),
            [
                "'ordr' version 2",
                "known here: order, refund.",
                "mean 'order'?",
                "Import the module",
            ],
        ),
        (UnknownWorkflow("order", None, []), ["Unknown workflow 'order';", "known here: none."]),
        (
            SchemaOutOfDate("engine", None, "0002"),
            ["'engine' does not exist", "needs 0002", "celery -A <your app> durable migrate"],
        ),
        (SchemaOutOfDate("engine", "0001", "0002"), ["is at revision 0001", "durable migrate"]),
        (BrokerUnavailable([3], ConnectionError("refused")), ["broker is not available: refused"]),
        (
            RunNotFound(RUN),
            [f"No run {RUN}.", "rows have been deleted", "celery -A <your app> durable list"],
        ),
        (
            RunFailed(RUN, DECLINED),
            [f"Run {RUN} failed at charge: shop.CardDeclined: no money"],
        ),
        (RunFailed(RUN, None), [f"Run {RUN} failed"]),
        (RunCancelled(RUN, "out of stock"), [f"Run {RUN} was cancelled: out of stock"]),
        (RunCancelled(RUN), [f"Run {RUN} was cancelled"]),
        (
            ResultTimeout(RUN, 2.5, "running"),
            [str(RUN), "still running after 2.5 s", "goes on", f"durable why {RUN}"],
        ),
        (
            NotSerializable("the result of charge.card", "Card", "it has no JSON form"),
            [
                "the result of charge.card (Card) cannot be stored: it has no JSON form.",
                "dataclasses",
            ],
        ),
        (
            PayloadTooLarge("the input of order", 2_000, 1_000),
            [
                "the input of order is 2000 bytes",
                "limit is 1000 (durable_max_payload_bytes)",
                "pass",
            ],
        ),
        (GiveUp("no money"), ["no money"]),
        (RetryLater(5), ["retry in 5 s"]),
        (RetryLater(5, reason="busy"), ["busy"]),
    ],
)
def test_a_message_says_what_happened_to_which_thing_and_what_to_do_next(
    error: DurableError, parts: list[str]
) -> None:
    for part in parts:
        assert part in str(error)


def test_the_facts_of_a_message_are_attributes() -> None:
    unknown = UnknownWorkflow("ordr", 2, ["order"])
    assert (unknown.workflow, unknown.version) == ("ordr", 2)
    schema = SchemaOutOfDate("engine", "0001", "0002")
    assert (schema.schema, schema.found, schema.expected) == ("engine", "0001", "0002")
    assert BrokerUnavailable(iter([3, 4]), "why").sent == (3, 4)
    assert RunNotFound(RUN).run_id == RUN
    failed = RunFailed(RUN, DECLINED)
    assert (failed.run_id, failed.error) == (RUN, DECLINED)
    cancelled = RunCancelled(RUN, "out of stock")
    assert (cancelled.run_id, cancelled.reason) == (RUN, "out of stock")
    timeout = ResultTimeout(RUN, 2.5, "running")
    assert (timeout.run_id, timeout.timeout, timeout.status) == (RUN, 2.5, "running")
    wrong = NotSerializable("x", "Card", "why")
    assert (wrong.path, wrong.type_name, wrong.why) == ("x", "Card", "why")
    large = PayloadTooLarge("x", 2, 1)
    assert (large.what, large.size, large.limit) == ("x", 2, 1)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_survives_the_way_from_one_process_to_another(error: DurableError) -> None:
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)


@pytest.mark.parametrize(
    ("delay", "seconds"), [(0, 0.0), (2, 2.0), (0.5, 0.5), (timedelta(minutes=1), 60.0)]
)
def test_retry_later_takes_seconds_or_a_timedelta(delay: Any, seconds: float) -> None:
    assert RetryLater(delay).delay == seconds


@pytest.mark.parametrize(
    "delay", [-1, -0.1, timedelta(seconds=-1), float("nan"), float("inf"), "x", True, None], ids=str
)
def test_retry_later_refuses_a_delay_that_no_clock_reaches(delay: Any) -> None:
    with pytest.raises(ValueError, match="RetryLater takes a delay in seconds"):
        RetryLater(delay)


def test_retry_later_does_not_count_unless_it_says_so() -> None:
    assert RetryLater(1).counts is False
    assert RetryLater(1, counts=True).counts is True


def test_the_nearest_name_is_named_only_if_it_is_near() -> None:
    assert nearest("chrage", ["charge", "reserve"]) == " Did you mean 'charge'?"
    assert nearest("ship", ["charge", "reserve"]) == ""
    assert nearest("ship", iter(())) == ""
