"""The rules of the protocol. `test_bundles` switches each of them off, and expects to be told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rules:
    """All rules hold unless one is switched off."""

    # The claim of a bundle.
    claim_skips_suspects: bool = True
    """A claim of a bundle leaves out tokens with a crash on their count."""
    claim_skips_single: bool = True
    """A claim of a bundle leaves out tokens with the mark *single*."""
    claim_needs_a_second_chance: bool = True
    """Where one crash is enough for `WorkerLost`, there are no bundles: one unit would fail all."""
    claim_needs_a_live_worker: bool = True
    """A worker that has been declared dead claims nothing."""
    claim_again_is_one_claim: bool = True
    """A claim that is sent again, since its answer was lost, finds its own fence."""
    claim_again_waits: bool = True
    """A claim that is sent again waits for locked rows: they may be claimed already, by itself."""
    skipped_are_tried_alone: bool = True
    """What a claim of a bundle did not return is tried alone afterwards."""
    suspects_wait_for_the_bundle: bool = True
    """It is tried after the bundle, not beside it."""

    # Looking, and beginning.
    looks_again: bool = True
    """A unit does not begin on an old look."""
    look_reads_fences: bool = True
    look_reads_ended: bool = True
    """A look finds out that the worker has been declared dead, though nobody has reaped it yet."""
    look_reads_flags: bool = True
    look_reads_commands: bool = True
    look_reads_draining: bool = True
    each_has_its_own_look: bool = True
    """A commit renews the look at what it has written, and at nothing else in hand."""
    age_counts_from_sending: bool = True
    """A look is as old as the moment at which its statement was sent."""

    # Set-wise commits.
    commit_names_fence: bool = True
    commit_names_claimed_by: bool = True
    commit_names_unit: bool = True
    commit_names_flags: bool = True
    commit_skips_locked: bool = True
    commit_locks_by_id: bool = True
    journal_follows_the_rows: bool = True
    """Journal rows are written for the tokens that were updated, not for all that were named."""
    journal_is_unique: bool = True
    """The journal's primary key."""
    missing_go_alone: bool = True
    """What a set-wise commit did not return is committed alone."""
    written_before_is_given_back: bool = True
    """A token that was written before, its answer lost, is given back."""
    refused_go_one_by_one: bool = True
    """An error of a set-wise commit that would come again: each is committed alone."""
    release_puts_hints: bool = True
    """A move that releases its claim puts the hint in the same statement."""
    one_parent_each: bool = True
    """One statement lets branches of one parent leave."""
    parent_after_branches: bool = True
    """Branches are locked before their parent."""
    leave_counts_its_rows: bool = True
    """A parent counts down by the branches that were deleted, not by those that were named."""

    # Giving back.
    release_waits: bool = True
    """A statement that gives back waits for locked rows."""
    release_locks_by_id: bool = True
    give_back_puts_hints: bool = True
    guard_writes: bool = True
    guard_gives_back: bool = True
    guard_hints_skipped: bool = True
    """The guard puts hints for what the claim skipped and nobody has tried alone yet."""
    one_lock: bool = True
    """What the guard takes, the executor neither begins nor writes."""

    # Exits, and deaths.
    exit_writes_ready: bool = True
    exit_gives_back: bool = True
    exit_waits_for_guard: bool = True
    exit_hints_skipped: bool = True
    """On an exit there are hints for what the claim skipped: its message is acknowledged."""
    reap_counts_crashes: bool = True
    reap_puts_hints: bool = True
    reap_is_of_levels: bool = True
    """A reaper looks at each pass for claims of all dead workers, not for those that died since."""
    fail_fast_is_single: bool = True
    """Branches of a node that fails fast carry the mark *single*."""
