"""`python -m examples.agent [--answer yes|no]`: by default you are asked."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import sqlalchemy as sa

from celery_durable import Run
from examples import stage
from examples.agent import tools
from examples.agent.app import agent, app, durable

REQUEST = "My order 7 has arrived, and the teapot is broken."


class Conversation:
    """What the terminal shows of a run."""

    def __init__(self, run: Run, engine: sa.Engine, answer: str | None) -> None:
        self._run, self._engine, self._answer = run, engine, answer
        self._shown = 1
        self._answered: set[str] = set()

    def go_on(self) -> bool:
        """Show what is new, and answer what is asked; False when the run has ended."""
        status = self._run.status()
        for entry in self._run.history():
            if entry.position is not None and entry.result:
                self._show(entry.result)
        for signal in status.awaiting:
            if signal not in self._answered:
                self._answered.add(signal)
                self._run.resume(signal, self._ask(signal), key=signal)
        return status.finished_at is None

    def _show(self, messages: list[dict[str, Any]]) -> None:
        for message in messages[self._shown :]:
            match message:
                case {"tool": tool, "args": args}:
                    print(f"  agent     {call(tool, args)}")
                case {"result": result}:
                    print(f"            -> {result}")
                case {"answer": answer}:
                    print(f"  agent     {answer}")
                case _:
                    pass
        self._shown = max(self._shown, len(messages))

    def _ask(self, signal: str) -> dict[str, Any]:
        with self._engine.connect() as connection:
            asked = connection.execute(
                sa.select(tools.questions).where(
                    tools.questions.c.run_id == self._run.id, tools.questions.c.signal == signal
                )
            ).one()
        question = f"  you       may I {call(asked.tool, asked.args)}? [yes/no] "
        if self._answer is not None:
            print(f"{question}{self._answer}")
        answer = self._answer or input(question)
        is_yes = answer.strip().lower() in ("y", "yes")
        return {"approved": is_yes} if is_yes else {"approved": False, "because": answer}


def call(tool: str, args: dict[str, Any]) -> str:
    return f"{tool}({', '.join(f'{name}={value!r}' for name, value in args.items())})"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.agent", description=__doc__)
    parser.add_argument("--answer", choices=("yes", "no"), help="say this, and ask nobody")
    answer = parser.parse_args().answer
    if answer is None and not sys.stdin.isatty():
        parser.error("nobody can be asked here: say --answer yes or --answer no")
    print("  Postgres, the broker and a worker start.", flush=True)
    with stage.set_up(app, durable, "examples.agent.app") as engine:
        tools.tables.create_all(engine)
        run = agent.start({"request": REQUEST})
        print(f"\n  customer  {REQUEST}")
        conversation = Conversation(run, engine, answer)
        while conversation.go_on():
            time.sleep(0.1)
        with engine.connect() as connection:
            refunds = connection.scalar(sa.select(sa.func.count()).select_from(tools.refunds))
            letters = connection.scalar(sa.select(sa.func.count()).select_from(tools.letters))
        turns = sum(entry.position is not None for entry in run.history())
        print(f"\n  {run.status().status}: {turns} turns, {refunds} refund, {letters} letter")


if __name__ == "__main__":
    stage.perform(main)
