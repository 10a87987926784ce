"""A whole line that faults strike, and the count of what became of its parts.

The line is a real one: `inspector run` with its supervisor, mosquitto, the database, a camera. The virtual PLC triggers a
part every `period_s` and decides on each; nothing in here tells the line what is about to happen.
"""

import math
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from edge.cameras.faults import fault_of
from inspector import simulation
from inspector.config import Config, EncoderConfig
from inspector.contract.gate import Decision, Reason
from inspector.contract.virtual_plc import PlcSettings, VirtualPlc
from inspector.errors import InspectorError
from inspector.store.schema import InspectionRow, Recipe
from inspector.types import Verdict
from tests.brokers import wait_until
from tests.end_to_end.plant import START_S, Line, made_line, small_encoder, teach

KINDS = ("flange", "gear")
DEFECT_RATE = 0.1
PLC_TIMER_S = 2.0


@dataclass(frozen=True)
class Taught:
    """A data folder whose products every line gets a copy of."""

    folder: Path
    rcp: dict[str, int]


def taught(folder: Path, encoder: EncoderConfig | None = None) -> Taught:
    """Two products, taught once; default: with the embedded tower on a coarse grid, which costs milliseconds."""
    folder.mkdir(parents=True)
    config = Config.model_validate({"data_dir": folder, "encoder": encoder or small_encoder(folder)})
    return Taught(folder, teach(config, KINDS, active=KINDS[0]))


class Belt:
    """Triggers a part of `kind` every `period_s` until it is stopped; both may change while it runs."""

    def __init__(self, plc: VirtualPlc, kind: str, period_s: float) -> None:
        self.plc, self.kind, self.period_s = plc, kind, period_s
        self.triggered: list[tuple[int, str, float]] = []
        """Trigger, kind of the part, monotonic second."""
        self.pause = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="belt", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        next_s = time.monotonic()
        while not self._stopping.wait(max(0.0, next_s - time.monotonic())):
            next_s = max(next_s + self.period_s, time.monotonic() - self.period_s)
            if self.pause.is_set():
                continue
            kind = self.kind
            trg = self.plc.trigger(f"{kind}:{len(self.triggered) + 1:06d}")
            self.triggered.append((trg, kind, time.monotonic()))


@dataclass
class Plant:
    """One running line with its PLC and its belt."""

    line: Line
    plc: VirtualPlc
    belt: Belt
    process: "subprocess.Popen[bytes]"
    """The supervisor, or the worker where there is none."""
    decisions: list[tuple[float, Decision]]
    """Monotonic second and decision, in their order."""
    after: ExitStack
    """What has to be put right when the line is gone."""

    def accepted_since(self, monotonic_s: float) -> list[float]:
        """Seconds at which parts were accepted that were triggered after `monotonic_s`."""
        since = {trg for trg, _, at_s in list(self.belt.triggered) if at_s >= monotonic_s}
        return [
            at_s
            for at_s, decision in list(self.decisions)
            if decision.accepted and at_s >= monotonic_s and decision.trg in since
        ]

    def wait_accepted(self, count: int, *, since_s: float, timeout_s: float) -> float:
        """Wait for so many accepted parts triggered after `since_s`; gives the second of the first."""
        wait_until(lambda: len(self.accepted_since(since_s)) >= count, timeout_s)
        return self.accepted_since(since_s)[0]

    def knows_since(self, monotonic_s: float) -> float | None:
        """Second at which the PLC first rejected a part since then for another reason than its quality."""
        for at_s, decision in list(self.decisions):
            if at_s >= monotonic_s and decision.reason not in (Reason.OK, Reason.NOT_OK):
                return at_s
        return None

    def restart_plc(self, first_trigger: int) -> None:
        """The PLC's program is loaded anew; its counter begins where it is told."""
        self.belt.pause.set()
        self.plc.stop()
        self.plc = new_plc(self.line, self.plc.wanted_rcp, self.decisions, first_trigger)
        self.plc.start()
        self.belt.plc = self.plc
        self.belt.pause.clear()

    def stop_plc(self) -> None:
        """Whichever it is now."""
        self.plc.stop()

    def end(self) -> None:
        """Stop belt and line in good order, so that every row is there."""
        self.belt.stop()
        with suppress(InspectorError):
            self.plc.wait_decided(10)
        with suppress(AssertionError):
            wait_until(lambda: not missing(self), 120)  # a long absence is settled a few parts at a time
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)


@dataclass(frozen=True)
class Count:
    """What became of the parts. `bad_accepted`: accepted without an OK row of that very part, made by a finite score of the
    product that lay on the belt. `escapes`: bad parts that the model itself took for good, which is no fault of the line."""

    parts: int
    accepted: int
    lost: int
    doubled: int
    bad_accepted: int
    escapes: int


def missing(plant: Plant) -> list[int]:
    """Triggers without a row."""
    with plant.line.store() as store, store.read() as session:
        known = set(session.scalars(select(InspectionRow.trg)))
    return [trg for trg, _, _ in list(plant.belt.triggered) if trg not in known]


def count(plant: Plant) -> Count:
    """The invariants of the line, after its end."""
    rows = plant.line.rows()
    by_trigger: dict[int, list[InspectionRow]] = {}
    for row in rows:
        by_trigger.setdefault(row.trg, []).append(row)
    triggers = Counter(trg for trg, _, _ in plant.belt.triggered)
    kinds = {trg: kind for trg, kind, _ in plant.belt.triggered}
    accepted = [decision for _, decision in plant.decisions if decision.accepted]
    recipes = _recipes(plant.line)
    bad = [
        one
        for one in accepted
        if _met_fault(plant.line, one.trg)
        or recipes.get(_recipe_of(one, by_trigger)) != plant.line.taught[kinds[one.trg]]
    ]
    escapes = [one for one in accepted if one not in bad and _is_defective(plant.line, one.trg)]
    return Count(
        parts=sum(triggers.values()),
        accepted=len(accepted),
        lost=sum(max(0, due - len(by_trigger.get(trg, []))) for trg, due in triggers.items()),
        doubled=sum(max(0, len(by_trigger.get(trg, [])) - due) for trg, due in triggers.items()),
        bad_accepted=len(bad),
        escapes=len(escapes),
    )


def _recipe_of(decision: Decision, rows: dict[int, list[InspectionRow]]) -> int | None:
    """The recipe whose finite score is the OK of this very part; None where its row says anything else."""
    result = decision.result
    for row in rows.get(decision.trg, []):
        if result is not None and (row.boot, row.seq) == (result.boot, result.seq):
            scored = row.score is not None and math.isfinite(row.score) and row.score <= (row.threshold or 0.0)
            return row.recipe_id if row.verdict == Verdict.OK and row.err == 0 and scored else None
    return None


def _is_defective(line: Line, trg: int) -> bool:
    """The truth of a drawn part; parts before a real camera are all good."""
    camera = line.config.cameras[0]
    return camera.kind == "simulated" and simulation.truth(camera.seed, trg, camera.defect_rate) is not None


def _met_fault(line: Line, trg: int) -> bool:
    """Whether the camera gave no true picture of this part; the very first one has none before it that could be repeated."""
    met = fault_of(line.config.cameras[0], trg)
    return bool(met) and not (met == "frozen" and trg == 1)


def _recipes(line: Line) -> dict[int | None, int]:
    """The PLC's index of the product by recipe."""
    with line.store() as store, store.read() as session:
        return {recipe.id: recipe.product.rcp for recipe in session.scalars(select(Recipe))}


@contextmanager
def plant(
    products: Taught,
    values: dict[str, Any] | None = None,
    *,
    kind: str = KINDS[0],
    period_s: float = 0.12,
    prepare: Callable[[Line, ExitStack], None] | None = None,
    supervised: bool = True,
) -> Iterator[Plant]:
    """A line that runs and has accepted parts; `prepare` may change the line before it starts."""
    folder = Path(tempfile.mkdtemp(prefix="inspector-chaos-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        after = stack.enter_context(ExitStack())
        line = stack.enter_context(made_line(products.folder, products.rcp, folder))
        line.values["cameras"][0]["defect_rate"] = DEFECT_RATE
        line.values["mqtt"]["heartbeat_ms"] = 1000
        line.values["supervisor"] = {"hung_s": 5.0}
        line.values["batching"] = {"deadline_ms": 1000, "queue_size": 32}
        line.values |= values or {}
        if prepare is not None:
            prepare(line, after)
        decisions: list[tuple[float, Decision]] = []
        plc = new_plc(line, line.taught[kind], decisions)
        plc.start()
        process = line.supervise() if supervised else line.start()
        stack.callback(_end_of, line)
        try:
            plc.wait_ready(START_S)
        except InspectorError as error:
            plc.stop()
            raise AssertionError(f"{error}\n{line.log}") from error
        belt = Belt(plc, kind, period_s)
        stack.callback(belt.stop)
        made = Plant(line, plc, belt, process, decisions, after)
        stack.callback(made.stop_plc)
        try:
            made.wait_accepted(5, since_s=0.0, timeout_s=60)
            yield made
        except AssertionError as error:
            raise AssertionError(f"{error}\n{line.log[-4000:]}") from error
        finally:
            belt.stop()
            if made.process.poll() is None:
                made.process.kill()
                made.process.wait()


def new_plc(line: Line, rcp: int | None, decisions: list[tuple[float, Decision]], first_trigger: int = 1) -> VirtualPlc:
    """A PLC with its own timer that writes down what it decides."""
    settings = PlcSettings(allow_simulated=True, timeout_s=PLC_TIMER_S, first_trigger=first_trigger)
    return VirtualPlc(
        line.config.mqtt, settings, wanted_rcp=rcp, on_decision=lambda one: decisions.append((time.monotonic(), one))
    )


def _end_of(line: Line) -> None:
    """A worker whose supervisor was killed ends by itself; one that is frozen does not, and is ended here."""
    with suppress(InspectorError, OSError):
        pid = line.worker_pid
        if str(line.folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
