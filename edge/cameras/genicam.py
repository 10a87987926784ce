"""A GenICam camera (GigE Vision, USB3 Vision) by Aravis, the free library; the only module that imports it.

Aravis comes from the system (typelib and library), its Python binding is the optional extra `genicam`; both are imported
when a camera is opened, so that nobody needs them who has no such camera. Incomplete frames never become pictures.
"""

import logging
import threading
import time
from typing import Any

import numpy as np

from edge.cameras import gvcp
from edge.cameras.features import SOFTWARE_TRIGGER, Settings, Value
from edge.cameras.streaming import Grab
from inspector.config import CameraConfig
from inspector.errors import CameraLostError

logger = logging.getLogger(__name__)

BUFFERS = 16
QUIET_S = 0.5
"""Without a frame for so long, the camera is asked whether it is still there."""

# Names of PFNC's numbers, for the check of each buffer; the rest is refused when the camera is opened.
PIXEL_FORMATS = {
    0x01080001: "Mono8",
    0x01100003: "Mono10",
    0x01100005: "Mono12",
    0x01100007: "Mono16",
    0x01080008: "BayerGR8",
    0x01080009: "BayerRG8",
    0x0108000A: "BayerGB8",
    0x0108000B: "BayerBG8",
    0x0110000C: "BayerGR10",
    0x0110000D: "BayerRG10",
    0x0110000E: "BayerGB10",
    0x0110000F: "BayerBG10",
    0x01100010: "BayerGR12",
    0x01100011: "BayerRG12",
    0x01100012: "BayerGB12",
    0x01100013: "BayerBG12",
    0x0110002E: "BayerGR16",
    0x0110002F: "BayerRG16",
    0x01100030: "BayerGB16",
    0x01100031: "BayerBG16",
    0x02180014: "RGB8",
    0x02180015: "BGR8",
    0x02200016: "RGBa8",
    0x02200017: "BGRa8",
}


def load_aravis() -> Any:
    """The modules Aravis and GLib. Raises CameraLostError with what to install."""
    try:
        import gi

        gi.require_version("Aravis", "0.8")
        from gi.repository import Aravis, GLib
    except (ImportError, ValueError) as error:
        raise CameraLostError(
            f"Aravis is not usable here ({error}); install the system's gir1.2-aravis-0.8 "
            "and the extra: pip install 'inspector[genicam]'"
        ) from error
    return Aravis, GLib


class AravisDevice:
    """One connection to one camera."""

    def __init__(self, config: CameraConfig) -> None:
        self._config = config
        self._aravis, self._glib = load_aravis()
        self._camera: Any = None
        self._device: Any = None
        self._stream: Any = None
        self._address: str | None = None
        self._control_lost = threading.Event()
        self._gone = False
        self._last_sign_monotonic_s = 0.0

    def connect(self) -> str:
        """Raises CameraLostError with a sentence."""
        try:
            self._camera = self._aravis.Camera.new(self._config.source or self._only_camera())
            self._device = self._camera.get_device()
            self._device.connect("control-lost", lambda _: self._control_lost.set())
            if self._camera.is_gv_device():
                self._address = self._device.get_device_address().get_address().to_string()
            pixel_format = Settings(self._config, self).apply()
            self._stream = self._camera.create_stream(None, None)
            if self._stream is None:
                raise CameraLostError("the camera gives no stream; does another program use it?")
            for _ in range(BUFFERS):
                self._stream.push_buffer(self._aravis.Buffer.new_allocate(self._camera.get_payload()))
            self._camera.start_acquisition()
        except self._glib.Error as error:
            raise CameraLostError(self._sentence(error)) from error
        self._last_sign_monotonic_s = time.monotonic()
        return pixel_format

    def fetch(self, timeout_s: float) -> Grab | None:
        """Raises CameraLostError when the camera does not answer any more."""
        buffer = self._stream.timeout_pop_buffer(int(timeout_s * 1e6))
        now = time.monotonic()
        if buffer is None:
            self._look_after(now)
            return None
        self._last_sign_monotonic_s = now
        try:
            return self._grab(buffer, now)
        finally:
            self._stream.push_buffer(buffer)

    def fire(self) -> None:
        """Raises CameraLostError when the camera does not take the trigger."""
        try:
            self._device.execute_command(SOFTWARE_TRIGGER)
        except self._glib.Error as error:
            raise CameraLostError(self._sentence(error)) from error

    def disconnect(self) -> None:
        """A camera that is gone is not spoken to any more."""
        camera, self._camera, self._stream, self._device = self._camera, None, None, None
        if camera is None or self._gone:
            return
        try:
            camera.stop_acquisition()
        except self._glib.Error as error:
            logger.warning("camera %s: acquisition not stopped: %s", self._config.name, error.message)

    def has(self, name: str) -> bool:
        """A feature that is there, implemented and not locked away now."""
        try:
            return bool(self._device.is_feature_available(name))
        except self._glib.Error:
            return False  # that is how Aravis says that it cannot be asked now

    def options(self, name: str) -> tuple[str, ...]:
        """Raises CameraLostError where this is no enumeration."""
        try:
            return tuple(self._device.dup_available_enumeration_feature_values_as_strings(name))
        except self._glib.Error as error:
            raise CameraLostError(self._sentence(error)) from error

    def write(self, name: str, value: Value) -> None:
        """Raises CameraLostError when the camera has no such feature, or refuses the value."""
        text = str(value).lower() if isinstance(value, bool) else str(value)
        try:
            node = self._node(name)
            if isinstance(node, self._aravis.GcInteger | self._aravis.GcIntegerNode) and isinstance(value, float):
                text = str(round(value))
            node.set_value_from_string(text)
        except self._glib.Error as error:
            raise CameraLostError(f"{name} cannot be set to {value}: {error.message}") from error

    def read(self, name: str) -> Value:
        """Raises CameraLostError when the camera has no such feature."""
        try:
            return str(self._node(name).get_value_as_string())
        except self._glib.Error as error:
            raise CameraLostError(self._sentence(error)) from error

    def _node(self, name: str) -> Any:
        node = self._device.get_feature(name)
        if node is None:
            raise CameraLostError(f"the camera has no feature {name}; see its list with arv-tool-0.8 features")
        return node

    def _only_camera(self) -> str:
        self._aravis.update_device_list()
        found = [self._aravis.get_device_id(place) for place in range(self._aravis.get_n_devices())]
        if len(found) != 1:
            raise CameraLostError(f"`source` is empty and {len(found)} cameras answer: {', '.join(found) or 'none'}")
        return str(found[0])

    def _look_after(self, now_monotonic_s: float) -> None:
        if self._control_lost.is_set():
            self._gone = True
            raise CameraLostError("the camera is gone, or another program has taken it")
        if self._address is None or now_monotonic_s - self._last_sign_monotonic_s < QUIET_S:
            return
        if not gvcp.answers(self._address):
            self._gone = True
            raise CameraLostError(f"the camera at {self._address} does not answer any more; check cable and power")
        self._last_sign_monotonic_s = now_monotonic_s

    def _grab(self, buffer: Any, now_monotonic_s: float) -> Grab:
        number, status = buffer.get_frame_id(), buffer.get_status()
        if status != self._aravis.BufferStatus.SUCCESS:
            return Grab(number, now_monotonic_s, problem=f"the frame came incomplete ({status.value_nick})")
        kind = buffer.get_image_pixel_format()
        return Grab(
            device_frame_id=number,
            captured_monotonic_s=now_monotonic_s,
            pixel_format=PIXEL_FORMATS.get(kind, f"{kind:#010x}"),
            width_px=buffer.get_image_width(),
            height_px=buffer.get_image_height(),
            data=np.frombuffer(buffer.get_data(), np.uint8),
        )

    def _sentence(self, error: Any) -> str:
        return f"{self._config.source or 'GenICam'}: {error.message}"
