from datetime import timedelta
from tests.integration.driving import World
from celery_durable.workflow.suspend import Suspend
def define(d):
    child = d.workflow("child").step(lambda ctx: {"got": ctx.input}, name="c1")
    def agent(ctx):
        if not ctx.is_resumed:
            return Suspend({"asked": 1})
        return [ctx.snapshot, ctx.resume_data]
    log=[]
    d.log=log
    s=lambda n: d.step(name=n, compensate=lambda ctx: log.append((ctx.unit, ctx.result, ctx.item)))(lambda ctx: (n, ctx.item))
    w=(d.workflow("w").step(s("a"))
     .parallel("p", [s("x"), s("y"), child])
     .map("m", over=lambda ctx: [1,2,None,4,5], handler=s("item"), max_concurrency=2)
     .map("m2", over=lambda ctx: list(range(7)), handler=s("item2"), max_concurrency=4, chunk=2)
     .map("empty", over=lambda ctx: [], handler=s("item3"))
     .route("r", lambda ctx: "one", {"one": s("one"), "two": child})
     .loop("l", lambda ctx: ctx.item + 1, max_iterations=10, map_input=lambda ctx: 5, feedback=lambda r: r, until=lambda r, n: r >= 8)
     .sleep("z", 3600)
     .wait_for_signal("sig", "go")
     .step(agent, name="agent")
     .child_workflow("kid", child, map_input=lambda ctx: {"k": ctx.results["l"]}, compensate="cascade")
     .step(lambda ctx: 1/0 if ctx.input == "fail" else ctx.results["m"], name="last"))
def test_smoke(world: World):
    d = world.worker(define, inline_steps=5)
    for inp in ("ok","fail"):
        run = d.start("w", inp)
        world.drain(d)
        print(world.units(run), d.status(run.id).status)
        assert d.status(run.id).status == "sleeping"
        world.let_time_pass(3600)
        world.drain(d)
        assert d.status(run.id).awaiting == ("go",)
        assert d.status(run.id).status == "suspended"
        print(run.resume("go", {"x": 1}, key="k"), run.resume("go", {"x": 1}, key="k"))
        world.drain(d)
        assert d.status(run.id).awaiting == ("agent",)
        run.resume("agent", "yes")
        world.drain(d)
        print(world.units(run), d.status(run.id).status)
        if inp=="fail":
            world.let_time_pass(100); world.drain(d); world.let_time_pass(100); world.drain(d)
            print(d.log, run.status())
            print(world.units(run)); print(world.rows("select workflow,status from durable_run"))
        else:
            print(run.result(1))
        print(world.counts())
    assert 0
