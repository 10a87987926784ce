"""`python -m tests.chaos`: the fault list on whole lines, one after the other, and the table of what became of them."""

import argparse
import itertools
import json
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.brokers import wait_until
from tests.chaos.fault_list import listed
from tests.chaos.faults import Fault, UnavailableError
from tests.chaos.rig import Count, Plant, Taught, count, plant, taught

COMES_BACK_S = 120.0


@dataclass(frozen=True)
class Outcome:
    """`safe_s` until the PLC knew, None where parts may go on; `production_s` from the mending (or the fault, where nobody
    mends) until a part passed again, or the longest pause between two parts that passed."""

    fault: str
    what: str
    safe_s: float | None
    production_s: float
    counts: Count

    @property
    def passed(self) -> bool:
        knew = self.safe_s is None or self.safe_s <= 3.5
        return knew and self.counts.lost == 0 and self.counts.doubled == 0 and self.counts.bad_accepted == 0


def strike(fault: Fault, products: Taught) -> Outcome:
    """Let one fault meet a line of its own.

    Raises:
        UnavailableError: this machine lacks what the fault needs.
        AssertionError: the line did not come back; the text ends with its log.
    """
    made = {"prepare": fault.prepare, "supervised": fault.supervised, "kind": fault.kind, "period_s": fault.period_s}
    with plant(products, fault.values, **made) as line:
        if fault.before is not None:
            fault.before(line)
        struck_s = time.monotonic()
        fault.strike(line)
        safe_s = _until_the_plc_knew(line, struck_s) if fault.stops else None
        _hold(fault, struck_s)
        mended_s, production_s = struck_s, 0.0
        if fault.mend is not None:
            mended_s = time.monotonic()
            fault.mend(line)
        if fault.stops:
            since_s = mended_s if fault.mend is not None else struck_s + (safe_s or 0.0)
            production_s = line.wait_accepted(1, since_s=since_s, timeout_s=COMES_BACK_S) - mended_s
        line.wait_accepted(10, since_s=time.monotonic(), timeout_s=60)
        if not fault.stops:
            production_s = _longest_pause(line, struck_s)
        line.end()
        if fault.check is not None:
            fault.check(line)
        return Outcome(
            fault.name,
            fault.what,
            safe_s,
            production_s,
            count(line),
        )


def _hold(fault: Fault, struck_s: float) -> None:
    if fault.mend is not None or not fault.stops:
        time.sleep(max(0.0, struck_s + fault.hold_s - time.monotonic()))


def _until_the_plc_knew(line: Plant, struck_s: float) -> float:
    """Seconds until the PLC rejected a part because something was wrong, or knew that none may pass."""
    ready_until: list[float] = []

    def knows() -> bool:
        if not line.plc.is_ready and not ready_until:
            ready_until.append(time.monotonic())
        return bool(ready_until) or line.knows_since(struck_s) is not None

    wait_until(knows, 30)
    return min([*ready_until, line.knows_since(struck_s) or time.monotonic()]) - struck_s


def _longest_pause(line: Plant, since_s: float) -> float:
    moments = [since_s, *line.accepted_since(since_s)]
    return max((later - earlier for earlier, later in itertools.pairwise(moments)), default=0.0)


HEAD = (
    f"{'fault':32s} {'what was done':46s} {'safe s':>7s} {'back s':>7s} {'parts':>6s} {'lost':>5s} {'doubled':>7s}"
    f" {'bad accepted':>12s}"
)


def row(outcome: Outcome) -> str:
    """One line of the table."""
    counts = outcome.counts
    safe = "goes on" if outcome.safe_s is None else f"{outcome.safe_s:7.2f}"
    return (
        f"{outcome.fault:32s} {outcome.what:46s} {safe:>7s} {outcome.production_s:7.1f} {counts.parts:6d} {counts.lost:5d}"
        f" {counts.doubled:7d} {counts.bad_accepted:12d}" + ("" if outcome.passed else "  FAILED")
    )


def run(chosen: Sequence[Fault], products: Taught, file: Path | None = None) -> tuple[list[Outcome], int]:
    """Strike with each; prints the table while it grows. Gives the outcomes and how many lines never came back."""
    sys.stdout.write(HEAD + "\n")
    outcomes, broken = [], 0
    for fault in chosen:
        try:
            outcome = strike(fault, products)
        except UnavailableError as error:
            sys.stdout.write(f"{fault.name:32s} not run: {error}\n")
            continue
        except AssertionError as error:
            broken += 1
            sys.stdout.write(f"{fault.name:32s} FAILED: {error!s:.6000}\n")
            continue
        finally:
            sys.stdout.flush()
        outcomes.append(outcome)
        sys.stdout.write(row(outcome) + "\n")
        sys.stdout.flush()
        if file is not None:
            file.write_text(json.dumps([asdict(one) | {"passed": one.passed} for one in outcomes], indent=1) + "\n")
    return outcomes, broken


def main() -> None:
    """Exit code 1 if any row was lost or doubled, a bad part accepted, the PLC told late, or a line did not come back."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--short", action="store_true", help="the few faults that CI runs")
    parser.add_argument("--only", default="", help="faults whose name contains this")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--swaps", type=int, default=50)
    parser.add_argument("--json", type=Path, help="file for the table")
    arguments = parser.parse_args()
    logging.basicConfig(
        level=logging.CRITICAL
    )  # the PLC's complaints about a broker that is gone are what is wanted here
    every = listed(arguments.kills, arguments.swaps)
    chosen = [one for one in every if arguments.only in one.name and (one.short or not arguments.short)]
    with tempfile.TemporaryDirectory(prefix="inspector-chaos-") as folder:
        outcomes, broken = run(chosen, taught(Path(folder) / "data"), arguments.json)
    with suppress(BrokenPipeError):
        sys.stdout.write(f"{len(outcomes)} faults, {sum(not one.passed for one in outcomes) + broken} failed\n")
    sys.exit(1 if broken or not all(one.passed for one in outcomes) else 0)


if __name__ == "__main__":
    main()
