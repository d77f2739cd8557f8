"""Mutants of waits for a person, and of the links that answer one."""

from tests.mutants.mutant import Mutant

ANSWERING = "celery_durable.web.answering"
LINKS = "celery_durable.workflow.callbacks"
VIEW = "celery_durable.web.callbacks"
WAITS = "celery_durable.engine.waits"


def links(test: str) -> str:
    """The node id of a test of links."""
    return f"tests/web/test_callbacks.py::{test}"


def made(test: str) -> str:
    """The node id of a test of `ctx.callback_url`."""
    return f"tests/integration/test_callback_urls.py::{test}"


def page(test: str) -> str:
    """The node id of a test of the page of approvals."""
    return f"tests/web/test_approvals.py::{test}"


def models(test: str) -> str:
    """The node id of a test of models of signals."""
    return f"tests/integration/test_signal_models.py::{test}"


APPROVING = (
    Mutant(
        name="link-signature",
        promise="P12",
        takes_out="refusing a link with another signature",
        at=f"{LINKS}:read",
        old="if not hmac.compare_digest(_signature(body, secret), given):",
        new="if False:",
        tests=(
            "tests/unit/test_callbacks.py::test_no_part_can_be_taken_from_another_link",
            links("test_a_link_of_another_run_with_this_ones_signature_is_refused"),
        ),
    ),
    Mutant(
        name="link-purpose",
        promise="P12",
        takes_out="parting the signature from others with the same secret",
        at=f"{LINKS}:_signature",
        old="hmac.digest(secret.encode(), PURPOSE, hashlib.sha256)",
        new="secret.encode()",
        tests=("tests/unit/test_callbacks.py::test_a_signature_by_the_bare_secret_is_none",),
    ),
    Mutant(
        name="link-once",
        promise="P9",
        takes_out="giving all answers to one wait one key",
        at=f"{ANSWERING}:answer",
        old="key=callback.signal_key",
        new="key=None",
        tests=(links("test_of_many_answers_at_once_one_counts"),),
    ),
    Mutant(
        name="link-expires",
        promise="P12",
        takes_out="refusing a link that has expired",
        at=f"{ANSWERING}:closed",
        old="standing.at >= callback.expires_at",
        new="False",
        tests=(links("test_a_link_is_good_as_long_as_it_says"),),
    ),
    Mutant(
        name="link-ends-with-its-run",
        promise="P12",
        takes_out="saying of a link that its run has ended",
        at=f"{ANSWERING}:closed",
        old="if standing.status in FINISHED:",
        new="if False:",
        tests=(links("test_a_link_is_over_with_its_wait_and_with_its_run"),),
    ),
    Mutant(
        name="link-ends-with-its-wait",
        promise="P9",
        takes_out="refusing a link whose wait is over",
        at=f"{ANSWERING}:closed",
        old="if standing.has_ended:",
        new="if False:",
        tests=(links("test_a_link_is_over_with_its_wait_and_with_its_run"),),
    ),
    Mutant(
        name="link-is-of-one-wait",
        promise="P9",
        takes_out="refusing a link whose wait was answered otherwise",
        at=f"{ANSWERING}:_answered_at",
        old="standing.arrived != callback.wait",
        new="False",
        tests=(links("test_an_answer_given_elsewhere_closes_the_link"),),
    ),
    Mutant(
        name="link-is-of-one-wait-in-the-run",
        promise="P9",
        takes_out="refusing an answer to an earlier wait when the run comes to it",
        at=f"{WAITS}:Waits._fitted",
        old="if counted.consumed != wait:",
        new="if False:",
        tests=(made("test_an_answer_for_an_earlier_wait_is_refused_by_the_run_that_has_gone_on"),),
    ),
    Mutant(
        name="link-opening-answers-nothing",
        promise="P12",
        takes_out="answering by POST only",
        at=f"{VIEW}:_respond",
        old='if request.method != "POST":',
        new="if False:",
        tests=(links("test_opening_a_link_answers_nothing"),),
    ),
    Mutant(
        name="link-answered-by-its-form",
        promise="P12",
        takes_out="telling the page's form from any other POST",
        at=f"{VIEW}:_respond_to_form",
        old="if SENT not in form:",
        new="if False:",
        tests=(links("test_only_the_form_of_the_page_answers"),),
    ),
    Mutant(
        name="approval-assignees",
        promise="P12",
        takes_out="refusing who is not named",
        at="celery_durable.web.approvals:approval",
        old="if not found.wait.may_answer(who):",
        new="if False:",
        tests=(page("test_who_is_not_named_sees_who_may_and_cannot_answer"),),
    ),
    Mutant(
        name="signals-of-who-is-not-named",
        promise="P12",
        takes_out="refusing a signal, sent on the page, for a wait that names others",
        at="celery_durable.view.signalling:Signalling.why_not",
        old="if names and name not in names:",
        new="if False:",
        tests=("tests/web/test_actions.py::test_who_a_wait_does_not_name_sends_no_signal_for_it",),
    ),
    Mutant(
        name="approval-of-an-earlier-wait",
        promise="P9",
        takes_out="knowing for which wait a form was shown",
        at="celery_durable.web.approvals:approval",
        old="wait=_number(request, found.consumed)",
        new="wait=found.consumed",
        tests=(page("test_a_form_for_an_earlier_wait_answers_no_later_one"),),
    ),
    Mutant(
        name="signal-model-at-the-door",
        promise="P12",
        takes_out="checking a signal's data when it is sent",
        at="celery_durable.client:Client._signal_text",
        old="checked_signal_data(workflow, signal, data)",
        new="data",
        tests=(
            models("test_resume_refuses_what_does_not_fit_names_the_fields_and_writes_nothing"),
        ),
    ),
    Mutant(
        name="signal-model-in-the-run",
        promise="P12",
        takes_out="checking a signal's data when it is taken",
        at=f"{WAITS}:Waits._fitted",
        old="checked = checked_signal_data(workflow, name, data)",
        new="checked = data",
        tests=(
            models(
                "test_a_wrong_signal_that_slips_past_is_refused_when_the_run_comes_to_it_and_the"
                "_wait_goes_on"
            ),
        ),
    ),
    Mutant(
        name="signal-model-that-raises",
        promise="P12",
        takes_out="taking whatever a model raises for a misfit",
        at="celery_durable.workflow.schemas:fitted",
        old="except Exception as error:",
        new="except (TypeError, ValueError, RecursionError) as error:",
        tests=(
            models(
                "test_a_model_that_raises_anything_refuses_a_signal_by_sql_and_the_right_one_counts"
            ),
        ),
    ),
    Mutant(
        name="link-within-bounds",
        promise="P12",
        takes_out="holding an answer against the schema where the model is not known",
        at=f"{ANSWERING}:answer",
        old="if not errors and not _is_known(durable, asked.standing):",
        new="if False:",
        tests=(
            links(
                "test_a_page_that_does_not_import_the_app_holds_an_answer_against_the_bounds_of_the"
                "_schema"
            ),
        ),
    ),
    Mutant(
        name="form-left-alone",
        promise="P12",
        takes_out="leaving a default to the model where its field is as it was shown",
        at="celery_durable.web.forms:_value",
        old="if not one.is_required and _is_untouched(one, texts):",
        new="if False:",
        tests=(
            "tests/web/test_forms.py::test_a_form_that_is_left_alone_makes_what_the_model_does",
        ),
    ),
    Mutant(
        name="signal-refused-keeps-no-key",
        promise="P9",
        takes_out="freeing the key of a refused signal",
        at="celery_durable.store.signals:_REFUSE",
        old="key=sa.null()",
        new="key=t.inbox.c.key",
        tests=(
            models(
                "test_a_wrong_signal_that_slips_past_is_refused_when_the_run_comes_to_it_and_the"
                "_wait_goes_on"
            ),
        ),
    ),
)
"""What lets nobody else answer, and nobody twice."""
