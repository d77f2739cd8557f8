"""Each misuse of the nodes is refused when it is written, and told what to do (P12)."""

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from celery_durable import RetryPolicy
from celery_durable.errors import ConfigurationError, InvalidWorkflow


def fraud(ctx: Any) -> None:
    pass


def price(ctx: Any) -> None:
    pass


@pytest.fixture
def order(durable: Any) -> Any:
    return durable.workflow("order").step(fraud, name="first")


@pytest.fixture
def stock(durable: Any) -> Any:
    return durable.workflow("stock", version=4).step(fraud)


def nameless(_ctx: Any) -> None:
    pass


nameless.__name__ = "<lambda>"

STEP = "a step, a function of the context or a workflow"
FUNCTION = "a function of the context"
TOLERANCE = "a whole number of items from 0 to 100000, or a percentage such as '5%'"
DURATION = "seconds or a timedelta, not negative and at most 100 years"
LENGTH = (
    "seconds or a timedelta (not negative, at most 100 years), an aware datetime, or a function of"
    " the context that returns one of them"
)
MAPPING = "name them with a mapping, {'a name': ..., 'another': ...}."
NAIVE = datetime(2030, 1, 1)  # noqa: DTZ001 - what is refused

Misuse = Callable[[Any, Any], object]
Misuses = Mapping[str, tuple[Misuse, str]]


def map_lines(order: Any, **options: Any) -> Any:
    return order.map("lines", **{"over": fraud, "handler": price, **options})


def tolerating(value: object, order: Any, _: Any) -> Any:
    return map_lines(order, tolerate=value)


def poll(order: Any, **options: Any) -> Any:
    return order.loop("poll", fraud, **{"max_iterations": 3, **options})


def nap(length: object) -> Misuse:
    return lambda order, _stock: order.sleep("nap", length)


def workflow_as_step(options: Mapping[str, object]) -> Misuse:
    return lambda order, stock: order.step(stock, **options)


def adding(add: Callable[[Any], object]) -> Misuse:
    return lambda order, _stock: add(order)


PARALLEL: Misuses = {
    "no branches": (
        lambda o, _: o.parallel("checks", []),
        "parallel 'checks' has no branches; give it one at least.",
    ),
    "an empty mapping": (
        lambda o, _: o.parallel("checks", {}),
        "parallel 'checks' has no branches; give it one at least.",
    ),
    "branches that are a string": (
        lambda o, _: o.parallel("checks", "fraud"),
        (
            "parallel 'checks': branches= takes a sequence or a mapping of steps and workflows,"
            " not 'fraud'."
        ),
    ),
    "an input for branches that are steps": (
        lambda o, _: o.parallel("checks", [fraud], map_input=str),
        (
            "parallel 'checks': map_input= makes the input of branches that are workflows, and it"
            " has none; leave it out."
        ),
    ),
    "branches that are one step": (
        lambda o, _: o.parallel("checks", 7),
        "parallel 'checks': branches= takes a sequence or a mapping of steps and workflows, not 7.",
    ),
    "branches without an order": (
        lambda o, _: o.parallel("checks", {7}),
        (
            "parallel 'checks': branches= takes a sequence or a mapping of steps and workflows,"
            " not {7}."
        ),
    ),
    "a branch in a sequence that cannot be called": (
        lambda o, _: o.parallel("checks", [fraud, "price"]),
        f"a branch of parallel 'checks' takes {STEP}, not 'price'.",
    ),
    "a branch in a mapping that cannot be called": (
        lambda o, _: o.parallel("checks", {"price": None}),
        f"branch 'price' of parallel 'checks' takes {STEP}, not None.",
    ),
    "the same step twice": (
        lambda o, _: o.parallel("checks", [fraud, price, fraud]),
        f"parallel 'checks' has two branches called 'fraud'; {MAPPING}",
    ),
    "the same workflow twice": (
        lambda o, s: o.parallel("checks", [s, fraud, s]),
        f"parallel 'checks' has two branches called 'stock'; {MAPPING}",
    ),
    "a reserved branch name": (
        lambda o, _: o.parallel("checks", {"a#compensate": fraud}),
        "The branch name 'a#compensate' holds a reserved character; leave out '#' and NUL.",
    ),
    "a branch name that is none": (
        lambda o, _: o.parallel("checks", {1: fraud}),
        "A branch needs a name: a string that is not empty, not 1.",
    ),
    "a reserved parallel name": (
        lambda o, _: o.parallel("checks#1", [fraud]),
        "The parallel name 'checks#1' holds a reserved character; leave out '#' and NUL.",
    ),
    "fail_fast that is no bool": (
        lambda o, _: o.parallel("checks", [fraud], fail_fast=1),
        "parallel 'checks': fail_fast= takes True or False, not 1.",
    ),
}

MAP: Misuses = {
    "a reserved map name": (
        lambda o, _: o.map("#", over=fraud, handler=price),
        "The map name '#' holds a reserved character; leave out '#' and NUL.",
    ),
    "over that is a list": (
        lambda o, _: map_lines(o, over=[1, 2]),
        f"over= of map 'lines' takes {FUNCTION}, not [1, 2].",
    ),
    "a handler that cannot be called": (
        lambda o, _: map_lines(o, handler="price"),
        f"handler of map 'lines' takes {STEP}, not 'price'.",
    ),
    "no concurrency": (
        lambda o, _: map_lines(o, max_concurrency=0),
        "map 'lines': max_concurrency= takes a whole number from 1 to 100000, not 0.",
    ),
    "a concurrency of True": (
        lambda o, _: map_lines(o, max_concurrency=True),
        "map 'lines': max_concurrency= takes a whole number from 1 to 100000, not True.",
    ),
    "a concurrency that is not whole": (
        lambda o, _: map_lines(o, max_concurrency=1.5),
        "map 'lines': max_concurrency= takes a whole number from 1 to 100000, not 1.5.",
    ),
    "an empty chunk": (
        lambda o, _: map_lines(o, chunk=0),
        "map 'lines': chunk= takes a whole number from 1 to 100000, not 0.",
    ),
    "no chunk": (
        lambda o, _: map_lines(o, chunk=None),
        "map 'lines': chunk= takes a whole number from 1 to 100000, not None.",
    ),
    "a chunk of more than there may be": (
        lambda o, _: map_lines(o, chunk=100_001),
        "map 'lines': chunk= takes a whole number from 1 to 100000, not 100001.",
    ),
    "a chunk that is more than may be open": (
        lambda o, _: map_lines(o, chunk=11, max_concurrency=10),
        (
            "map 'lines': chunk=11 is more items than max_concurrency=10 lets begin; lower the one"
            " or raise the other."
        ),
    ),
    "fail_fast of a map that is no bool": (
        lambda o, _: map_lines(o, fail_fast="yes"),
        "map 'lines': fail_fast= takes True or False, not 'yes'.",
    ),
    "an unknown on_error": (
        lambda o, _: map_lines(o, on_error="kep"),
        "map 'lines': on_error= takes 'fail' or 'keep', not 'kep'. Did you mean 'keep'?",
    ),
    "an on_error that is no word": (
        lambda o, _: map_lines(o, on_error=None),
        "map 'lines': on_error= takes 'fail' or 'keep', not None.",
    ),
    "a tolerance of less than none": (
        lambda o, _: map_lines(o, tolerate=-1),
        f"map 'lines': tolerate= takes {TOLERANCE}, not -1.",
    ),
    **{
        f"a tolerance of {value!r}": (
            partial(tolerating, value),
            f"map 'lines': tolerate= takes {TOLERANCE}, not {value!r}.",
        )
        for value in (True, 0.05, "5", "101%", "-5%", "%", "five%", "\u0661%")
    },
    "keeping errors and tolerating some": (
        lambda o, _: map_lines(o, on_error="keep", tolerate=1),
        (
            "map 'lines': with on_error='keep' any number of items may fail, so tolerate= has no"
            " meaning; leave one of them out."
        ),
    ),
    "tolerating failures and failing fast": (
        lambda o, _: map_lines(o, fail_fast=True, tolerate="5%"),
        (
            "map 'lines': fail_fast=True drops items at the first failure, which tolerate= lets"
            " pass; leave one of them out."
        ),
    ),
    "keeping errors and failing fast": (
        lambda o, _: map_lines(o, on_error="keep", fail_fast=True),
        (
            "map 'lines': with on_error='keep' no item fails the node, so fail_fast=True has no"
            " meaning; leave one of them out."
        ),
    ),
}

ROUTE: Misuses = {
    "a reserved route name": (
        lambda o, _: o.route("rail#route", fraud, {"wire": price}),
        "The route name 'rail#route' holds a reserved character; leave out '#' and NUL.",
    ),
    "a selector that cannot be called": (
        lambda o, _: o.route("rail", "wire", {"wire": price}),
        f"selector of route 'rail' takes {FUNCTION}, not 'wire'.",
    ),
    "no cases": (
        lambda o, _: o.route("rail", fraud, {}),
        "route 'rail' has no cases; give it one at least.",
    ),
    "no cases but a default": (
        lambda o, _: o.route("rail", fraud, {}, default=price),
        "route 'rail' has no cases; give it one at least.",
    ),
    "cases in a list": (
        lambda o, _: o.route("rail", fraud, [7]),
        "route 'rail': cases= takes a mapping of answers to steps and workflows, not [7].",
    ),
    "a case that cannot be called": (
        lambda o, _: o.route("rail", fraud, {"wire": "price"}),
        f"case 'wire' of route 'rail' takes {STEP}, not 'price'.",
    ),
    "a case whose name is no string": (
        lambda o, _: o.route("rail", fraud, {True: price}),
        "A case needs a name: a string that is not empty, not True.",
    ),
    "a reserved case name": (
        lambda o, _: o.route("rail", fraud, {"a#b": price}),
        "The case name 'a#b' holds a reserved character; leave out '#' and NUL.",
    ),
    "a default that names no case": (
        lambda o, _: o.route("rail", fraud, {"wire": price, "card": price}, default="wyre"),
        (
            "route 'rail': default='wyre' is no case of it; its cases are wire, card."
            " Did you mean 'wire'?"
        ),
    ),
    "a default that cannot be called": (
        lambda o, _: o.route("rail", fraud, {"wire": price}, default=False),
        f"default= of route 'rail' takes {STEP}, not False.",
    ),
    "a step for the default beside a case of that name": (
        lambda o, _: o.route("rail", fraud, {"default": price}, default=price),
        (
            "route 'rail' has a case 'default' already, which is what default= would be called;"
            " say default='default', or call that case something else."
        ),
    ),
}

LOOP: Misuses = {
    "a reserved loop name": (
        lambda o, _: o.loop("poll#0", fraud, max_iterations=3),
        "The loop name 'poll#0' holds a reserved character; leave out '#' and NUL.",
    ),
    "a body that cannot be called": (
        lambda o, _: o.loop("poll", None, max_iterations=3),
        f"handler of loop 'poll' takes {STEP}, not None.",
    ),
    "no iterations": (
        lambda o, _: poll(o, max_iterations=0),
        "loop 'poll': max_iterations= takes a whole number from 1 to 2147483647, not 0.",
    ),
    "iterations that are True": (
        lambda o, _: poll(o, max_iterations=True),
        "loop 'poll': max_iterations= takes a whole number from 1 to 2147483647, not True.",
    ),
    "iterations without end": (
        lambda o, _: poll(o, max_iterations=float("inf")),
        "loop 'poll': max_iterations= takes a whole number from 1 to 2147483647, not inf.",
    ),
    "until that cannot be called": (
        lambda o, _: poll(o, until=True),
        "until= of loop 'poll' takes a function of a result and the iterations done, not True.",
    ),
    "feedback that cannot be called": (
        lambda o, _: poll(o, feedback={}),
        "feedback= of loop 'poll' takes a function of a result, not {}.",
    ),
    "a loop's map_input that cannot be called": (
        lambda o, _: poll(o, map_input={"a": 1}),
        f"map_input= of loop 'poll' takes {FUNCTION}, not {{'a': 1}}.",
    ),
    "a negative time between iterations": (
        lambda o, _: poll(o, every=-1),
        f"loop 'poll': every= takes {DURATION}, not -1.",
    ),
    "a time between iterations that is True": (
        lambda o, _: poll(o, every=True),
        f"loop 'poll': every= takes {DURATION}, not True.",
    ),
    "an unknown on_exhausted": (
        lambda o, _: poll(o, on_exhausted="continue"),
        "loop 'poll': on_exhausted= takes 'complete' or 'fail', not 'continue'.",
    ),
    "a loop that can only fail": (
        lambda o, _: poll(o, on_exhausted="fail"),
        (
            "loop 'poll': on_exhausted='fail' fails every run without until=; give it until=, or"
            " leave on_exhausted out."
        ),
    ),
}

SLEEP: Misuses = {
    "a reserved sleep name": (
        lambda o, _: o.sleep("nap#1", 1),
        "The sleep name 'nap#1' holds a reserved character; leave out '#' and NUL.",
    ),
    "a naive datetime": (
        lambda o, _: o.sleep("nap", NAIVE),
        (
            f"sleep 'nap': {NAIVE!r} has no time zone, so nobody knows when it is; give it one, for"
            " example tzinfo=datetime.UTC."
        ),
    ),
    **{
        f"a sleep of {length!r}": (
            nap(length),
            f"sleep 'nap': duration= takes {LENGTH}, not {length!r}.",
        )
        for length in (
            -1,
            True,
            None,
            "1h",
            date(2030, 1, 1),
            float("nan"),
            float("inf"),
            timedelta(seconds=-1),
            timedelta.max,
        )
    },
}

SIGNAL: Misuses = {
    "a reserved name of a wait": (
        lambda o, _: o.wait_for_signal("signoff#1"),
        "The wait_for_signal name 'signoff#1' holds a reserved character; leave out '#' and NUL.",
    ),
    "a reserved signal name": (
        lambda o, _: o.wait_for_signal("signoff", "a#b"),
        "The signal name 'a#b' holds a reserved character; leave out '#' and NUL.",
    ),
    "an empty signal name": (
        lambda o, _: o.wait_for_signal("signoff", ""),
        "A signal needs a name: a string that is not empty, not ''.",
    ),
    "a negative timeout of a wait": (
        lambda o, _: o.wait_for_signal("signoff", timeout=timedelta(days=-1)),
        f"wait_for_signal 'signoff': timeout= takes {DURATION}, not {timedelta(days=-1)!r}.",
    ),
    "a timeout of a wait that is a string": (
        lambda o, _: o.wait_for_signal("signoff", timeout="3d"),
        f"wait_for_signal 'signoff': timeout= takes {DURATION}, not '3d'.",
    ),
    "an unknown on_timeout": (
        lambda o, _: o.wait_for_signal("signoff", timeout=1, on_timeout="contine"),
        (
            "wait_for_signal 'signoff': on_timeout= takes 'fail' or 'continue', not 'contine'."
            " Did you mean 'continue'?"
        ),
    ),
    "going on after no timeout": (
        lambda o, _: o.wait_for_signal("signoff", on_timeout="continue"),
        (
            "wait_for_signal 'signoff': on_timeout='continue' needs a timeout=; without one the"
            " wait has no end."
        ),
    ),
}

OPTIONS: Mapping[str, Mapping[str, object]] = {
    "args": {"args": fraud},
    "kwargs": {"kwargs": fraud},
    "retry": {"retry": RetryPolicy()},
    "timeout": {"timeout": 5},
    "queue": {"queue": "q"},
    "priority": {"priority": 0},
    "transactional": {"transactional": False},
    "suspends": {"suspends": True},
    "qeue": {"qeue": "q"},
}

CHILD: Misuses = {
    "a reserved name of a child": (
        lambda o, s: o.child_workflow("goods#1", s),
        "The child_workflow name 'goods#1' holds a reserved character; leave out '#' and NUL.",
    ),
    "a reserved name of a child's workflow": (
        lambda o, _: o.child_workflow("goods", "stock#1"),
        "The workflow name 'stock#1' holds a reserved character; leave out '#' and NUL.",
    ),
    "a child that is no workflow": (
        lambda o, _: o.child_workflow("goods", 7),
        "child_workflow 'goods': workflow= takes a workflow or the name of one, not 7.",
    ),
    "a child's map_input that cannot be called": (
        lambda o, s: o.child_workflow("goods", s, map_input={}),
        f"map_input= of child_workflow 'goods' takes {FUNCTION}, not {{}}.",
    ),
    "a version that is none": (
        lambda o, _: o.child_workflow("goods", "stock", version=0),
        "child_workflow 'goods': version= takes a whole number from 1 to 2147483647, not 0.",
    ),
    "another version than that of the workflow": (
        lambda o, s: o.child_workflow("goods", s, version=3),
        (
            "child_workflow 'goods': the workflow given is version 4 of 'stock', not version=3;"
            " give its name, 'stock', to run another version."
        ),
    ),
    "an unknown way to compensate": (
        lambda o, s: o.child_workflow("goods", s, compensate=True),
        "child_workflow 'goods': compensate= takes None or 'cascade', not True.",
    ),
    **{
        f"a workflow as a step with {option}": (
            workflow_as_step(given),
            (
                f"step 'stock' runs a workflow, which takes no {option}=; give the options to"
                " the steps in it, or use .child_workflow, which takes map_input, version,"
                " compensate."
            ),
        )
        for option, given in OPTIONS.items()
    },
    "a reserved name of a workflow as a step": (
        lambda o, s: o.step(s, name="a#b"),
        "The step name 'a#b' holds a reserved character; leave out '#' and NUL.",
    ),
}

TWICE: Misuses = {
    method: (
        adding(add),
        "Workflow 'order' has a node 'first' already; give this one another name.",
    )
    for method, add in {
        "parallel twice": lambda o: o.parallel("first", [fraud]),
        "map twice": lambda o: o.map("first", over=fraud, handler=fraud),
        "route twice": lambda o: o.route("first", fraud, {"wire": fraud}),
        "loop twice": lambda o: o.loop("first", fraud, max_iterations=3),
        "sleep twice": lambda o: o.sleep("first", 1),
        "wait_for_signal twice": lambda o: o.wait_for_signal("first"),
        "child_workflow twice": lambda o: o.child_workflow("first", "stock"),
    }.items()
}

MISUSES = {**PARALLEL, **MAP, **ROUTE, **LOOP, **SLEEP, **SIGNAL, **CHILD, **TWICE}


@pytest.mark.parametrize(("misuse", "told"), MISUSES.values(), ids=MISUSES.keys())
def test_a_misuse_is_refused_with_its_own_words_and_leaves_nothing_behind(
    order: Any, stock: Any, misuse: Misuse, told: str
) -> None:
    with pytest.raises(InvalidWorkflow, match=f"^{re.escape(told)}$"):
        misuse(order, stock)
    assert order.steps == ("first",)
    assert order.children == frozenset()
    assert order.plan.names == ("first",)


def test_a_branch_without_a_name_of_its_own_is_asked_for_one(order: Any) -> None:
    told = r"^parallel 'checks': <function .*> has no name of its own; name the branches with a map"
    for branch in (lambda _ctx: 1, nameless):
        with pytest.raises(InvalidWorkflow, match=told):
            order.parallel("checks", [fraud, branch])
    assert order.steps == ("first",)


def test_what_is_asked_for_by_position_or_name_cannot_be_left_out(order: Any) -> None:
    for incomplete in (
        lambda: order.loop("poll", fraud),
        lambda: order.map("lines", handler=fraud),
        lambda: order.map("lines", over=fraud),
        lambda: order.sleep("nap"),
        lambda: order.parallel("checks"),
    ):
        with pytest.raises(TypeError):
            incomplete()
    assert order.steps == ("first",)


ADDITIONS: Mapping[str, Callable[[Any], object]] = {
    "parallel": lambda o: o.parallel("more", [fraud]),
    "map": lambda o: o.map("more", over=fraud, handler=fraud),
    "route": lambda o: o.route("more", fraud, {"wire": fraud}),
    "loop": lambda o: o.loop("more", fraud, max_iterations=3),
    "sleep": lambda o: o.sleep("more", 1),
    "wait_for_signal": lambda o: o.wait_for_signal("more"),
    "child_workflow": lambda o: o.child_workflow("more", "stock"),
}


@pytest.mark.parametrize(("method", "add"), ADDITIONS.items(), ids=ADDITIONS.keys())
def test_a_frozen_workflow_takes_no_more_nodes(
    order: Any, method: str, add: Callable[[Any], object]
) -> None:
    plan = order.plan
    with pytest.raises(InvalidWorkflow, match=rf"\.{method} comes too late.* is a new version"):
        add(order)
    assert order.plan is plan
    assert order.steps == ("first",)


@pytest.mark.parametrize("add", ADDITIONS.values(), ids=ADDITIONS.keys())
def test_a_node_that_was_refused_can_be_added_under_another_name(
    durable: Any, add: Callable[[Any], object]
) -> None:
    order = durable.workflow("order").step(fraud, name="more")
    with pytest.raises(ConfigurationError):
        add(order)
    assert add(durable.workflow("other")).steps == ("more",)  # type: ignore[attr-defined]
