"""A worker process of absurd. Found best: two async processes, 32 at once, a poll of 5 ms."""

from __future__ import annotations

import asyncio
from typing import Any

from absurd_sdk import AsyncAbsurd

from benchmarks.programs.wire import DATABASE, READY, STEPS

QUEUE = "bench"
EACH, POLL = 32, 0.005

app = AsyncAbsurd(DATABASE, queue_name=QUEUE)


async def small() -> dict[str, bool]:
    return {"ok": True}


@app.register_task(name="linear")
async def linear(params: Any, ctx: Any) -> dict[str, bool]:  # noqa: ARG001 - absurd calls it so
    for number in range(STEPS):
        await ctx.step(f"step_{number}", small)
    return {"ok": True}


if __name__ == "__main__":
    print(READY, flush=True)
    asyncio.run(app.start_worker(concurrency=EACH, poll_interval=POLL))
