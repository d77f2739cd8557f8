"""``python -m tests.chaos``: strike a working system, then look whether it kept its promises."""

import argparse
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tests.chaos import accounts, ledger
from tests.chaos.faults import KINDS, Strike, schedule, strike
from tests.chaos.field import Field, field
from tests.chaos.load import Load, Started
from tests.chaos.report import bar, console, show_breaches, show_tables
from tests.chaos.verdict import Evidence, breaches
from tests.chaos.witness import Witness
from tests.waiting import wait_until

BROKERS = ("redis", "rabbitmq")
CALM_WITHIN = 300.0
"""Seconds within which all runs end once the faults are over."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What one run of chaos is given."""

    broker: str
    seed: int
    seconds: float
    only: Sequence[str]


def main() -> int:
    arguments = parse()
    shown = console()
    chosen = [arguments.broker] if arguments.broker else BROKERS
    outcomes = [chaos(shown, name, arguments) for name in chosen]
    return 0 if all(outcomes) else 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description="Mixed workflows under a schedule of faults drawn from a seed.",
    )
    parser.add_argument("--broker", choices=BROKERS, help="by default one after the other")
    parser.add_argument("--minutes", type=float, default=1.0, help="of faults, on each broker")
    parser.add_argument("--rate", type=float, default=6.0, help="runs started per second")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=(), help="these faults")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--logs", type=Path, help="a folder for what the processes logged")
    return parser.parse_args()


def chaos(shown: Console, broker: str, arguments: argparse.Namespace) -> bool:
    """One broker: True when every law held."""
    seed, seconds = arguments.seed, 60 * arguments.minutes
    shown.print(
        f"\nChaos on {broker} for {seconds / 60:g} minutes, seed {seed}. Once more:"
        f" python -m tests.chaos --broker {broker} --minutes {seconds / 60:g} --seed {seed}"
        f" --rate {arguments.rate:g}"
    )
    with field(broker) as struck:
        load, witness = Load(struck, seed, arguments.rate), Witness(struck)
        trial = Trial(broker, seed, seconds, arguments.only)
        try:
            return judge(shown, struck, load, witness, trial)
        finally:
            load.close()
            witness.close()
            if arguments.logs is not None:
                keep_logs(arguments.logs / broker, struck.logs())


def keep_logs(folder: Path, logs: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for process, text in logs.items():
        (folder / f"{process}.log").write_text(text)


def judge(shown: Console, struck: Field, load: Load, witness: Witness, trial: Trial) -> bool:
    undisturbed = load.one_of_each()
    wait_until(lambda: not load.see_signals_through(), timeout=60, message="undisturbed runs")
    zero = time.monotonic()
    witness.begin()
    load.begin()
    strikes = suffer(shown, struck, load, trial)
    struck.calm()
    load.begin_no_more()
    is_quiet = wait_for_quiet(struck, load)
    witness.close()
    evidence = gather(struck, load, witness, undisturbed, strikes)
    found = breaches(evidence)
    show_tables(shown, trial.broker, evidence, struck.logs())
    show_breaches(shown, found, evidence, zero)
    shown.print(f"{len(found)} breaches, seed {trial.seed}" if found else "Every promise was kept.")
    return is_quiet and not found


def suffer(shown: Console, struck: Field, load: Load, trial: Trial) -> list[Strike]:
    """Strike as scheduled, while the load goes on; what happened."""
    zero = time.monotonic()
    strikes: list[Strike] = []
    with bar(shown) as progress:
        task = progress.add_task("chaos", total=trial.seconds)
        for fault in schedule(trial.seed, trial.seconds, trial.only):
            while time.monotonic() < zero + fault.at:
                struck.attend()
                if load.error is not None:
                    raise load.error
                told = f"{len(load.started):,} runs, {len(strikes)} faults, next: {fault.kind}"
                progress.update(task, completed=time.monotonic() - zero, description=told)
                time.sleep(0.02)
            strikes.append(strike(struck, fault))
    return strikes


def wait_for_quiet(struck: Field, load: Load) -> bool:
    """Whether all runs have ended and nothing is left in the outbox in time."""

    def is_quiet() -> bool:
        struck.attend()
        return load.unfinished == 0 and not load.doomed and not load.paused and is_empty(struck)

    try:
        wait_until(is_quiet, timeout=CALM_WITHIN)
    except AssertionError:
        return False
    return True


def is_empty(struck: Field) -> bool:
    with struck.connect() as connection:
        return not any(accounts.first(connection, query) for query in accounts.LEFT.values())


def gather(
    struck: Field,
    load: Load,
    witness: Witness,
    undisturbed: list[Started],
    strikes: list[Strike],
) -> Evidence:
    with struck.connect() as connection:
        found = accounts.read(connection)
    return Evidence(
        started=load.started,
        cancelled=load.cancelled,
        undisturbed={(one.workflow, one.variant): one.run.id for one in undisturbed},
        accounts=found,
        executions=ledger.read(struck.ledger),
        strikes=strikes,
        seen=witness.recorded,
        deaths=list(witness.deaths.values()),
        steered=load.steered,
    )


if __name__ == "__main__":
    sys.exit(main())
