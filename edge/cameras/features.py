"""The settings of a GenICam camera: written by their standard names at each connection, and read back at the end.

Names are those of SFNC, with the older ones that many GigE cameras still have. It knows features by name only, so that
Aravis and Harvesters share it; imports the configuration and the pixel formats. A setting that is not what was asked for
would be a line inspected with another light than it was taught with, so it is refused.
"""

import logging
from typing import Protocol

from edge.cameras.pixels import parse_pixel_format
from inspector.config import CameraConfig
from inspector.errors import CameraLostError, ImageError

logger = logging.getLogger(__name__)

Value = str | int | float | bool
STEP_FRACTION = 0.02
"""Cameras round exposure, gain and rate to steps of their own; more than this is another setting."""

EXPOSURE = ("ExposureTime", "ExposureTimeAbs", "ExposureTimeRaw")
GAIN = ("Gain", "GainAbs", "GainRaw")
RATE = ("AcquisitionFrameRate", "AcquisitionFrameRateAbs", "FPS")
SOFTWARE_TRIGGER = "TriggerSoftware"


class Features(Protocol):
    """A camera's features by name; each method raises CameraLostError when the camera does not do it."""

    def has(self, name: str) -> bool:
        """Whether the feature is there and usable now."""

    def options(self, name: str) -> tuple[str, ...]:
        """The names that an enumeration can be set to."""

    def write(self, name: str, value: Value) -> None:
        """Set a feature."""

    def read(self, name: str) -> Value:
        """The feature's present value."""


class Settings:
    """Writes what the configuration says and remembers it for the check."""

    def __init__(self, config: CameraConfig, features: Features) -> None:
        self._config = config
        self._features = features
        self._written: dict[str, Value] = {}

    def apply(self) -> str:
        """Write all settings, read all of them back; gives the name of the pixel format.

        Raises:
            CameraLostError: a feature is missing, refused, or holds another value than was written.
        """
        config = self._config
        if config.pixel_format is not None:
            self._write("PixelFormat", config.pixel_format)
        if self._features.has("AcquisitionMode"):
            self._write("AcquisitionMode", "Continuous")
        self._set_trigger()
        self._set_number("ExposureAuto", EXPOSURE, config.exposure_us, "exposure_us")
        self._set_number("GainAuto", GAIN, config.gain, "gain")
        if config.trigger == "free":
            self._set_rate(1.0 / config.period_s)
        for name, value in config.features.items():
            self._write(name, value)
        for name, value in self._written.items():
            found = self._features.read(name)
            if not _same(value, found):
                raise CameraLostError(
                    f"{name} was set to {value} and reads back as {found}; set a value the camera can do"
                )
        return self._pixel_format()

    def _set_trigger(self) -> None:
        features = self._features
        if not features.has("TriggerMode"):
            if self._config.trigger != "free":
                raise CameraLostError("the camera cannot be triggered (no feature TriggerMode); set trigger: free")
            return
        selectors = features.options("TriggerSelector") if features.has("TriggerSelector") else ()
        for selector in selectors:  # one left on from another program would wait for ever
            features.write("TriggerSelector", selector)
            if features.has("TriggerMode"):
                features.write("TriggerMode", "Off")
        if "FrameStart" in selectors:
            self._write("TriggerSelector", "FrameStart")
        if self._config.trigger != "free":
            source = "Software" if self._config.trigger == "mqtt" else self._config.trigger_source
            self._write("TriggerSource", source)
            if features.has("TriggerActivation") and "TriggerActivation" not in self._config.features:
                self._write("TriggerActivation", "RisingEdge")
        self._write("TriggerMode", "Off" if self._config.trigger == "free" else "On")

    def _set_number(self, auto: str, names: tuple[str, ...], value: float | None, key: str) -> None:
        if value is None:
            return
        if self._features.has(auto):
            self._write(auto, "Off")
        for name in names:
            if self._features.has(name):
                self._write(name, value)
                return
        raise CameraLostError(f"the camera has none of the features {', '.join(names)}; remove {key}")

    def _set_rate(self, rate_hz: float) -> None:
        for switch in ("AcquisitionFrameRateEnable", "AcquisitionFrameRateEnabled"):
            if self._features.has(switch):
                self._write(switch, True)
        for name in RATE:
            if self._features.has(name):
                self._write(name, rate_hz)
                return
        logger.warning("camera %s has no frame rate to set; it runs at its own", self._config.name)

    def _write(self, name: str, value: Value) -> None:
        # What can have one value only is often not writable; numbers are always written, for they are compared by steps.
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number or not self._features.has(name) or not _same(value, self._features.read(name)):
            self._features.write(name, value)
        self._written[name] = value

    def _pixel_format(self) -> str:
        name = str(self._features.read("PixelFormat"))
        try:
            parse_pixel_format(name)
        except ImageError as error:
            raise CameraLostError(str(error)) from error
        return name


def _same(wanted: Value, found: Value) -> bool:
    if isinstance(wanted, bool):
        return str(found).lower() in (("true", "1") if wanted else ("false", "0"))
    if isinstance(wanted, str):
        return str(found) == wanted
    try:
        return abs(float(found) - wanted) <= STEP_FRACTION * abs(wanted)
    except ValueError:
        return False
