"""NOT a language model: a script that stands where one would be, so that this runs without any.

What a model is asked and what it answers have the usual form. It gets the conversation so far, and
answers with the tool it wants to use, or with what it has to say in the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def reply(messages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What to do next: `{"tool": ..., "args": {...}}` or `{"answer": ...}`."""
    used = [message["tool"] for message in messages if "tool" in message]
    result = messages[-1].get("result", {})
    if not used:
        return {"tool": "look_up_order", "args": {"number": 7}}
    if "refused" in result:
        return {"answer": f"I may not do that ({used[-1]}). A colleague will get back to you."}
    if used[-1] == "look_up_order":
        return {"tool": "refund", "args": {"number": result["number"], "amount": result["price"]}}
    if used[-1] == "refund":
        text = f"Sorry about the teapot! You get {result['refunded']} EUR back."
        return {"tool": "write_to_customer", "args": {"number": 7, "text": text}}
    return {"answer": "The teapot is refunded, and the customer knows."}
