"""A run is started in a browser by a form that is left as it was shown."""

from __future__ import annotations

from typing import Any

import pytest

from celery_durable.web import Viewer, create_app
from tests.browser.conftest import Open, Serve
from tests.integration.driving import World
from tests.web.test_forms import Dark, Defaults


@pytest.mark.parametrize("model", [Defaults, Dark])
def test_what_a_browser_sends_of_a_form_that_is_left_alone_is_what_the_model_makes(
    world: World, serve: Serve, browse: Open, model: Any
) -> None:
    worker = world.worker(
        lambda durable: durable.workflow("w", input=model).step(lambda _: None, name="a")
    )
    page = browse(serve(create_app(worker, login=lambda _: Viewer("Ann"))) + "/workflow?name=w")
    page.get_by_role("button", name="Start").click()
    page.wait_for_url("**/runs/*")
    (run,) = worker.list()
    assert worker.status(run.run_id).input == model()
