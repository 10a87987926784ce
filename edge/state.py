"""The station's state machine after OPC 40100-1, its alarms, and the snapshot that each batch is judged by. No thread.

May import the contract and the detector. Every change counts the epoch on: a part is scored only if it was seen and is
answered under one and the same epoch, so that nothing seen before a product change can get a verdict after it.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from edge.alarms import AlarmBoard
from inspector.contract.codes import ErrorCode, StationMode, StationState
from inspector.contract.messages import RecipeMessage, State
from inspector.detection.detector import Detector

NAME_LENGTH = 64
FAULT = "station"
"""Source of the alarms of the station as a whole."""
HALTED = "halted"


@dataclass(frozen=True, eq=False)
class ActiveRecipe:
    """A product's revision, loaded, tested and warm."""

    recipe_id: int
    rcp: int
    rev: int
    name: str
    bank_sha256: str
    since: datetime
    detector: Detector


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The station at one moment, immutable."""

    epoch: int = 0
    refused_before: ErrorCode = ErrorCode.NONE
    """Why no part of the epoch before could be scored."""
    starting: bool = True
    running: bool = True
    halted: bool = False
    """Stopped until a reset; a start is refused."""
    preparing: bool = False
    active: ActiveRecipe | None = None
    no_recipe: ErrorCode = ErrorCode.NO_RECIPE
    fault: ErrorCode = ErrorCode.NONE
    hold: ErrorCode = ErrorCode.NONE
    """Why no part may be accepted although all of them can be scored: a failed challenge."""
    challenge: bool = False
    """The parts that come now are known ones."""

    @property
    def stopped(self) -> str:
        """What the station was told, as it is kept over a restart: "halted", "stopped", or "" to inspect."""
        return HALTED if self.halted else "" if self.running else "stopped"

    @property
    def st(self) -> StationState:
        """State of the contract, as far as the inspection knows it."""
        if self.fault is not ErrorCode.NONE:
            return StationState.ERROR
        if self.starting:
            return StationState.PREOPERATIONAL
        if self.halted:
            return StationState.HALTED
        if self.preparing:
            return StationState.PREPARING
        if self.active is None:
            return StationState.INITIALIZED
        halted = not self.running or (self.hold is not ErrorCode.NONE and not self.challenge)
        return StationState.HALTED if halted else StationState.CONTINUOUS_EXECUTION

    @property
    def refusal(self) -> ErrorCode:
        """Why no part can be scored now; NONE if parts can be (while `hold` stands, known ones alone may be accepted)."""
        if self.fault is not ErrorCode.NONE:
            return self.fault
        if self.starting or self.preparing or self.halted:
            return ErrorCode.ABORTED
        if self.active is None:
            return self.no_recipe
        return ErrorCode.NONE if self.running else ErrorCode.ABORTED

    def misfit(self, width_px: int, height_px: int) -> str:
        """Why a camera's pictures of this size must not be scored by the active recipe; empty if they may be."""
        return "" if self.active is None else self.active.detector.looks.misfit(width_px, height_px)

    def refusal_of(self, epoch: int) -> ErrorCode:
        """Why a part that was seen under this epoch cannot be scored now; NONE if it can be.

        One that was seen during a fault which has just passed hears of the fault, not that the station was stopped.
        """
        if self.refusal is not ErrorCode.NONE or epoch == self.epoch:
            return self.refusal
        return (self.refused_before if epoch == self.epoch - 1 else ErrorCode.NONE) or ErrorCode.ABORTED


class Station:
    """Holds the snapshot; safe to use from all threads.

    `announce` is told each new state before any part is judged by it, so that a PLC never gets a verdict of a product
    that `state` has not named yet. It must not block.
    """

    def __init__(self, *, boot: int, mode: StationMode, window_ms: int, heartbeat_ms: int, stopped: str = "") -> None:
        """`stopped` is what was kept of the run before, see `Snapshot.stopped`."""
        self.boot = boot
        self.alarms = AlarmBoard(time.time)
        self._mode = mode
        self.announce: Callable[[], None] = lambda: None
        self._window_ms = window_ms
        self._heartbeat_ms = heartbeat_ms
        self._snapshot = Snapshot(running=not stopped, halted=stopped == HALTED)
        self._shown = self._snapshot
        self._cameras: dict[str, ErrorCode] = {}
        self._lock = threading.RLock()

    @property
    def mode(self) -> StationMode:
        """What its verdicts are for."""
        return StationMode.CHALLENGE if self._shown.challenge else self._mode

    @property
    def snapshot(self) -> Snapshot:
        """What parts are judged by now."""
        return self._snapshot

    def set_up(self, active: ActiveRecipe | None, reason: ErrorCode = ErrorCode.NO_RECIPE) -> None:
        """Starting is over: with a recipe, or without one for this reason."""
        self._change(starting=False, active=active, no_recipe=reason)
        if active is None and reason is not ErrorCode.NO_RECIPE:
            self.alarms.up(reason, "the active recipe cannot be used; select a product", FAULT)

    def prepare(self) -> None:
        """A product change is accepted: until it is done no part is scored."""
        self._change(preparing=True)

    def activate(self, active: ActiveRecipe) -> None:
        """The new product is ready; from here on parts are judged by it."""
        self._change(preparing=False, active=active)
        self.alarms.down(ErrorCode.FINGERPRINT_MISMATCH, FAULT)

    def abandon(self) -> None:
        """The product change failed: the old product goes on."""
        self._change(preparing=False)

    def run(self, running: bool) -> None:
        """Inspect, or answer each part with NONE (503)."""
        self._change(running=running)

    def halt(self) -> None:
        """Stop until `reset`."""
        self._change(running=False, halted=True)

    def reset(self) -> None:
        """The halt is over; the station stays stopped until it is told to run."""
        with self._lock:
            if self._snapshot.halted:
                self._change(halted=False)

    def hold(self, err: ErrorCode) -> None:
        """No part may be accepted for this reason; NONE releases the station."""
        with self._lock:
            if self._snapshot.hold is not err:
                self._change(hold=err)

    def challenge(self, on: bool) -> None:
        """From here on the parts are known ones, or those of the production again."""
        self._change(challenge=on)

    def fail(self, fault: ErrorCode, text: str = "the station cannot give verdicts") -> None:
        """The station cannot give verdicts."""
        self._change(fault=fault)
        self.alarms.up(fault, text, FAULT)

    def recover(self) -> None:
        """The fault is over."""
        self.alarms.down(self._snapshot.fault, FAULT)  # first: what is announced must not name it any more
        self._change(fault=ErrorCode.NONE)

    def set_camera(self, name: str, err: ErrorCode, problem: str = "") -> None:
        """What is wrong with a camera; shown to the PLC, while the other cameras go on."""
        with self._lock:  # the camera's own thread and the one that watches it say so at the same time
            known = self._cameras.get(name, ErrorCode.NONE)
            if known is not err and known is not ErrorCode.NONE:
                self.alarms.down(known, name)
            if err is not ErrorCode.NONE:
                self.alarms.up(err, problem or f"camera {name} has a fault", name)
            if self._cameras.get(name) is not err:
                self._cameras[name] = err
                self.announce()

    @property
    def shown(self) -> tuple[StationState, ErrorCode]:
        """State and error for the PLC: an error, too, if no camera is left that works."""
        faults = [err for err in self._cameras.values() if err is not ErrorCode.NONE]
        st = self._shown.st
        err = self._shown.fault or (faults[0] if faults else ErrorCode.NONE) or self._shown.hold
        if st is StationState.INITIALIZED and self._shown.no_recipe is not ErrorCode.NO_RECIPE:
            err = err or self._shown.no_recipe
        err = err or self.alarms.first
        blind = bool(faults) and len(faults) == len(self._cameras)
        return (StationState.ERROR if blind and st.can_inspect else st), ErrorCode(err)

    def state_message(self, ts: int) -> State:
        """`state`; `rcp` stays the old one until a product change is done."""
        st, err = self.shown
        active = self._shown.active
        return State(
            on=1,
            st=int(st),
            mode=int(self.mode),
            boot=self.boot,
            rcp=0 if active is None else active.rcp,
            rev=0 if active is None else active.rev,
            err=int(err),
            win=self._window_ms,
            hbp=self._heartbeat_ms,
            ts=ts,
        )

    def recipe_message(self) -> RecipeMessage | None:
        """`recipe`, if there is one."""
        active = self._shown.active
        if active is None:
            return None
        calibration = active.detector.calibration
        return RecipeMessage(
            rcp=active.rcp,
            rev=active.rev,
            name=active.name[:NAME_LENGTH],
            hash=active.bank_sha256,
            thr=calibration.threshold,
            cal=calibration.kind,
            n=calibration.n,
            rate=calibration.rate,
            bound=calibration.bound,
            since=int(active.since.timestamp()),
        )

    def _change(self, **changes: object) -> None:
        with self._lock:
            before = self._snapshot
            self._shown = replace(before, epoch=before.epoch + 1, refused_before=before.refusal, **changes)  # type: ignore[arg-type]
            self.announce()
            self._snapshot = self._shown
