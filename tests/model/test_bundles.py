"""Bundles: the protocol keeps its promises, and each of its rules is needed for one of them."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from tests.model.bundles.rules import Rules
from tests.model.bundles.scenario import Scenario
from tests.model.bundles.scenarios import SCENARIOS
from tests.model.bundles.walk import Violation, walk

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_every_schedule_keeps_the_promises(scenario: Scenario) -> None:
    assert walk(scenario) > 20


ENDS = "P2: everything ends"
CANCEL = "nothing begins after a cancel has committed"
INNOCENT = "an innocent unit never fails as WorkerLost"
FAST = "fail_fast drops what has not begun"
FROZEN = "a frozen process that wakes begins nothing"
CLEAN = "an exit counts no crash on what has not begun"
REPEATED = "what has completed is repeated only after a crash"

NEEDED = [
    # The rules that are switched off, the scenario in which they are missed, the law it breaks.
    ("claim_skips_suspects", "a unit that kills its process", INNOCENT),
    ("claim_skips_single", "fail_fast", FAST),
    ("claim_needs_a_second_chance", "one crash is enough", INNOCENT),
    ("claim_needs_a_live_worker", "a zombie", FROZEN),
    ("claim_again_is_one_claim", "a lost answer", ENDS),
    ("claim_again_waits", "a lost answer, and a cancel", ENDS),
    ("skipped_are_tried_alone", "kill -9", ENDS),
    ("suspects_wait_for_the_bundle", "a unit that kills its process", INNOCENT),
    ("looks_again", "a bundle and a cancel", CANCEL),
    ("looks_again", "a zombie", FROZEN),
    ("look_reads_fences look_reads_ended", "a zombie", FROZEN),
    ("look_reads_ended", "a zombie", FROZEN),
    ("look_reads_flags", "a bundle and a cancel", CANCEL),
    ("look_reads_commands", "a bundle and a cancel", CANCEL),
    ("look_reads_draining", "a worker drains", "a worker that drains begins nothing"),
    ("each_has_its_own_look", "a bundle of which one fails, and a cancel", CANCEL),
    ("age_counts_from_sending", "a bundle and a cancel", CANCEL),
    ("commit_names_fence commit_names_claimed_by", "kill -9", "P3"),
    ("commit_names_unit journal_is_unique", "a lost answer", "P3"),
    ("commit_names_flags", "a bundle and a cancel", CANCEL),
    ("commit_skips_locked commit_locks_by_id", "branches given back, and a cancel", "no deadlock"),
    ("journal_follows_the_rows", "a bundle and a cancel", "P1"),
    ("missing_go_alone", "a lost answer", ENDS),
    ("written_before_is_given_back", "a lost answer", ENDS),
    ("refused_go_one_by_one", "a result that Postgres refuses", "P1"),
    ("release_puts_hints", "a lost answer", ENDS),
    ("one_parent_each", "branches of two maps leave", "no deadlock"),
    ("commit_skips_locked parent_after_branches", "a map and a cancel", "no deadlock"),
    ("leave_counts_its_rows", "a map and a cancel", "P2"),
    ("release_waits", "one given back, and a cancel", ENDS),
    ("release_locks_by_id", "branches given back, and a cancel", "no deadlock"),
    ("give_back_puts_hints", "a bundle beside its guard", ENDS),
    ("guard_writes", "a slow unit after another", ENDS),
    ("guard_gives_back", "a slow unit before another", ENDS),
    ("guard_hints_skipped", "a slow unit, and a token that was skipped", ENDS),
    ("one_lock", "a bundle beside its guard", REPEATED),
    ("exit_writes_ready", "SystemExit in a handler", REPEATED),
    ("exit_gives_back", "SystemExit in a handler", CLEAN),
    ("exit_waits_for_guard", "SystemExit in a handler", CLEAN),
    ("exit_hints_skipped", "SystemExit, and a token that was skipped", ENDS),
    ("reap_counts_crashes", "one crash is enough", ENDS),
    ("reap_puts_hints", "kill -9", ENDS),
    ("reap_is_of_levels", "kill -9", ENDS),
    ("fail_fast_is_single", "fail_fast", FAST),
]


@pytest.mark.parametrize(("off", "scenario", "law"), NEEDED, ids=[one[0] for one in NEEDED])
def test_a_rule_that_is_switched_off_is_missed(off: str, scenario: str, law: str) -> None:
    rules = replace(Rules(), **dict.fromkeys(off.split(), False))
    with pytest.raises(Violation) as found:
        walk(BY_NAME[scenario], rules)
    assert found.value.law.startswith(law), str(found.value)


def test_every_rule_is_tried() -> None:
    tried = {name for off, _, _ in NEEDED for name in off.split()}
    assert tried == {field.name for field in fields(Rules)}
