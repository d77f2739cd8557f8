"""Makes the links of `ctx.callback_url`: for the next answer of a signal to the run of a unit."""

from __future__ import annotations

from datetime import timedelta

from celery_durable.core.claim import Claim
from celery_durable.core.nodes import SignalNode
from celery_durable.core.plan import Plan
from celery_durable.engine.retrying import Retrying
from celery_durable.errors import ConfigurationError
from celery_durable.settings import Settings
from celery_durable.store import codec, signals
from celery_durable.workflow.builder import Workflow
from celery_durable.workflow.callbacks import LONGEST, PATH, Callback, signed
from celery_durable.workflow.inputs import checked_signal_data


class Links:
    """Makes links with the secret and the address of the settings."""

    def __init__(self, retrying: Retrying, settings: Settings) -> None:
        self._retrying = retrying
        self._secret = settings.web_secret
        self._address = settings.web_url

    def __call__(
        self,
        workflow: Workflow,
        claim: Claim,
        signal: str,
        *,
        data: tuple[object] | None,
        expires: float | None,
        key: str | None,
    ) -> str:
        """Return the URL of a link for the signal. `expires` is in seconds.

        Raises `ConfigurationError` where a setting is missing, or no wait for the signal follows;
        `PayloadError` for data that the wait does not take, or that is too long for a link.
        """
        if self._secret is None or self._address is None:
            raise ConfigurationError(
                "ctx.callback_url needs the settings durable_web_secret, a secret of 16 characters"
                " or more, and durable_web_url, where people open the page or the view of links:"
                " set both, alike in workers and in the processes that serve the page."
            )
        unit = waiting_unit(workflow.plan, claim, signal)
        text = None
        if data is not None:
            checked_signal_data(workflow, signal, data[0])
            text = codec.dumps(data[0], what=f"the data of {signal}", limit=LONGEST, setting=None)
        counted = self._retrying.ask(
            lambda connection: signals.counted(connection, claim.run.id, signal)
        )
        callback = Callback(
            run_id=claim.run.id,
            signal=signal,
            unit=unit,
            wait=counted.consumed if key is None else None,
            key=key,
            expires_at=None if expires is None else counted.at + timedelta(seconds=expires),
            data=text,
        )
        return f"{self._address}/{PATH}/{signed(callback, self._secret)}"


def waiting_unit(plan: Plan, claim: Claim, signal: str) -> str | None:
    """Return the unit that will wait for the signal; None if the plan does not say which.

    It is the next node that waits for it, or the unit itself, which may suspend. A unit may suspend
    for a signal of any other name. Raises `ConfigurationError` if all waits for it are past.
    """
    token = claim.token
    waits = [node.name for node in plan.nodes if isinstance(node, SignalNode)]
    waits = [name for name in waits if _signal_of(plan, name) == signal]
    if not waits:
        return token.unit if signal == token.unit else None
    here = plan.names.index(token.node) if token.node in plan.names else len(plan.names)
    later = [name for name in waits if plan.names.index(name) > here]
    if not later and token.rollback is None:
        raise ConfigurationError(
            f"ctx.callback_url: no wait for the signal {signal!r} follows {token.unit!r} in"
            f" {plan.workflow!r}; {', '.join(waits)} came before it."
        )
    return later[0] if later else None


def _signal_of(plan: Plan, name: str) -> str | None:
    node = plan.find(name)
    return node.signal if isinstance(node, SignalNode) else None
