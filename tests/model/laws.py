"""What holds in every state, and at the end of every schedule; each law names its promise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from celery_durable.core.admit import RELEASE_FIRST
from celery_durable.core.nodes import MapNode
from celery_durable.core.plan import Plan
from celery_durable.core.reason import Code, Diagnosis
from celery_durable.core.status import FINISHED, Status
from celery_durable.core.token import Flags
from tests.model.hands import Call, Script
from tests.model.seen import seen_status
from tests.model.stage import Record
from tests.model.world import World

UNDO = "#compensate"
Plans = Mapping[tuple[str, int], Plan]


class Broken(AssertionError):
    """A law does not hold."""


def holds(condition: object, law: str, *facts: object) -> None:
    if not condition:
        raise Broken(": ".join([law, *map(str, facts)]))


def check_step(before: World, after: World, calls: Iterable[Call], plans: Plans) -> None:
    """The laws of a state, and of the way to it."""
    _statuses(before, after)
    _journal_only_grows(before, after)
    for run in after.tables.run:
        facts = Facts(after, run, plans[run["workflow"], run["version"]])
        facts.check()
    calls = tuple(calls)
    _nothing_recorded_is_executed(after, calls)
    _nothing_begins_after_a_cancel(before, calls)
    _nothing_begins_under_a_pause(before, calls)
    _one_at_a_time(after)
    _hands_hold_their_claims(after)


WAITS = {
    Code.SIGNAL: "signal",
    Code.CHILD: "child",
    Code.BRANCHES: "branches",
}
IN_OUTBOX = {Code.NO_RELAY, Code.BROKER_UNAVAILABLE, Code.REFUSED, Code.UNPUBLISHED}
IN_QUEUE = {Code.NO_CONSUMER, Code.UNKNOWN, Code.BUSY, Code.DEAF}


def check_reasons(world: World, found: Iterable[Diagnosis]) -> None:
    """P11: whoever asks why a run stands gets a reason, and each reason is true."""
    told = {str(one.run_id): one.reasons for one in found}
    hinted = {(row["token_id"], row["fence"]) for row in world.tables.outbox}
    for run in world.tables.run:
        reasons = told.get(run["id"], ())
        holds(reasons, "P11: every run has a reason", run["id"])
        own = [(top, *(top.inner if top.code is Code.BRANCHES else ())) for top in reasons]
        codes = {one.code for reason in own for one in reason}
        has_ended = Status(run["status"]) in FINISHED
        holds((Code.ENDED in codes) == has_ended, "P11: ended is told of what has ended", codes)
        tokens = [row for row in world.tables.token if row["run_id"] == run["id"]]
        at_work = [row for row in tokens if row["claimed_by"] is not None]
        is_told = bool(codes & {Code.EXECUTING, Code.WORKER_LOST})
        holds(bool(at_work) == is_told, "P11: what is executed is told, and nothing else", codes)
        for code, wait in WAITS.items():
            waits = any(row["wait"] == wait for row in tokens)
            holds(waits or code not in codes, "P11: a wait is told of what waits", codes)
        are_hinted = [(row["id"], row["fence"]) in hinted for row in tokens]
        holds(any(are_hinted) or not codes & IN_OUTBOX, "P11: what is in the outbox", codes)
        holds(not all(are_hinted) or not codes & IN_QUEUE, "P11: what is not in it", codes)


def status_changes(before: World, after: World) -> Iterator[tuple[Status, Status]]:
    """The statuses of runs that are others now, as users see them."""
    was = {run["id"]: seen_status(before.tables, run) for run in before.tables.run}
    for run in after.tables.run:
        old, new = was.get(run["id"]), seen_status(after.tables, run)
        if old is not None and old is not new:
            yield old, new


def _statuses(before: World, after: World) -> None:
    for old, new in status_changes(before, after):
        holds(old.can_become(new), "a status changes as the table of transitions has it", old, new)
    for run in after.tables.run:
        is_over = Status(run["status"]) in FINISHED
        holds((run["finished_at"] is not None) == is_over, "P1: ended is ended")


def _journal_only_grows(before: World, after: World) -> None:
    old = {(e["run_id"], e["unit"]): (e["outcome"], e["seq"]) for e in before.tables.journal}
    new = {(e["run_id"], e["unit"]): (e["outcome"], e["seq"]) for e in after.tables.journal}
    holds(old.items() <= new.items(), "P3: what is recorded stays as it is", old, new)
    holds(len(new) == len(after.tables.journal), "P3: nothing is recorded twice")


def _nothing_recorded_is_executed(after: World, calls: Iterable[Call]) -> None:
    """`calls` are those of a worker that has not been declared dead."""
    recorded = {(e["run_id"], e["unit"]) for e in after.tables.journal}
    for call in calls:
        unit = (call.run_id, call.unit)
        holds(unit not in recorded, "P3: once recorded never runs again", call.unit)


def _nothing_begins_after_a_cancel(before: World, calls: Iterable[Call]) -> None:
    """A unit begins with the transaction that looked at its claim: `before` is what that saw.

    In a bundle whose handlers take time, that is the last look before it (`Scenario.looks`).
    """
    asked = {m["run_id"] for m in before.tables.inbox if m["kind"] == "command"}
    asked |= {run["id"] for run in before.tables.run if run["cancel_requested_at"] is not None}
    for call in calls:
        is_forward = not call.unit.endswith(UNDO)
        holds(
            call.run_id not in asked or not is_forward, "P3: a cancel lets nothing begin", call.unit
        )


def _nothing_begins_under_a_pause(before: World, calls: Iterable[Call]) -> None:
    """A unit begins with the transaction that looked at its claim: `before` is what that saw.

    A compensation reads what it undoes in another, after it has begun.
    """
    paused = {row["run_id"] for row in before.tables.pause}
    for call in calls:
        is_forward = not call.unit.endswith(UNDO)
        is_paused = call.run_id in paused and is_forward
        holds(not is_paused, "a pause lets nothing begin", call.unit)


def _one_at_a_time(after: World) -> None:
    units = Counter(
        (call.run_id, call.unit)
        for seat in after.seats
        if after.is_live(seat.worker)
        for call in seat.executing
    )
    # A unit that has taken longer than its time limit is not protected any more.
    overdue = {
        token["run_id"]
        for token in after.tables.token
        if token["flags"] & Flags.TIMED_OUT or "StepTimeout" in str(token["failures"])
    }
    for unit, executions in units.items():
        holds(executions == 1 or unit[0] in overdue, "P4: one execution at a time", unit)


def _hands_hold_their_claims(after: World) -> None:
    """P2: a claim of a live worker is in that worker's hands."""
    working = {str(seat.worker) for seat in after.seats if seat.script}
    for token in after.tables.token:
        holder = token["claimed_by"]
        if holder and after.is_live(holder) and not after.is_damaged:
            holds(holder in working, "P2: whoever has claimed works on it", after.name(token["id"]))


class Facts:
    """One run, and the laws that hold for it."""

    def __init__(self, world: World, run: Record, plan: Plan) -> None:
        self.world, self.run, self.plan = world, run, plan
        tables = world.tables
        self.tokens = [t for t in tables.token if t["run_id"] == run["id"]]
        self.roots = [t for t in self.tokens if t["parent_id"] is None]
        entries = (e for e in tables.journal if e["run_id"] == run["id"])
        self.journal = sorted(entries, key=lambda entry: int(entry["seq"]))
        self.units = {entry["unit"]: entry for entry in self.journal}
        self.inbox = [m for m in tables.inbox if m["run_id"] == run["id"]]

    def holds(self, condition: object, law: str, *facts: object) -> None:
        holds(condition, law, self.world.name(self.run["id"]), *facts)

    def check(self) -> None:
        """P1, P2, P8, P9 in this state."""
        self._signals()
        self._deadlines()
        self._undone_in_reverse()
        if self.run["finished_at"] is not None:
            # A command that came too late goes when somebody wants to apply it.
            left = [*self.tokens, *(m for m in self.inbox if m["kind"] == "signal")]
            self.holds(not left, "a finished run leaves nothing behind", left)
            self._completed_is_complete()
            return
        self.holds(len(self.roots) == 1, "P2: an unfinished run stands somewhere")
        for token in self.tokens:
            at = token["unit"]
            self.holds(at not in self.units, "P1: what is recorded has been left behind", at)
            self._has_a_mover(token)
        self._stands_after_what_completed(self.roots[0])
        if self.roots[0]["wait"] == "branches":
            self._gate(self.roots[0])

    def _signals(self) -> None:
        stored = self.world.stored.count(self.run["id"])
        signals = [m for m in self.inbox if m["kind"] == "signal"]
        if self.run["finished_at"] is None:
            self.holds(len(signals) == stored, "P9: a signal stays until its run ends")
        payloads = Counter(
            str(e["result"]) for e in self.journal if str(e["result"]).startswith("signal")
        )
        self.holds(all(n == 1 for n in payloads.values()), "P9: consumed once", payloads)

    def _deadlines(self) -> None:
        reason, error = self.run["cancel_reason"], self.run["error"] or {}
        if reason == "expired":
            at_work = [c for seat in self.world.seats for c in seat.executing]
            begun = [*self.journal, *(c for c in at_work if c.run_id == self.run["id"])]
            self.holds(not begun, "P3: what has expired has not begun, and never does", begun)
        if error.get("type") == "RunTimeout":
            self.holds(reason == "timed out", "a run that nobody has called to end has time")

    def _undone_in_reverse(self) -> None:
        undone = [u.removesuffix(UNDO) for u in self.units if u.endswith(UNDO)]
        undoable = [entry["unit"] for entry in self.journal if entry["undoable"]]
        expected = undoable[::-1][: len(undone)]
        self.holds(undone == expected, "P8: undone in reverse order", undone, undoable)

    def _completed_is_complete(self) -> None:
        if self.run["status"] == Status.COMPLETED:
            missing = [n.name for n in self.plan.nodes if not self._is_completed(n.name)]
            self.holds(not missing, "P1: a completed run has all its nodes", missing)
        if self.run["status"] == Status.FAILED:
            self.holds(self._all_is_undone(), "P8: a failed run has undone what it completed")

    def _all_is_undone(self) -> bool:
        return all(e["unit"] + UNDO in self.units for e in self.journal if e["undoable"])

    def _is_completed(self, unit: str) -> bool:
        return unit in self.units and self.units[unit]["outcome"] == "completed"

    def _stands_after_what_completed(self, root: Record) -> None:
        names = list(self.plan.names)
        if root["rollback"] is None and root["node"] in names:
            before = names[: names.index(root["node"])]
            missing = [name for name in before if not self._is_completed(name)]
            self.holds(not missing, "P1: a move goes with its entry", root["unit"], missing)

    def _gate(self, root: Record) -> None:
        branches = [t for t in self.tokens if t["parent_id"] == root["id"]]
        items = [i for i in self.world.tables.item if i["token_id"] == root["id"]]
        counted = (root["remaining"], len(branches) + len(items))
        self.holds(counted[0] == counted[1], "P2: the gate counts its branches", counted)
        node = self.plan.find(root["node"])
        if not (isinstance(node, MapNode) and node.keeps_errors):
            failed = [
                e for e in self.journal if e["node"] == root["node"] and e["outcome"] == "failed"
            ]
            self.holds(root["failed"] == len(failed), "P1: the gate counts what failed")
        if items:
            self.holds(branches, "P2: somebody opens the items that wait")

    def _has_a_mover(self, token: Record) -> None:
        """P2: something will move every token."""
        holder, wait = token["claimed_by"], token["wait"]
        # Whoever applies a cancel looks at the whole tree, and recovery at every cancel.
        is_asked = any(m["kind"] == "command" for m in self.world.tables.inbox)
        if holder is not None or is_asked or self.world.is_damaged or self._is_told(token):
            return
        # A reaper ends a run that has not begun in time; nobody else may claim it.
        if not token["begun"] and self.world.tables.is_due(self.run["expires_at"]):
            return
        match wait:
            case "signal" if token["wake_at"] is None:
                waits_on = all(m["name"] != token["awaits"] for m in self._unconsumed())
            case "child":
                waits_on = token["child_run_id"] in {r["id"] for r in self.world.unfinished()}
            case "branches":
                waits_on = token["remaining"] > 0
            case "operator":
                waits_on = token["flags"] == 0
            case _:
                waits_on = False
        waits_on = waits_on or (token["flags"] == 0 and self._is_paused())
        self.holds(waits_on, "P2: something moves every token", token["unit"], wait)

    def _is_paused(self) -> bool:
        """It is paused, or somebody is about to put the hint that follows the end of the pause."""
        acts = (act.does for act in self.world.acts if isinstance(act, Script))
        rows = self.world.tables.pause
        return "unpause" in acts or any(row["run_id"] == self.run["id"] for row in rows)

    def _unconsumed(self) -> list[Record]:
        return [m for m in self.inbox if m["kind"] == "signal" and not m["consumed_by"]]

    def _is_told(self, token: Record) -> bool:
        """There is a message for it, no later than it is due; or one has just been delivered."""
        now = self.world.tables.now
        # A claim that was taken for nothing is put back with a message so much later.
        by = max(_time(token["wake_at"]) or now, now + timedelta(seconds=RELEASE_FIRST))
        hints = (r for r in self.world.tables.outbox if token["id"] in r["args"])
        is_hinted = any((_time(row["available_at"]) or by) <= by for row in hints)
        return is_hinted or any(
            seat.script is not None and token["id"] in seat.script.tokens
            for seat in self.world.seats
        )


def _time(at: str | None) -> datetime | None:
    return None if at is None else datetime.fromisoformat(at)


def check_end(world: World, plans: Plans, **_: Any) -> None:
    """The laws of an end: nothing is left to do."""
    for run in world.tables.run:
        told = (world.name(run["id"]), run["status"])
        holds(run["finished_at"] is not None, "P2: every run ends", *told)
        holds((run["workflow"], run["version"]) in plans, "a run is of a known workflow", *told)
    for name in ("token", "item", "inbox"):
        holds(not getattr(world.tables, name), f"nothing is left in durable_{name}")
    for run in world.tables.run:
        facts = Facts(world, run, plans[run["workflow"], run["version"]])
        if run["status"] == Status.CANCELLED:
            undone = [u for u in facts.units if u.endswith(UNDO)]
            whole = not undone or facts._all_is_undone()
            holds(whole, "P8: a rollback goes to its end", undone)
