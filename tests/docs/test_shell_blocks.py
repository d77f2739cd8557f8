import pytest

from tests.docs.pages import name_of, pages
from tests.docs.shell import command_lines, complaint

LINES = [
    pytest.param(words, id=f"{name_of(page)}: celery {' '.join(words)}")
    for page in pages()
    for words in command_lines(page)
]


@pytest.mark.parametrize("words", LINES)
def test_every_command_and_option_exists(words: list[str]) -> None:
    assert complaint(words) is None


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ("-A shop durable nothing", "celery durable has no command 'nothing'"),
        ("-A shop durable list --nothing 3", "celery durable list has no option --nothing"),
        ("-A shop worker -Q durable --no-relay", "celery worker has no option --no-relay"),
        ("-A shop durable", "celery durable has no command ''"),
    ],
)
def test_a_command_that_does_not_exist_is_found(words: str, wrong: str) -> None:
    assert complaint(words.split()) == wrong
