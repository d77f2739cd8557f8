"""The mutants of how values are written and read, and of what is checked at the door."""

from tests.mutants.mutant import Mutant

CODEC = "celery_durable.store.codec"
UNIT = "tests/unit"
REFUSES = f"{UNIT}/test_codec_refuses.py"
CLASSES = f"{UNIT}/test_codec_classes.py"
CHECKS = "celery_durable.arguments"
CLIENT = "celery_durable.client"
JOINED = "tests/integration/test_joined_transactions.py"
DOORS = "tests/integration/test_doors.py"
FITS = f"{DOORS}::test_what_would_not_fit_into_an_index_is_refused_before_any_sql"

VALUES = (
    Mutant(
        name="nothing-joins-autocommit",
        promise="P7",
        takes_out="looking whether an SQLAlchemy connection commits each statement by itself",
        at="celery_durable.store.connection:connection_of",
        old='if getattr(session.connection.dbapi_connection, "autocommit", False):',
        new="if False:",
        tests=(f"{JOINED}::test_neither_is_one_of_sqlalchemy[psycopg]",),
    ),
    Mutant(
        name="texts-are-bounded-in-bytes",
        promise="P12",
        takes_out="counting the bytes of keys and signals' names",
        at=f"{CHECKS}:fits",
        old="(most_bytes is None or size <= most_bytes)",
        new="size > 0",
        tests=(FITS,),
    ),
    Mutant(
        name="tags-are-bounded",
        promise="P12",
        takes_out="the limits of tags",
        at=f"{CHECKS}:checked_tags",
        old="len(known) > 2 * MOST_TAGS",
        new="len(known) > 2000 * MOST_TAGS",
        tests=(f"{FITS}[too many tags]",),
    ),
    Mutant(
        name="keys-are-checked-where-runs-are-looked-for",
        promise="P12",
        takes_out="checking the key that a run is looked for by",
        at=f"{CLIENT}:Client.run",
        old="checked_workflow(workflow)\n        checked_key(key)",
        new="",
        tests=(f"{DOORS}::test_a_text_that_postgres_would_refuse_is_refused_before_any_sql",),
    ),
    Mutant(
        name="items-are-bounded-together",
        promise="P12",
        takes_out="the limit of the bytes of all items of a map",
        at="celery_durable.workflow.node_results:items",
        old="if size > MOST_ITEM_BYTES:",
        new="if size > 10 * MOST_ITEM_BYTES:",
        tests=(
            f"{UNIT}/test_node_results.py::test_the_items_of_a_map_have_a_limit_together_of_bytes",
        ),
    ),
    Mutant(
        name="large-inputs-in-parts",
        promise="P12",
        takes_out="counting the bytes of the inputs that one statement writes",
        at="celery_durable.engine.children:in_batches",
        old="(at - first == BATCH or size > BATCH_BYTES)",
        new="at - first == BATCH",
        tests=(f"{DOORS}::test_many_large_inputs_are_written_in_parts",),
    ),
    Mutant(
        name="subclasses-are-refused",
        promise="P12",
        takes_out="telling a subclass of a plain type from the type",
        at=f"{CODEC}.encode:encoded",
        old="if (scalar := SCALARS.get(kind)) is not None:",
        new="if (scalar := next((SCALARS[b] for b in kind.__mro__ if b in SCALARS), None)):",
        tests=(f"{REFUSES}::test_a_subclass_of_a_plain_type_is_refused_with_what_to_make_of_it",),
    ),
    Mutant(
        name="nesting-is-bounded",
        promise="P12",
        takes_out="the limit of levels that values may have",
        at=f"{CODEC}.encode:encoded",
        old="if path.depth >= MOST_NESTED:",
        new="if path.depth >= 10 * MOST_NESTED:",
        tests=(f"{REFUSES}::test_a_value_that_contains_itself_or_is_nested_too_deep_is_refused",),
    ),
    Mutant(
        name="classes-are-found-by-their-names",
        promise="P12",
        takes_out="looking whether the name of a class leads to it",
        at=f"{CODEC}.classes:reference_to",
        old="if _named(module, name) is not kind:",
        new="if False:",
        tests=(f"{REFUSES}::test_a_generic_model_that_was_made_in_a_function_is_refused",),
    ),
    Mutant(
        name="objects-are-their-attributes",
        promise="P12",
        takes_out="refusing objects that are more than their attributes",
        at=f"{CODEC}.objects:layout_of",
        old="refusal = refusal or _hidden_state(cls)",
        new="_ = _hidden_state",
        tests=(f"{REFUSES}::test_an_object_that_would_not_come_back_as_it_is_is_refused",),
    ),
    Mutant(
        name="reading-imports-nothing",
        promise="P12",
        takes_out="importing only what is allowed to read a value",
        at=f"{CODEC}.classes:class_named",
        old="if not _is_allowed(module, reference):",
        new="if not module:",
        tests=(f"{CLASSES}::test_a_module_is_not_imported_because_the_journal_names_it",),
    ),
    Mutant(
        name="reading-makes-what-writing-takes",
        promise="P12",
        takes_out="looking whether a class is one of those that the tag is for",
        at=f"{CODEC}.decode:_made",
        old="if layout is None or layout.kind != tag or layout.refusal is not None:",
        new="if found is None:",
        tests=(f"{CLASSES}::test_nothing_is_made_but_what_writing_takes_under_that_tag",),
    ),
)
