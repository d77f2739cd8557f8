"""The mutants of what lets releases run side by side."""

from tests.mutants.mutant import Mutant

ADMIT = "celery_durable.core.admit"
KNOWLEDGE = "celery_durable.engine.compatibility"
WORKERS = "celery_durable.store.workers"

TESTS = "tests/integration"
DEFINITIONS = f"{TESTS}/test_definitions.py"
DEPLOYED = f"{TESTS}/test_definitions_deploys.py"
SOON = f"{DEPLOYED}::test_what_somebody_else_knows_is_offered_again_soon"
EDITED = f"{TESTS}/test_edited_in_place.py"
CHECK = f"{TESTS}/test_cli_check.py"

DEPLOYS = (
    Mutant(
        name="asks-whether-others-know",
        promise="P10",
        takes_out="offering soon what another worker can take",
        at=f"{ADMIT}:_released_for",
        old="if facts.is_elsewhere else",
        new="if not facts.is_elsewhere and False else",
        tests=(f"{SOON}[lives]",),
    ),
    Mutant(
        name="nobody-can-execute",
        promise="P10",
        takes_out="offering ever later what nobody can take",
        at=f"{ADMIT}:_released_for",
        old="if facts.is_elsewhere else",
        new="if facts.is_elsewhere or True else",
        tests=(f"{SOON}[has ended]",),
    ),
    Mutant(
        name="offers-are-jittered",
        promise="P10",
        takes_out="chance in when a run is offered again",
        at=f"{ADMIT}:_released_for",
        old="* (1 + facts.chance) / 2",
        new="",
        tests=(f"{SOON}[lives]",),
    ),
    Mutant(
        name="ended-workers-take-nothing",
        promise="P10",
        takes_out="passing over workers that have ended",
        at=f"{WORKERS}:_IS_KNOWN_ELSEWHERE",
        old="_other.c.ended_at.is_(None),",
        new="",
        tests=(f"{SOON}[has ended]",),
    ),
    Mutant(
        name="draining-workers-take-nothing",
        promise="P10",
        takes_out="passing over workers that were told to stop",
        at=f"{WORKERS}:_IS_KNOWN_ELSEWHERE",
        old="sa.not_(_other.c.draining),",
        new="",
        tests=(f"{SOON}[stops]",),
    ),
    Mutant(
        name="workers-take-from-their-queues",
        promise="P10",
        takes_out="passing over workers that consume other queues",
        at=f"{WORKERS}:_IS_KNOWN_ELSEWHERE",
        old='_other.c.queues.contains(sa.func.to_jsonb(sql.text("queue"))),',
        new="",
        tests=(f"{SOON}[consumes another queue]",),
    ),
    Mutant(
        name="siblings-know-no-more",
        promise="P10",
        takes_out="passing over the processes of the same Celery worker",
        at=f"{WORKERS}:_IS_KNOWN_ELSEWHERE",
        old="_other.c.node_id != _me.c.node_id,",
        new="",
        tests=(f"{SOON}[is of the same node]",),
    ),
    Mutant(
        name="parked-nodes-are-not-offered",
        promise="P10",
        takes_out="keeping quiet about nodes whose runs this worker leaves alone",
        at=f"{KNOWLEDGE}:Compatibility.offers",
        old="if node not in self._unfit_nodes_of(workflow)",
        new="",
        tests=(f"{DEPLOYED}::test_a_definition_edited_in_place_is_passed_on_where_it_differs",),
    ),
    Mutant(
        name="cancels-need-no-code",
        promise="P10",
        takes_out="ending a cancelled run that nobody can execute",
        at=f"{KNOWLEDGE}:Compatibility.workflow_for",
        old="if claim.token.only_ends:",
        new="if False:",
        tests=((f"{DEPLOYED}::test_a_cancel_ends_a_run_whose_last_worker_died_executing_it"),),
    ),
    Mutant(
        name="undoing-needs-code",
        promise="P8",
        takes_out="waiting for a worker that can undo what a cancel shall undo",
        at="celery_durable.core.token:Token.only_ends",
        old="asked == Flags.CANCEL",
        new="bool(asked)",
        tests=(
            f"{DEFINITIONS}::test_a_cancel_that_compensates_waits_for_a_worker_that_knows_the_run",
        ),
    ),
    Mutant(
        name="new-runs-pass",
        promise="P10",
        takes_out="telling by the journal which runs have come by the edited definition",
        at=f"{KNOWLEDGE}:Compatibility._can_go_on",
        old="or self._came_by_this_plan(workflow, token)",
        new="",
        tests=(
            f"{EDITED}::test_runs_of_the_new_definition_pass_where_old_ones_were_left_alone",
            f"{EDITED}::test_new_runs_pass_where_one_of_another_order_was_met",
        ),
    ),
    Mutant(
        name="looks-at-the-definition-again",
        promise="P10",
        takes_out="holding an edited definition against the stored one again",
        at=f"{KNOWLEDGE}:Compatibility._unfit_nodes_of",
        old="if known is None or (known and",
        new="if known is None or (False and",
        tests=(f"{EDITED}::test_a_node_of_another_kind_is_passed_once_no_run_stands_there",),
    ),
    Mutant(
        name="check-of-what-comes-before",
        promise="P10",
        takes_out="looking whether everything before a run's node is as it was, in `check`",
        at="celery_durable.engine.review:_reviewed",
        old="or place.token.node in parked",
        new="",
        tests=(f"{CHECK}::test_runs_that_would_be_stuck_are_listed_with_where",),
    ),
    Mutant(
        name="check-of-compensators",
        promise="P8",
        takes_out="looking for the compensators that runs may need, in `check`",
        at="celery_durable.engine.review:_reviewed",
        old="for place in (*standing, *to_undo)",
        new="for place in standing",
        tests=(f"{CHECK}::test_a_compensator_that_a_run_may_need_is_missed",),
    ),
)
