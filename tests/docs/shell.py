"""`celery` command lines in shell blocks: read as Celery would read them, and not run."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
from celery import Celery
from celery.bin.celery import celery

from celery_durable import Durable
from tests.docs.pages import blocks, lines_outside_blocks

LANGUAGES = ("bash", "sh", "console")
SEPARATORS = {"&", "&&", "|", "||", ";", ">", "<"}


def command_lines(page: Path) -> Iterator[list[str]]:
    """The arguments of each `celery` command in a page's shell blocks and indented code."""
    code = [block.code for block in blocks(page) if block.language in LANGUAGES]
    indented = [line for line in lines_outside_blocks(page) if line.startswith("    ")]
    for line in "\n".join([*code, *indented]).replace("\\\n", " ").splitlines():
        words = line.strip().removeprefix("$ ").split()
        while words and "=" in words[0]:  # NAME=value before the command
            words = words[1:]
        if words[:1] == ["celery"]:
            words = shlex.split(line, comments=True)
            words = words[words.index("celery") + 1 :]
            end = next((i for i, word in enumerate(words) if word in SEPARATORS), len(words))
            yield words[:end]


def complaint(words: list[str]) -> str | None:
    """What is wrong with the arguments of `celery`: an unknown command or option."""
    command: click.Command = celery
    context = click.Context(command, info_name="celery")
    while True:
        is_group = isinstance(command, click.Group)
        used, unknown = _options_used(words, _options(command), stop_at_argument=is_group)
        if unknown is not None:
            return f"{context.command_path} has no option {unknown}"
        if not isinstance(command, click.Group):
            return None
        name, *words = words[used:] or [""]
        found = command.get_command(context, name)
        if found is None:
            return f"{context.command_path} has no command {name!r}"
        command, context = found, click.Context(found, info_name=name, parent=context)


def _options(command: click.Command) -> Mapping[str, click.Option]:
    params = [*command.params]
    if command.name == "worker":
        app = Celery("docs", set_as_current=False)
        Durable(app)
        params += app.user_options["worker"]
    options = [param for param in params if isinstance(param, click.Option)]
    named = {name: option for option in options for name in option.opts + option.secondary_opts}
    return {"--help": click.Option(["--help"], is_flag=True), **named}


def _options_used(
    words: list[str], options: Mapping[str, click.Option], *, stop_at_argument: bool
) -> tuple[int, str | None]:
    """How many words are options and their values, and the first option that does not exist."""
    i = 0
    while i < len(words):
        word = words[i]
        is_option = word.startswith("-") and word != "-"
        if not is_option and stop_at_argument:
            break
        i += 1
        if not is_option:
            continue
        name, has_value, _ = word.partition("=")
        option = options.get(name)
        if option is None:
            return i, name
        if not has_value and not option.is_flag and not option.count:
            i += option.nargs
    return i, None
