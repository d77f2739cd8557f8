"""The mutants of what the web page shows, and of how it is followed."""

from tests.mutants.mutant import Mutant

LIVE = "celery_durable.web.live"
TOPICS = "celery_durable.web.topics"
DOWNLOADS = "celery_durable.web.downloads"
FILTERS = "celery_durable.store.read.filters"
TRAFFIC = "celery_durable.store.read.traffic"

FOLLOWED = "tests/web/test_live.py"
LISTING = "tests/integration/test_listing.py"
COUNTED = "tests/integration/test_traffic.py"

WATCHING = (
    Mutant(
        name="streams-end-with-access",
        promise="P12",
        takes_out="asking whether the viewer of a stream may still look",
        at=f"{LIVE}:Stream._events",
        old="not await still_lets_in(self._request)",
        new="False",
        tests=(
            f"{FOLLOWED}::test_a_stream_ends_when_its_viewer_may_look_no_more",
            f"{FOLLOWED}::test_a_cookie_that_is_no_longer_good_ends_the_stream",
        ),
    ),
    Mutant(
        name="streams-are-bounded",
        promise="P11",
        takes_out="the bound of how many streams are open",
        at=f"{TOPICS}:Topics.watched",
        old="self.streams >= self._most_streams",
        new="False",
        tests=(f"{FOLLOWED}::test_no_more_streams_are_open_than_may_be",),
    ),
    Mutant(
        name="one-look-for-all",
        promise="P11",
        takes_out="sharing what is looked at among those who watch it",
        at=f"{TOPICS}:Topics.watched",
        old="if key not in self._topics:",
        new="if key := (key, object()):",
        tests=(f"{FOLLOWED}::test_a_thing_is_looked_at_once_for_all_who_watch_it",),
    ),
    Mutant(
        name="nobody-watches-nobody-looks",
        promise="P11",
        takes_out="ending the looks at what nobody watches any more",
        at=f"{TOPICS}:Topics.watched",
        old="del self._topics[key]",
        new="pass",
        tests=(f"{FOLLOWED}::test_a_thing_is_looked_at_once_for_all_who_watch_it",),
    ),
    Mutant(
        name="unread-streams-are-dropped",
        promise="P11",
        takes_out="the bound of how long an event may take to be sent",
        at=f"{LIVE}:Stream._send",
        old="asyncio.timeout(READ_WITHIN)",
        new="asyncio.timeout(None)",
        tests=(f"{FOLLOWED}::test_a_stream_that_nobody_reads_is_dropped",),
    ),
    Mutant(
        name="streams-stop-with-the-server",
        promise="P11",
        takes_out="looking whether the server is to stop",
        at=f"{LIVE}:Stream._events",
        old="not is_stopping()",
        new="True",
        tests=(f"{FOLLOWED}::test_the_server_stops_while_pages_are_live",),
    ),
    Mutant(
        name="values-are-saved-and-not-shown",
        promise="P12",
        takes_out="having a browser save what others have written, and not show it",
        at=f"{DOWNLOADS}:_file",
        old="f'attachment; filename=\"{name}\"'",
        new="f'inline; filename=\"{name}\"'",
        tests=("tests/web/test_run.py::test_input_and_result_are_shown_and_saved",),
    ),
    Mutant(
        name="one-branch-that-moves-is-enough",
        promise="P12",
        takes_out="looking at all tokens of a run for whether it stands",
        at=f"{FILTERS}:CONDITIONS",
        old='t.token.c.run_id == t.run.c.id, t.token.c.since >= sql.time("standing_since")',
        new=(
            "t.token.c.run_id == t.run.c.id, t.token.c.parent_id.is_(None),"
            ' t.token.c.since >= sql.time("standing_since")'
        ),
        tests=(f"{LISTING}::test_runs_are_listed_in_which_nothing_has_moved_since_a_time",),
    ),
    Mutant(
        name="paused-runs-are-counted-as-listed",
        promise="P12",
        takes_out="looking at other tokens than the first of a run that has forked",
        at="celery_durable.store.read.position:status_by",
        old='(first.c.wait == sql.word("branches"), STATUS.element),',
        new="",
        tests=(f"{COUNTED}::test_unfinished_runs_are_counted_as_a_list_shows_them",),
    ),
    Mutant(
        name="counts-of-unfinished-runs-are-bounded",
        promise="P11",
        takes_out="the bound of the count of unfinished runs",
        at=f"{TRAFFIC}:_arm",
        old=".limit(sa.literal_column(str(MOST_UNFINISHED)))",
        new="",
        tests=(f"{COUNTED}::test_counts_stop_at_their_bounds_and_say_so",),
    ),
)
"""What a page shows, and how it is followed."""
