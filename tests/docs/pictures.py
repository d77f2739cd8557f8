"""The picture of the workflow at the top of README, as `durable graph order --svg` prints it.

To draw it as the code does now: `python -m tests.docs.pictures`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import Celery

from celery_durable import Durable
from celery_durable.view.picture.chart import Shown
from celery_durable.view.picture.graph import graph
from tests.addresses import ROOT

PICTURE = ROOT / "docs" / "images" / "order.svg"

ORDER = re.compile(r"```python\n(order = \(\n.*?\n\)\n)", re.DOTALL)


def nothing(ctx: Any) -> None: ...


def picture_of_readme() -> str:
    """Draw README's workflow, of steps that do nothing."""
    durable = Durable(Celery("shop", broker="memory://", set_as_current=False))
    names = ("fraud", "price", "charge", "pick", "track", "book")
    steps = {name: durable.step(nothing, name=name) for name in names}
    reserve = durable.step(nothing, name="reserve", compensate=nothing)
    code = ORDER.search((ROOT / "README.md").read_text(encoding="utf-8"))
    assert code is not None, "README does not begin with a workflow"
    exec(code[1], {"durable": durable, "timedelta": timedelta, "reserve": reserve, **steps})
    order = durable.registry.find("order", None)
    assert order is not None
    return graph(Shown(order.plan.as_data(), datetime.now(UTC))) + "\n"


def main() -> None:
    PICTURE.write_text(picture_of_readme(), encoding="utf-8")


if __name__ == "__main__":
    main()
