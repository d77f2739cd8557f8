"""`durable why`, and why in `show` and `list`."""

from __future__ import annotations

from uuid import uuid4

from celery_durable import Durable, RetryPolicy
from tests.integration.commanding import Cli, assert_refused
from tests.integration.driving import World, defining
from tests.integration.workflows import fail, waiting, with_a_child


def test_why_says_what_is_so_and_what_helps(world: World, call: Cli) -> None:
    durable = world.worker(waiting)
    run = durable.start("w", key="k")
    world.drain(durable)
    said = call(durable.app, "why", str(run.id))
    first, remedy = said.out.splitlines()
    assert first.startswith("s waits for the signal go  since ")
    assert remedy == f"  celery -A cli_under_test durable resume {run.id} go"
    assert (said.code, said.err) == (0, "")
    assert call(durable.app, "why", "--workflow", "w", "--run-key", "k").out == said.out


def test_a_command_that_helps_names_what_a_was_and_has_a_line_of_its_own(
    world: World, call: Cli
) -> None:
    """Not the name that the app has of itself, which `-A` may not find."""

    def define(durable: Durable) -> None:
        durable.workflow("w").step(fail, name="a", retry=RetryPolicy(max_attempts=1))

    durable = world.worker(define)
    run = durable.start("w")
    world.drain(durable)
    said = call(durable.app, "why", str(run.id)).out.splitlines()
    command = f"  celery -A cli_under_test durable retry {run.id}"
    assert said[1:] == ["  Mend the cause, then:", command]
    tried = call(durable.app, *command.split()[4:])
    assert tried.code == 0


def test_why_as_json(world: World, call: Cli) -> None:
    durable = world.worker(with_a_child)
    run = durable.start("w")
    for token_id in world.publish():
        durable.engine.advance(token_id)
    found = call(durable.app, "why", str(run.id), "--json").document
    (child,) = found["reasons"]
    assert (found["status"], child["code"], child["unit"]) == ("suspended", "child", "kid")
    assert [inner["code"] for inner in child["inner"]] == ["on_its_way"]


def test_why_of_no_run(world: World, call: Cli) -> None:
    durable = world.worker(waiting)
    assert_refused(call(durable.app, "why", str(uuid4())), 3, "durable list")
    assert_refused(call(durable.app, "why"), 2, "Name one run")


def test_show_ends_with_why_unless_the_run_has_ended(world: World, call: Cli) -> None:
    durable = world.worker(waiting)
    run = durable.start("w")
    world.drain(durable)
    assert "\ns waits for the signal go  since " in call(durable.app, "show", str(run.id)).out
    shown = call(durable.app, "show", str(run.id), "--json").document
    assert [reason["code"] for reason in shown["why"]] == ["signal"]
    run.resume("go")
    world.drain(durable)
    assert "has ended" not in call(durable.app, "show", str(run.id)).out


def test_list_says_why_of_each_where_it_is_asked(world: World, call: Cli) -> None:
    durable = world.worker(defining([], "a"))
    ended, stands = durable.start("w"), durable.start("w")
    durable.engine.advance(world.token_id(ended))
    listed = call(durable.app, "list", "--why")
    newest, oldest = listed.out.splitlines()[1:]
    assert newest.startswith(str(stands.id))
    assert newest.endswith("a is on its way to a worker")
    assert oldest.startswith(str(ended.id))
    assert "has ended" not in oldest
    found = call(durable.app, "list", "--why", "--json").document
    assert [[reason["code"] for reason in run["why"]] for run in found] == [
        ["on_its_way"],
        ["ended"],
    ]
    assert "WHY" not in call(durable.app, "list").out
