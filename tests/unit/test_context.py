"""What a handler is given."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_durable import Durable, Step
from celery_durable.core.names import compensation_of
from celery_durable.core.status import Status
from celery_durable.core.token import Token
from celery_durable.workflow.context import Context, Results
from tests.unit.values import DECLINED, RUN_ID, TOKEN_ID, FixedJournal, at, attempt, claim

RESULTS = {"reserve": {"id": 7}, "charge": None}

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="#\0"), min_size=1)


def context(token: Token, journal: FixedJournal | None = None, input: object = None) -> Context:
    return Context(claim(token, input, error=DECLINED), journal or FixedJournal())


def test_a_context_tells_which_attempt_of_which_unit_of_which_run_it_is() -> None:
    undoing = context(at("charge#compensate", rollback=Status.FAILED, attempt=4))
    assert (undoing.run_id, undoing.workflow) == (RUN_ID, "order")
    assert (undoing.step, undoing.unit, undoing.attempt) == ("charge", "charge#compensate", 4)


def test_the_idempotency_key_is_the_same_for_every_attempt_and_after_every_crash() -> None:
    first = context(at("charge"))
    later = context(at("charge", attempt=3, crashes=2, failures=(attempt(1), attempt(2))))
    assert first.idempotency_key == later.idempotency_key
    assert len(first.idempotency_key) == 36
    assert first.idempotency_key.isascii()


@given(st.lists(st.tuples(st.uuids(), names), min_size=2, unique=True))
def test_no_two_units_have_the_same_idempotency_key(units: list[tuple[UUID, str]]) -> None:
    tokens = [
        Token(TOKEN_ID, run_id, node=name, unit=unit, rollback=rollback)
        for run_id, name in units
        for unit, rollback in ((name, None), (compensation_of(name), Status.FAILED))
    ]
    assert len({context(token).idempotency_key for token in tokens}) == len(tokens)


def test_nothing_is_loaded_until_it_is_asked_for() -> None:
    journal = FixedJournal(RESULTS)
    given = context(at("ship"), journal, input={"sku": "A1"})
    assert (given.step, given.attempt, given.error, given.idempotency_key)[0] == "ship"
    assert journal.asked == []
    assert given.results["reserve"] == {"id": 7}
    assert journal.asked == ["reserve"]


def test_the_input_and_each_result_are_loaded_once() -> None:
    journal = FixedJournal(RESULTS)
    given = context(at("ship"), journal, input={"sku": "A1"})
    for _ in range(3):
        assert given.input == {"sku": "A1"}
        assert given.results["reserve"] == {"id": 7}
        assert given.results["charge"] is None
    assert journal.asked == ["decode", "reserve", "charge"]


def test_results_are_a_mapping_of_the_nodes_that_completed() -> None:
    results = Results(FixedJournal(RESULTS))
    assert (list(results), len(results)) == (["reserve", "charge"], 2)
    assert dict(results) == RESULTS
    assert "charge" in results
    assert "ship" not in results
    assert results.get("ship", "none yet") == "none yet"


def test_counting_results_loads_none_of_them() -> None:
    journal = FixedJournal(RESULTS)
    results = Results(journal)
    assert list(results)[: len(results)] == ["reserve", "charge"]
    assert set(journal.asked) == {"completed nodes"}


def test_a_result_that_is_not_there_is_explained() -> None:
    with pytest.raises(KeyError, match=r"'ship' has not completed .* completed: reserve, charge"):
        Results(FixedJournal(RESULTS))["ship"]
    with pytest.raises(KeyError, match="completed: none"):
        Results(FixedJournal())["ship"]


def reserve(_: Context) -> dict[str, int]:
    return {"id": 0}


@pytest.mark.parametrize(
    "step",
    [reserve, Durable().step(reserve), Durable().step(lambda _: None, name="reserve")],
    ids=["function", "step", "named step"],
)
def test_the_result_of_a_step_is_that_of_its_node(step: Step) -> None:
    assert context(at("charge"), FixedJournal(RESULTS)).result_of(step) == {"id": 7}


def test_the_result_of_what_is_no_step_is_explained() -> None:
    given = context(at("charge"), FixedJournal(RESULTS))
    with pytest.raises(KeyError, match="'release' has not completed"):
        given.result_of(Durable().step(name="release")(reserve))
    with pytest.raises(TypeError, match="takes a step, not 'reserve'"):
        given.result_of("reserve")  # type: ignore[call-overload]


def test_results_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        Results(FixedJournal(RESULTS))["ship"] = 1  # type: ignore[index]


def test_a_compensator_is_given_the_result_it_undoes_and_why() -> None:
    journal = FixedJournal(RESULTS)
    undoing = context(at("reserve#compensate", rollback=Status.FAILED), journal)
    assert undoing.result == undoing.result == {"id": 7}
    assert undoing.error == DECLINED
    assert journal.asked == ["reserve"]


def test_on_the_way_forward_there_is_no_result_to_undo() -> None:
    journal = FixedJournal({"reserve": 1})
    assert context(at("reserve"), journal).result is None
    assert journal.asked == []


def test_a_session_outside_of_a_transactional_step_is_explained() -> None:
    with pytest.raises(RuntimeError, match=r"'charge' is not transactional; .*transactional=True"):
        _ = context(at("charge")).session


def test_log_records_say_which_attempt_wrote_them(caplog: pytest.LogCaptureFixture) -> None:
    context(at("charge", attempt=2)).logger.warning("declined")
    (record,) = caplog.records
    assert record.name == "celery_durable.workflow.order"
    facts = {name: vars(record)[name] for name in ("run_id", "workflow", "unit", "attempt")}
    assert facts == {"run_id": str(RUN_ID), "workflow": "order", "unit": "charge", "attempt": 2}
