"""`ctx.callback_url` makes a link for the next answer of a signal, from the settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from celery_durable import Durable, Suspend
from celery_durable.testing import make_context
from celery_durable.workflow.callbacks import Callback, read
from tests.integration.driving import World

SECRET = "a secret of the tests"
URL = "https://shop.example.com/durable"
LINKS = {"web_secret": SECRET, "web_url": f"{URL}/", "default_retry": {"max_attempts": 1}}


class Approval(BaseModel):
    ok: bool


def said(url: object) -> Callback:
    """What a link says."""
    text = str(url)
    assert text.startswith(f"{URL}/callback/")
    found = read(text.removeprefix(f"{URL}/callback/"), SECRET)
    assert found is not None
    return found


def asking(link: Callable[[Any], object], **options: Any) -> Callable[[Durable], None]:
    """A workflow whose step `ask` makes a link, and which waits for `founder` in `signoff` then."""

    def define(durable: Durable) -> None:
        durable.workflow("w").step(link, name="ask").wait_for_signal(
            "signoff", "founder", schema=Approval, **options
        )

    return define


def test_a_link_says_which_run_and_which_wait_it_answers(world: World) -> None:
    worker = world.worker(asking(lambda ctx: ctx.callback_url("founder")), **LINKS)
    run = worker.start("w")
    world.drain(worker)
    assert said(run.status().results["ask"]) == Callback(run.id, "founder", "signoff", wait=0)


def test_a_link_may_carry_the_answer_and_expire(world: World) -> None:
    worker = world.worker(
        asking(
            lambda ctx: ctx.callback_url("founder", data={"ok": True}, expires=timedelta(days=1))
        ),
        **LINKS,
    )
    run = worker.start("w")
    before = world.one("SELECT clock_timestamp()")
    world.drain(worker)
    found = said(run.status().results["ask"])
    assert found.data == '{"ok":true}'
    assert found.expires_at is not None
    assert before + timedelta(days=1) <= found.expires_at
    assert found.expires_at <= world.one("SELECT clock_timestamp()") + timedelta(days=1)


def test_a_step_that_suspends_links_to_itself_and_each_time_it_asks_is_another_wait(
    world: World,
) -> None:
    def ask(ctx: Any) -> Any:
        links = [*(ctx.snapshot or []), ctx.callback_url()]
        return Suspend(links) if len(links) < 3 else links

    worker = world.worker(lambda durable: durable.workflow("w").step(ask), **LINKS)
    run = worker.start("w")
    for answer in (1, 2):
        world.drain(worker)
        run.resume("ask", answer)
    world.drain(worker)
    links = [said(url) for url in run.result(0)["ask"]]
    assert links == [Callback(run.id, "ask", "ask", wait=n) for n in range(3)]


def test_a_wait_after_another_for_the_same_signal_is_another_wait(world: World) -> None:
    def define(durable: Durable) -> None:
        workflow = durable.workflow("w").wait_for_signal("first", "go")
        workflow.step(lambda ctx: ctx.callback_url("go"), name="ask")
        workflow.wait_for_signal("second", "go")

    worker = world.worker(define, **LINKS)
    run = worker.start("w")
    run.resume("go", 1)
    world.drain(worker)
    assert said(run.status().results["ask"]) == Callback(run.id, "go", "second", wait=1)


def test_a_link_with_a_key_is_bound_to_that(world: World) -> None:
    worker = world.worker(asking(lambda ctx: ctx.callback_url("founder", key="ann")), **LINKS)
    run = worker.start("w")
    world.drain(worker)
    found = said(run.status().results["ask"])
    assert found == Callback(run.id, "founder", "signoff", key="ann")
    assert found.signal_key == "ann"


@dataclass
class Refusal:
    """A link that is not made: how it is asked for, by which settings, and what is said."""

    link: Callable[[Any], object]
    error: str
    says: str
    settings: dict[str, Any]


REFUSALS = [
    Refusal(
        lambda ctx: ctx.callback_url("founder"),
        "ConfigurationError",
        "ctx.callback_url needs the settings durable_web_secret",
        {"web_url": URL},
    ),
    Refusal(
        lambda ctx: ctx.callback_url("founder"),
        "ConfigurationError",
        "and durable_web_url, where people open the page",
        {"web_secret": SECRET},
    ),
    Refusal(
        lambda ctx: ctx.callback_url("founder", data={"ok": "perhaps"}),
        "PayloadError",
        "The data of the signal 'founder' is not a Approval: ok: Input should be a valid boolean",
        LINKS,
    ),
    Refusal(
        lambda ctx: ctx.callback_url("other", data="x" * 1_600),
        "PayloadTooLarge",
        "the data of other is 1602 bytes of JSON, the limit is 1500.",
        LINKS,
    ),
    Refusal(
        lambda ctx: ctx.callback_url("founder", expires=-1),
        "ConfigurationError",
        "expires= takes seconds or a timedelta, above 0",
        LINKS,
    ),
    Refusal(lambda ctx: ctx.callback_url(7), "ConfigurationError", "signal= takes a string", LINKS),
]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_link_that_cannot_be_made_fails_the_step_and_says_why(
    world: World, refusal: Refusal
) -> None:
    settings = {"default_retry": {"max_attempts": 1}, **refusal.settings}
    worker = world.worker(asking(refusal.link), **settings)
    run = worker.start("w")
    world.drain(worker)
    error = run.status().error
    assert error is not None
    assert error.type == refusal.error
    assert refusal.says in error.message


def test_a_link_for_a_wait_that_is_past_is_refused(world: World) -> None:
    def define(durable: Durable) -> None:
        workflow = durable.workflow("w").wait_for_signal("go")
        workflow.step(lambda ctx: ctx.callback_url("go"), name="ask")

    worker = world.worker(define, **LINKS)
    run = worker.start("w")
    run.resume("go", 1)
    world.drain(worker)
    error = run.status().error
    assert error is not None
    assert "no wait for the signal 'go' follows 'ask' in 'w'; go came before it" in error.message


def test_an_answer_for_an_earlier_wait_is_refused_by_the_run_that_has_gone_on(
    world: World,
) -> None:
    """What a page could not see: another answer was on its way."""

    def define(durable: Durable) -> None:
        durable.workflow("w").wait_for_signal("a", "go").wait_for_signal("b", "go")

    worker = world.worker(define, **LINKS)
    run = worker.start("w")
    run.resume("go", "by code")
    run.resume("go", "by a link", key="#wait:0")
    run.resume("go", "by another", key="#wait:1")
    world.drain(worker)
    assert run.result(0) == {"a": "by code", "b": "by another"}


def test_make_context_makes_links_that_a_test_reads() -> None:
    def ask(ctx: Any) -> str:
        return f"mail: {ctx.callback_url('signoff', data={'ok': True}, expires=60)}"

    context = make_context(ask)
    (link,) = [word for word in ask(context).split() if word.startswith("https://")]
    (made,) = context.links
    assert made.url == link
    assert (made.signal, made.data, made.expires, made.key) == ("signoff", {"ok": True}, 60, None)
