"""The simulated line as a camera: a drawn part per trigger, its truth known by `inspector.simulation.truth`.

Free running it has the trigger counter of a real line (1, 2, 3 …), so that each part can be found again;
triggered it draws the part of the PLC's trigger. It may import the simulation and nothing that inspects.
"""

from edge.cameras.shutter import Clock, Shutter
from edge.cameras.triggers import Trigger, TriggerQueue
from inspector import simulation
from inspector.config import CameraConfig
from inspector.errors import CameraLostError
from inspector.types import Frame

MAX_TRIGGER = 2**32 - 1


class SimulatedCamera:
    """Kinds of parts in turn, changing every `parts_per_product` triggers.

    `source` names the kinds, separated by commas; empty means all. A part id `gear:00012` of a trigger says
    what lies on the belt, for this is how a simulation can know; parts without such an id lie there in turn.
    `last_trigger` is the last trigger that has been recorded: the counter goes on behind it.
    """

    def __init__(self, config: CameraConfig, triggers: TriggerQueue, clock: Clock, last_trigger: int = 0) -> None:
        self.name = config.name
        self._config = config
        self._kinds = tuple(name.strip() for name in config.source.split(",") if name.strip()) or simulation.KINDS
        self._shutter = Shutter(config, triggers, clock)
        self.position = last_trigger
        self._is_open = False

    def open(self) -> None:
        """Raises CameraLostError when `source` names a kind that cannot be drawn."""
        unknown = [kind for kind in self._kinds if kind not in simulation.KINDS]
        if unknown:
            known = ", ".join(simulation.KINDS)
            raise CameraLostError(f"camera {self.name}: cannot draw {', '.join(unknown)}; `source` may name {known}")
        for kind in self._kinds:
            simulation.draw_references(kind, 1)  # renders what is drawn once per process, before the first part
        self._is_open = True

    def read(self, timeout_s: float) -> Frame | None:
        """The picture of the part that passes by."""
        if not self._is_open:
            raise CameraLostError(f"camera {self.name}: the simulated line is not open; open it before reading")
        trigger = self._shutter.wait(timeout_s)
        if not self._shutter.triggered:
            self.position = self.position % MAX_TRIGGER + 1  # a PLC's counter: 0 is never a part
            trigger = Trigger(self.position)
        kind = self._kind_of(trigger)
        exposure = self._shutter.stamp(trigger, f"{kind}:{trigger.trg:06d}")
        image, _ = simulation.draw_part(kind, self._config.seed, trigger.trg, self._config.defect_rate)
        return exposure.frame(image)

    def close(self) -> None:
        """The line runs on; the counter is kept for the next open."""
        self._is_open = False

    def _kind_of(self, trigger: Trigger) -> str:
        prefix, colon, _ = trigger.part_id.partition(":")
        if colon and prefix in simulation.KINDS:
            return prefix
        return simulation.kind_at(trigger.trg, self._kinds, self._config.parts_per_product)
