"""The state of the station: what is active, whether it inspects, and what the PLC is told of it.

One lock, no thread. Each change of what a part may be judged by starts a new epoch; a part that was seen in another
epoch is not scored (NONE 503).
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from inspector.config import Config
from inspector.contract.codes import ErrorCode, StationMode, StationState
from inspector.contract.messages import RecipeMessage, State
from inspector.detection.detector import Detector


@dataclass(frozen=True, eq=False)
class ActiveRecipe:
    """The recipe that parts are judged by; immutable, named in each verdict."""

    recipe_id: int
    rcp: int
    rev: int
    name: str
    sha256: str
    since: int
    detector: Detector

    def message(self) -> RecipeMessage:
        """What `recipe` says."""
        calibration = self.detector.calibration
        return RecipeMessage(
            rcp=self.rcp,
            rev=self.rev,
            name=self.name,
            hash=self.sha256,
            thr=calibration.threshold,
            cal=calibration.kind,
            n=calibration.n,
            since=self.since,
        )


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The station at one moment."""

    epoch: int
    state: StationState
    active: ActiveRecipe | None

    @property
    def refusal(self) -> ErrorCode:
        """Why a part that comes now gets no verdict; NONE if it is inspected."""
        if self.state is StationState.CONTINUOUS_EXECUTION and self.active is not None:
            return ErrorCode.NONE
        no_recipe = self.active is None and self.state is StationState.INITIALIZED
        return ErrorCode.NO_RECIPE if no_recipe else ErrorCode.ABORTED


class StationControl:
    """The station's state machine; safe to use from all threads. `on_change` is called after each change."""

    def __init__(self, config: Config, boot: int) -> None:
        self._config = config
        self.boot = boot
        simulated = all(camera.kind == "simulated" for camera in config.cameras)
        self.mode = StationMode.SIMULATION if simulated else StationMode.PRODUCTION
        self._lock = threading.Lock()
        self._epoch = 1
        self._state = StationState.PREOPERATIONAL
        self._active: ActiveRecipe | None = None
        self._running = True
        self._problems: dict[str, ErrorCode] = {}
        self.on_change: Callable[[], None] = lambda: None

    def snapshot(self) -> Snapshot:
        with self._lock:
            return Snapshot(self._epoch, self._state, self._active)

    def ready(self, active: ActiveRecipe | None) -> None:
        """The worker is up, or a product change is done."""
        self._change(active=active, state=self._resting(active))

    def prepare(self) -> None:
        """A product change begins: until it ends, parts get NONE."""
        self._change(active=self._active, state=StationState.PREPARING)

    def abandon(self) -> None:
        """A product change failed: back to what was active before."""
        self._change(active=self._active, state=self._resting(self._active))

    def start(self) -> bool:
        """Inspect; False without a recipe."""
        self._running = True
        if self._active is None:
            return False
        self._change(active=self._active, state=self._resting(self._active))
        return True

    def stop(self) -> None:
        """Answer each part NONE until `start`."""
        self._running = False
        self._change(active=self._active, state=self._resting(self._active))

    def set_problem(self, source: str, code: ErrorCode) -> None:
        """A camera or the database has a problem, or (NONE) has none any more."""
        with self._lock:
            before = self._problems.get(source, ErrorCode.NONE)
            self._problems[source] = code
        if before is not code:
            self.on_change()

    @property
    def err(self) -> ErrorCode:
        """The first problem there is."""
        with self._lock:
            return next((code for code in self._problems.values() if code), ErrorCode.NONE)

    def message(self) -> State:
        """What `state` says."""
        now = self.snapshot()
        return State(
            on=1,
            st=int(now.state),
            mode=int(self.mode),
            boot=self.boot,
            rcp=now.active.rcp if now.active and now.state is not StationState.PREPARING else 0,
            rev=now.active.rev if now.active and now.state is not StationState.PREPARING else 0,
            err=int(self.err),
            win=self._config.mqtt.window_ms,
            hbp=self._config.mqtt.heartbeat_ms,
            ts=int(time.time()),
        )

    def _resting(self, active: ActiveRecipe | None) -> StationState:
        if active is None:
            return StationState.INITIALIZED
        return StationState.CONTINUOUS_EXECUTION if self._running else StationState.HALTED

    def _change(self, *, active: ActiveRecipe | None, state: StationState) -> None:
        with self._lock:
            self._active, self._state = active, state
            self._epoch += 1
        self.on_change()
