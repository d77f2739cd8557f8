"""An office whose letters are sent with the transaction that they belong to.

`post` writes a letter and the id of its task into the table `posted` of the office.
"""

import json
import os
from typing import Any

from celery import Celery, shared_task

from celery_durable import Durable, OutboxTask
from tests.apps import configure
from tests.apps.shop import CONFIG, connected

TABLE = "CREATE TABLE posted (id bigserial, letter text, task_id text, root_id text)"


@shared_task(name="posting.post", base=OutboxTask, bind=True)
def post(self: Any, *letters: str) -> str:
    """Post the last of its letters: the others are results of the tasks before it."""
    with connected() as office:
        office.execute(
            "INSERT INTO posted (letter, task_id, root_id) VALUES (%s, %s, %s)",
            (letters[-1], self.request.id, self.request.root_id),
        )
    return letters[-1]


@shared_task(name="posting.post_later", base=OutboxTask, bind=True)
def post_later(self: Any, letter: str) -> None:
    """Try again from within a transaction, which the retry rolls back; then post."""
    with connected() as office, office.transaction(), durable.joining(office):
        post.delay(f"{letter}, try {self.request.retries}")
        if self.request.retries == 0:
            raise self.retry(countdown=0)


def define(durable: Durable) -> None:
    durable.workflow("posting").step(lambda ctx: ctx.send_task(post.s(ctx.input)), name="send")


app = configure(Celery("posting"))
app.conf.update(json.loads(os.environ.get(CONFIG) or "{}"))
durable = Durable(app)
define(durable)
