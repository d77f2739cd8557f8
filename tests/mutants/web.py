"""Mutants of what guards the web page, and of what notes who acts."""

from tests.mutants.mutant import Mutant

ACCESS = "celery_durable.web.access"
PROTECTION = "celery_durable.web.protection"
CONNECTED = "celery_durable.connected"


def access(test: str) -> str:
    """The node id of a test of who is let in."""
    return f"tests/web/test_access.py::{test}"


def protection(test: str) -> str:
    """The node id of a test of what keeps other origins out."""
    return f"tests/web/test_protection.py::{test}"


def browser(test: str) -> str:
    """The node id of a test in a real browser."""
    return f"tests/browser/test_security.py::{test}"


def noted(test: str) -> str:
    """The node id of a test of what is noted."""
    return f"tests/integration/test_actions.py::{test}"


WEB = (
    Mutant(
        name="web-token-of-a-form",
        promise="P12",
        takes_out="refusing a form that does not carry the token of its session",
        at=f"{PROTECTION}:check_csrf_token",
        old="not isinstance(said, str) or not hmac.compare_digest(said.encode(), right.encode())",
        new="False",
        tests=(
            protection("test_a_form_without_the_sessions_token_does_nothing"),
            protection("test_a_forms_token_is_of_one_session_and_of_one_viewer"),
        ),
    ),
    Mutant(
        name="web-token-of-a-session",
        promise="P12",
        takes_out="binding the token of a form to a session and a viewer",
        at="celery_durable.web.session:Sessions.csrf_token",
        old='f"{session.id}\\0{viewer}"',
        new='""',
        tests=(protection("test_a_forms_token_is_of_one_session_and_of_one_viewer"),),
    ),
    Mutant(
        name="web-session-that-has-ended",
        promise="P12",
        takes_out="refusing the cookie of who has left",
        at="celery_durable.web.session:Sessions.read",
        old="found.id in self._ended",
        new="False",
        tests=(access("test_a_cookie_is_good_for_nothing_once_its_viewer_has_left"),),
    ),
    Mutant(
        name="web-origin-of-a-form",
        promise="P12",
        takes_out="refusing a form of another origin",
        at=f"{PROTECTION}:check_origin",
        old='site in {"same-origin", "none"}',
        new="True",
        tests=(
            protection("test_a_form_of_another_origin_does_nothing"),
            access("test_a_page_of_another_origin_cannot_try_tokens_in_the_viewers_name"),
        ),
    ),
    Mutant(
        name="web-headers",
        promise="P12",
        takes_out="the Content-Security-Policy, and the other headers",
        at=f"{PROTECTION}:Protection.__call__",
        old="in SECURITY_HEADERS.items()",
        new="in ()",
        tests=(protection("test_every_answer_has_the_headers_that_guard_it"),),
    ),
    Mutant(
        name="web-hosts",
        promise="P12",
        takes_out="refusing a Host that is not ours",
        at=f"{PROTECTION}:Protection.__call__",
        old="if self._knows(name):",
        new="if True:",
        tests=(protection("test_a_name_that_is_not_ours_is_refused"),),
    ),
    Mutant(
        name="web-escaping",
        promise="P12",
        takes_out="showing what others have written as text",
        at="celery_durable.web.render:_environment",
        old="autoescape=True",
        new="autoescape=False",
        tests=(
            "tests/web/test_actions.py::test_what_was_typed_is_still_there_after_a_refusal",
            browser("test_script_in_whatever_others_have_written_shows_as_text"),
        ),
    ),
    Mutant(
        name="web-token",
        promise="P12",
        takes_out="comparing the token",
        at=f"{ACCESS}:Gate._is_token",
        old="hmac.compare_digest(said.encode(), self._token.encode())",
        new="True",
        tests=(access("test_a_wrong_token_is_slow_and_logged_without_it"),),
    ),
    Mutant(
        name="web-wrong-tokens-are-slow",
        promise="P12",
        takes_out="counting wrong tokens",
        at=f"{ACCESS}:Gate.admits",
        old="self.patience.wrong(address, time.monotonic())",
        new="1",
        tests=(
            access("test_a_wrong_token_is_slow_and_logged_without_it"),
            access("test_an_address_that_has_tried_too_many_is_refused_at_once"),
        ),
    ),
    Mutant(
        name="web-operators",
        promise="P12",
        takes_out="refusing what a reader posts",
        at=f"{ACCESS}:Guarded.__call__",
        old="not found.is_operator and",
        new="False and",
        tests=(access("test_a_reader_sees_everything_and_does_nothing"),),
    ),
    Mutant(
        name="web-read-only",
        promise="P12",
        takes_out="making readers of all viewers",
        at=f"{ACCESS}:Gate.viewer",
        old="self._read_only and",
        new="False and",
        tests=(access("test_a_reader_sees_everything_and_does_nothing"),),
    ),
    Mutant(
        name="noted-in-the-transaction",
        promise="P1",
        takes_out="noting who acts in the transaction of the action",
        at=f"{CONNECTED}:Connected.note",
        old="actions.note(\n            connection,",
        new="with self.database.autocommit() as own: actions.note(\n            own,",
        tests=(noted("test_an_action_in_a_transaction_of_the_callers_is_noted_with_it"),),
    ),
    Mutant(
        name="noted-before-the-end-of-many",
        promise="P1",
        takes_out="noting what is done to many runs",
        at="celery_durable.store.actions:note_of_runs",
        old="if runs:",
        new="if False:",
        tests=(noted("test_what_is_done_to_many_is_noted_for_each"),),
    ),
    Mutant(
        name="noted-with-who",
        promise="P1",
        takes_out="noting who acts",
        at=f"{CONNECTED}:Connected._actor_with",
        old="self._actor.get() or Actor()",
        new="Actor()",
        tests=(noted("test_what_is_done_is_noted_with_who_and_why"),),
    ),
)
