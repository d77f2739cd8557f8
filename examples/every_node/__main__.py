"""`python -m examples.every_node`: one order that is shipped, and one that is undone."""

from __future__ import annotations

import time

from celery_durable import Run
from examples import stage
from examples.every_node import ledger
from examples.every_node.app import SHIPPED, UNDONE, app, durable, every_node

ANSWERS = {"sign_off": {"by": "the founder"}, "inspect": "sound"}


def follow(run: Run) -> None:
    """Show each unit when it has ended, and give the run what it waits for."""
    shown = 0
    while True:
        status = run.status()
        entries = run.history()
        for entry in entries[shown:]:
            print(f"    {entry.unit:<22} {entry.outcome}")
        shown = len(entries)
        if status.finished_at is not None:
            why = f": {status.error.message}" if status.error else f": {status.result}"
            print(f"  {status.status}{why}")
            return
        for signal in status.awaiting:
            run.resume(signal, ANSWERS[signal], key=signal)
        time.sleep(0.1)


def main() -> None:
    print("  Postgres, the broker and a worker start.", flush=True)
    with stage.set_up(app, durable, "examples.every_node.app") as engine:
        ledger.tables.create_all(engine)
        for ending in (SHIPPED, UNDONE):
            print(f"\n  An order that is to be {ending}", flush=True)
            follow(every_node.start({"ending": ending}))


if __name__ == "__main__":
    stage.perform(main)
