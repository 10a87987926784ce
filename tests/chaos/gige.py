"""The line with Debian's GigE Vision camera in software, and what can happen to a camera and its cable."""

import os
import signal
import time
from contextlib import ExitStack

import numpy as np
import pytest

from edge.cameras import Clock, TriggerQueue, make_camera
from inspector.errors import CameraError
from tests.brokers import wait_until
from tests.chaos.faults import Fault, UnavailableError
from tests.chaos.rig import Plant
from tests.edge.cameras.servers import GIGE_ADDRESS, SoftwareGigeCamera, gige_camera
from tests.end_to_end.plant import Line, teach

KIND = "pattern"


class GigeLine:
    """One camera, plugged in when the line is prepared; its test pattern is the product."""

    camera: SoftwareGigeCamera

    def prepare(self, line: Line, after: ExitStack) -> None:
        """Plug the camera in and teach its pattern from its own pictures."""
        try:
            self.camera = after.enter_context(gige_camera())
        except pytest.skip.Exception as error:
            raise UnavailableError(str(error)) from None
        self.camera.plug_in()
        line.values["cameras"] = [
            {"name": "line", "kind": "genicam", "trigger": "mqtt", "source": GIGE_ADDRESS, "timeout_s": 1.0}
        ]
        line.taught |= teach(line.config, (KIND,), active=KIND, draw=lambda *_: self._pictures(line))

    def _pictures(self, line: Line) -> list[np.ndarray]:
        """The pattern moves by a step a picture and is back after 255: references from all of its way."""
        triggers = TriggerQueue()
        camera = make_camera(line.config.cameras[0], triggers, clock=Clock())
        camera.open()
        pictures: list[np.ndarray] = []
        try:
            for number in range(255):
                triggers.put(number + 1)
                frame = camera.read(5.0)
                if frame is not None and number % 16 == 0:
                    pictures.append(frame.image)
        except CameraError as error:
            raise UnavailableError(f"the software camera gives no pictures: {error}") from error
        finally:
            camera.close()
        return pictures

    def unplug(self, _: Plant) -> None:
        self.camera.unplug()

    def plug_in(self, _: Plant) -> None:
        self.camera.plug_in()

    def freeze(self, _: Plant) -> None:
        os.kill(self.camera.pid, signal.SIGSTOP)

    def thaw(self, _: Plant) -> None:
        os.kill(self.camera.pid, signal.SIGCONT)

    def flap(self, plant: Plant) -> None:
        """Five times out and in, the last time in for good."""
        for _ in range(5):
            self.camera.unplug()
            time.sleep(0.7)
            self.camera.plug_in()
            time.sleep(0.7)
        wait_until(lambda: plant.knows_since(0.0) is not None)

    def replace(self, _: Plant) -> None:
        """A sound camera in the place of the old one."""
        self.camera.unplug()
        self.camera.plug_in()

    def lose_packets(self, _: Plant) -> None:
        self.camera.unplug()
        self.camera.plug_in(lost_per_thousand=5)


def gige_faults() -> list[Fault]:
    """What a GigE camera does to a line."""
    line = GigeLine()
    made = {"prepare": line.prepare, "kind": KIND, "period_s": 0.25}
    return [
        Fault("camera unplugged", "GigE, plugged in again after 5 s", line.unplug, line.plug_in, hold_s=5.0, **made),
        Fault("hung camera", "GigE, SIGSTOP for 5 s", line.freeze, line.thaw, hold_s=5.0, **made),
        Fault("camera flapping", "GigE, out and in five times", line.flap, **made),
        Fault(
            "camera losing packets", "GigE, 5 of 1,000 for 15 s", line.lose_packets, line.replace, hold_s=15.0, **made
        ),
    ]
