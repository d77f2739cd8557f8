"""The mutants of joining an app: its settings, its workers, one of each in a process."""

from tests.mutants.mutant import Mutant

WORKER = "celery_durable.worker"

APP = "tests/integration/test_celery_app.py"
START = "tests/integration/test_worker_start.py"
INSIDE = "tests/integration/test_worker_inside_a_program.py"
ONCE = "tests/unit/test_once.py"
TWINS = "tests/unit/test_twins.py"
SETTINGS = "tests/unit/test_settings.py"

WIRING = (
    Mutant(
        name="routes-of-an-app-that-is-configured",
        promise="P12",
        takes_out="routing our tasks in an app that was configured before it is joined",
        at=f"{WORKER}.install:install",
        old="if app.configured:",
        new="if False:",
        tests=(f"{APP}::test_our_tasks_go_to_our_queue_whenever_the_app_is_joined",),
    ),
    Mutant(
        name="routes-that-were-read-are-read-again",
        promise="P12",
        takes_out="flushing the routes that the app has read",
        at=f"{WORKER}.install:_route",
        old='if "amqp" in vars(sender):',
        new="if False:",
        tests=(f"{APP}::test_our_tasks_go_to_our_queue_whenever_the_app_is_joined",),
    ),
    Mutant(
        name="users-routes-go-first",
        promise="P12",
        takes_out="the order of routes: the first match wins",
        at=f"{WORKER}.install:_route",
        old='[*theirs, OwnRoute({"durable.*": {"queue": queue}})]',
        new='[OwnRoute({"durable.*": {"queue": queue}}), *theirs]',
        tests=(f"{APP}::test_a_route_of_the_users_goes_first",),
    ),
    Mutant(
        name="own-options",
        promise="P2",
        takes_out="the options of our tasks where the app has others",
        at=f"{WORKER}.tasks:keep_own_options",
        old="setattr(cls, name, value)",
        new="pass",
        tests=(
            f"{APP}::test_our_tasks_have_the_options_they_are_made_for_whatever_the_apps_defaults_are",
        ),
    ),
    Mutant(
        name="messages-that-the-app-accepts",
        promise="P2",
        takes_out="looking at what the app accepts",
        at=f"{WORKER}.configuration:serializer_of",
        old="if conf.accept_content is None:",
        new="if True:",
        tests=(f"{APP}::test_our_messages_are_of_a_form_that_the_app_accepts",),
    ),
    Mutant(
        name="queues-consumed-elsewhere",
        promise="P12",
        takes_out="asking what other workers consume before it warns",
        at=f"{WORKER}.queues:warn_of_missing",
        old="missing -= _consumed_elsewhere(durable)",
        new="pass",
        tests=(f"{START}::test_queues_that_no_running_worker_consumes_are_warned_of_once",),
    ),
    Mutant(
        name="queues-as-they-are",
        promise="P2",
        takes_out="writing down what a worker consumes by now",
        at=f"{WORKER}.queues:QueueChanges._keep_writing",
        old="self._write()",
        new="pass",
        tests=(f"{INSIDE}::test_a_queue_that_is_added_and_cancelled_while_it_runs_is_in_its_row",),
    ),
    Mutant(
        name="a-relay-for-an-added-queue",
        promise="P2",
        takes_out="the relay of a worker that consumes a durable queue by now",
        at=f"{WORKER}.bootsteps:RelayStep.on_queues_changed",
        old="self.begin()",
        new="pass",
        tests=(f"{INSIDE}::test_a_queue_that_is_added_and_cancelled_while_it_runs_is_in_its_row",),
    ),
    Mutant(
        name="a-worker-inside-of-a-program-ends",
        promise="P5",
        takes_out="ending what a worker has begun in a process that goes on",
        at=f"{WORKER}.lifecycle:Lifecycle.on_terminated",
        old="self.end(worker)",
        new="pass",
        tests=(f"{INSIDE}::test_it_leaves_nothing_behind",),
    ),
    Mutant(
        name="a-spawned-childs-worker",
        promise="P5",
        takes_out="what the environment tells a spawned child of its worker",
        at=f"{WORKER}.process:remember_worker",
        old="os.environ[_VARIABLE] = json.dumps(facts)",
        new="pass",
        tests=(f"{START}::test_a_spawned_child_is_known_by_the_environment_of_its_worker",),
    ),
    Mutant(
        name="silenced-loggers-speak-again",
        promise="P12",
        takes_out="enabling the loggers that a configuration has disabled",
        at=f"{WORKER}.loggers:enable_loggers",
        old="found.disabled = False",
        new="found.disabled = True",
        tests=(f"{START}::test_loggers_that_a_configuration_has_silenced_speak_again",),
    ),
    Mutant(
        name="made-once",
        promise="P4",
        takes_out="the lock under which a process makes its engine and its registration",
        at="celery_durable.process.once:once.__get__",
        old="with once.lock:",
        new="if True:",
        tests=(f"{ONCE}::test_threads_that_ask_at_once_get_one_value",),
    ),
    Mutant(
        name="a-forked-childs-own-lock",
        promise="P5",
        takes_out="a new lock in a child that was forked while something was made",
        at="celery_durable.process.once:_replace_lock",
        old="once.lock = threading.RLock()",
        new="pass",
        tests=(f"{ONCE}::test_a_child_that_is_forked_while_a_value_is_made_makes_its_own",),
    ),
    Mutant(
        name="twins-have-the-same-functions",
        promise="P10",
        takes_out="comparing the functions of two definitions",
        at="celery_durable.workflow.twins:_difference",
        old="if _source_of(function) != _source_of(theirs[name]):",
        new="if False:",
        tests=(f"{TWINS}::test_two_functions_at_one_place_are_refused_with_both",),
    ),
    Mutant(
        name="twins-were-made-with-the-same-values",
        promise="P10",
        takes_out="comparing the values that functions of one factory were made with",
        at="celery_durable.workflow.twins:_difference",
        old="if _values_in(function) != _values_in(theirs[name]):",
        new="if False:",
        tests=(f"{TWINS}::test_functions_that_one_factory_made_with_other_values_are_two",),
    ),
    Mutant(
        name="settings-of-a-namespace",
        promise="P12",
        takes_out="knowing a misspelt setting behind the app's namespace",
        at="celery_durable.settings:_meant_setting",
        old='(prefix or "celery_").lower()',
        new='""',
        tests=(
            f"{SETTINGS}::test_a_setting_that_celery_would_not_find_is_refused_whatever_the_namespace",
        ),
    ),
)
