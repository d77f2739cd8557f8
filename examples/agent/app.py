"""A support agent as a durable loop: one turn is one unit, journaled when it has ended.

In a turn the model is asked what to do, and the tool it names is used. A tool that spends money or
writes to customers wants a person's approval first: then the turn suspends, and keeps what the
model said. It costs nothing while it waits, a minute or a month; no worker holds it, and workers
may be replaced meanwhile. When the answer arrives, the same turn goes on where it was, without
asking the model again.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from celery import Celery

from celery_durable import Context, Durable, Suspend
from examples import stage
from examples.agent import model, tools

app = Celery("agent")
durable = Durable(app)
stage.configure(app)

Messages = list[dict[str, Any]]

MOST_TURNS = 20


@durable.step(transactional=True)
def turn(ctx: Context) -> Suspend | Messages:
    """What a tool writes, and the question that is put, commit together with the turn, or not at
    all.
    """
    if ctx.is_resumed:
        call = ctx.snapshot
        if not ctx.resume_data["approved"]:
            return _said(ctx.item, call, {"refused": ctx.resume_data.get("because", "")})
    else:
        call = model.reply(ctx.item)
        if "answer" in call:
            return [*ctx.item, {"role": "assistant", **call}]
        if call["tool"] in tools.WANT_APPROVAL:
            question = {"run_id": ctx.run_id, "signal": ctx.unit, "tool": call["tool"]}
            ctx.session.execute(sa.insert(tools.questions).values(**question, args=call["args"]))
            return Suspend(snapshot=call)
    return _said(ctx.item, call, tools.use(ctx.session, call["tool"], call["args"]))


def _said(messages: Messages, call: dict[str, Any], result: Any) -> Messages:
    """The conversation with what the model wanted and what came of it."""
    return [*messages, {"role": "assistant", **call}, {"role": "tool", "result": result}]


def is_done(messages: Messages, _turns: int) -> bool:
    return "answer" in messages[-1]


agent = (
    durable.workflow("agent")
    .loop(
        "turn",
        turn,
        map_input=lambda ctx: [{"role": "user", "text": ctx.input["request"]}],
        feedback=lambda messages: messages,
        until=is_done,
        max_iterations=MOST_TURNS,
        on_exhausted="fail",
    )
    .returns(lambda ctx: {"answer": ctx.results["turn"][-1]["answer"]})
)
