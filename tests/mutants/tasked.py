"""The mutants of tasks as steps, and of canvases."""

from tests.mutants.mutant import Mutant

STEPS = "tests/brokers/test_task_steps.py"
CANVAS = "tests/integration/test_canvas.py"
ATTEMPT = "celery_durable.ordinary.task_attempt"
OPTIONS = "celery_durable.ordinary.task_options"

TASKED = (
    Mutant(
        name="a-retry-is-no-message",
        promise="P2",
        takes_out="keeping `self.retry()` of a step from publishing a message",
        at=f"{ATTEMPT}:StepRequest.is_eager",
        old="return True",
        new="return False",
        tests=(
            f"{STEPS}::test_a_task_that_retries_itself_is_tried_again_and_sends_no_message_for_it",
        ),
    ),
    Mutant(
        name="a-step-is-not-replaced",
        promise="P12",
        takes_out="refusing `self.replace()`",
        at=f"{ATTEMPT}:StepRequest.is_eager",
        old='case "replace" | "on_replace":',
        new='case "replaced":',
        tests=(
            (
                f"{STEPS}::test_what_a_step_cannot_do_fails_it_at_once_and_says_what_to_do"
                "[refused-args2-calls self.replace(), and a step cannot be replaced-redis]"
            ),
        ),
    ),
    Mutant(
        name="a-task-has-its-own-limit-of-retries",
        promise="P12",
        takes_out="leaving the limit of `self.retry()` to the task",
        at=f"{ATTEMPT}:TaskRetry",
        old="is_bounded = False",
        new="is_bounded = True",
        tests=(f"{STEPS}::test_retry_counts_to_the_max_retries_of_the_task_or_its_own",),
    ),
    Mutant(
        name="a-task-without-autoretry-is-tried-once",
        promise="P12",
        takes_out="trying a task without `autoretry_for` once",
        at=f"{OPTIONS}:retry_of",
        old="return RetryPolicy(max_attempts=1)",
        new="return RetryPolicy(initial=0)",
        tests=(f"{STEPS}::test_a_task_without_autoretry_that_raises_is_not_tried_again",),
    ),
    Mutant(
        name="a-task-is-asked-for-its-arguments",
        promise="P12",
        takes_out="checking arguments against what a task takes",
        at="celery_durable.ordinary.task_steps:misfit_of",
        old="if check is None or not task.typing:",
        new="if True:",
        tests=(
            (
                f"{STEPS}::test_what_a_step_cannot_do_fails_it_at_once_and_says_what_to_do"
                "[misfit-args5-does not take the arguments that args= and kwargs= of add returned"
                "-redis]"
            ),
        ),
    ),
    Mutant(
        name="a-shared-task-is-not-looked-up",
        promise="P12",
        takes_out="naming a shared task without looking it up, which finalizes the app",
        at="celery_durable.ordinary.task_steps:_name_in",
        old='case "task_by_cons":',
        new='case "nothing":',
        tests=(
            (
                "tests/integration/test_celery_app.py"
                "::test_a_task_in_the_middle_of_a_chain_freezes_nothing"
            ),
        ),
    ),
    Mutant(
        name="an-immutable-signature-takes-nothing",
        promise="P12",
        takes_out="leaving the result before out of the arguments of an immutable signature",
        at="celery_durable.ordinary.canvas_workflows:_step",
        old="() if call.is_immutable else leading",
        new="leading",
        tests=(f"{CANVAS}::test_the_input_of_a_run_is_the_first_argument_of_what_is_first",),
    ),
    Mutant(
        name="a-refused-canvas-defines-nothing",
        promise="P12",
        takes_out="keeping the workflows of a canvas back until all of it is known to be one",
        at="celery_durable.durable:Durable.from_canvas",
        old="            return made[-1]",
        new="            self.registry.add(made[-1])\n            return made[-1]",
        tests=(
            (
                f"{CANVAS}"
                "::test_what_a_workflow_has_no_counterpart_of_is_refused_and_nothing_is_defined"
            ),
        ),
    ),
    Mutant(
        name="a-branch-begins-with-what-came-before",
        promise="P3",
        takes_out="the input of a branch that is a workflow",
        at="celery_durable.ordinary.canvas_workflows:_append_group",
        old="map_input=leading if has_children else None",
        new="",
        tests=(
            (
                f"{CANVAS}::test_a_result_is_handed_on_as_the_first_argument_unless_the_signature_is"
                "_immutable"
            ),
        ),
    ),
)
