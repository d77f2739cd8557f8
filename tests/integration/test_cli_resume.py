"""`durable resume`: the outcome of the signal, and the exit codes."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from celery_durable import Durable, Suspend
from tests.integration.commanding import Cli, assert_refused
from tests.integration.driving import World


def signal_flow(durable: Durable) -> None:
    durable.workflow("w").wait_for_signal("signoff", "founder-signoff").step(
        lambda ctx: ctx.results["signoff"], name="after"
    )


def test_resume_prints_the_outcome_of_the_signal(world: World, call: Cli) -> None:
    durable = world.worker(signal_flow)
    run = durable.start("w")
    world.drain(durable)
    sent = [str(run.id), "founder-signoff", "--data", '{"ok": true}', "--key", "k"]

    first = call(durable.app, "resume", *sent)
    assert (first.code, first.out.split(":")[0]) == (0, "stored")
    again = call(durable.app, "resume", *sent, "--json")
    assert again.code == 0
    assert again.document == {
        "run_id": str(run.id),
        "outcome": "duplicate",
        "reason": "'founder-signoff' with key 'k' has arrived before",
        "status": again.document["status"],
        "accepted": True,
    }
    world.drain(durable)
    assert run.result(timeout=0) == {"signoff": {"ok": True}, "after": {"ok": True}}

    late = call(durable.app, "resume", *sent)
    assert (late.code, late.out) == (1, "refused: the run is completed already\n")
    late = call(durable.app, "resume", *sent, "--json")
    assert (late.code, late.document["accepted"]) == (1, False)


def test_resume_takes_its_data_from_a_file_or_has_none(
    world: World, call: Cli, tmp_path: Path
) -> None:
    durable = world.worker(signal_flow)
    (tmp_path / "data.json").write_text("[1]")
    run, bare = durable.start("w"), durable.start("w")
    given = ["--data", f"@{tmp_path / 'data.json'}"]
    assert call(durable.app, "resume", str(run.id), "founder-signoff", *given).code == 0
    assert call(durable.app, "resume", str(bare.id), "founder-signoff").code == 0
    world.drain(durable)
    assert run.result(timeout=0)["after"] == [1]
    assert bare.result(timeout=0)["after"] is None


def test_a_refused_resume_leaves_nothing(world: World, call: Cli) -> None:
    durable = world.worker(signal_flow)
    run = str(durable.start("w").id)
    assert_refused(call(durable.app, "resume", run, "s", "--data", "{x"), 2, "not JSON")
    assert_refused(call(durable.app, "resume", run, "s", "--data", "@/no/file"), 2, "/no/file")
    assert_refused(call(durable.app, "resume", run, ""), 2, "signal")
    assert_refused(call(durable.app, "resume", run), 2, "SIGNAL")
    assert_refused(call(durable.app, "resume", "abc", "s"), 2, "not a valid UUID")
    assert_refused(call(durable.app, "resume", str(uuid4()), "s"), 3, "durable list")
    assert world.counts()["inbox"] == 0


def test_a_signal_that_no_node_waits_for_is_kept_with_a_warning(world: World, call: Cli) -> None:
    durable = world.worker(signal_flow)
    run = durable.start("w", key="k")

    delivery = run.resume("founder_signoff")
    assert (delivery.outcome, delivery.accepted) == ("stored", True)
    assert delivery.warning is not None
    assert "'w' version 1" in delivery.warning
    assert "'founder_signoff' (it waits for 'founder-signoff')" in delivery.warning
    said = call(durable.app, "resume", str(run.id), "signoff")
    assert (said.code, said.out.split(":")[0]) == (0, "stored")
    assert "Warning: no node" in said.err
    told = call(durable.app, "resume", str(run.id), "signoff", "--json").document["warning"]
    assert "'founder-signoff'" in told


def test_a_signal_that_is_or_may_be_waited_for_has_no_warning(world: World) -> None:
    def define(durable: Durable) -> None:
        durable.workflow("w").step(lambda _: Suspend(signal="answer"), name="ask").parallel(
            "p", {"x": lambda _: None}
        ).wait_for_signal("signoff")
        durable.workflow("silent").step(lambda _: None, name="a")

    durable = world.worker(define)
    run = durable.start("w")
    assert "it waits for 'signoff'" in str(run.resume("answer").warning), "nothing knows it yet"
    world.drain(durable)
    run = durable.start("w")
    world.drain(durable)
    for name in ("answer", "ask", "p#x", "signoff"):
        assert run.resume(name).warning is None, name
    assert "none of them" in str(durable.start("silent").resume("go").warning)
    with world.connect() as connection, connection.transaction():
        assert run.resume("sign", session=connection).warning is not None


def test_a_run_is_resumed_by_its_key(world: World, call: Cli) -> None:
    durable = world.worker(signal_flow)
    run = durable.start("w", key="order-1")
    named = ["--workflow", "w", "--run-key", "order-1"]
    sent = ["founder-signoff", *named, "--data", "7", "--key", "k"]
    assert call(durable.app, "resume", *sent).out.startswith("stored")
    assert call(durable.app, "resume", *sent).out.startswith("duplicate"), "--key is the signal's"
    world.drain(durable)
    assert run.result(timeout=0)["signoff"] == 7
    wrong = call(durable.app, "resume", str(run.id), "founder-signoff", *named)
    assert_refused(wrong, 2, "Name one run", "--run-key")
    assert_refused(call(durable.app, "resume", *named), 2, "SIGNAL")
    assert_refused(call(durable.app, "resume", "s", "--workflow", "w"), 2, "--run-key")
