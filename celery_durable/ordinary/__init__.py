"""Ordinary tasks of Celery: as steps, as workflows made of canvases, as messages of the outbox.

Rules of this room: a task stays as it is written. What of it cannot be honoured is refused, or
warned of once. Nothing here talks to the database or to a broker.

    task_steps        makes steps of tasks
    task_options      what a task says of its execution, as the options of a step
    task_attempt      one attempt of a step that is a task: its request, its hooks, signals
    canvas            takes a canvas apart
    canvas_workflows  makes a workflow of it
    signatures        takes signatures of hooks apart
    composing         signatures -> messages for the outbox
    message           one message: as Celery would publish it -> the outbox -> kombu
    message_options   options of a message that are refused
    outbox_task       a task whose `delay` joins the transaction that is open
"""
