"""An agent that asks before it acts: `python -m examples.agent`.

app        the Celery app, and the loop. Start reading here
model      a script where a language model would be
tools      what the agent can do, and which of it wants a person's approval
"""
