"""Settings of a GenICam camera: written by standard names, read back, refused when the camera does something else."""

from typing import Any

import pytest

from edge.cameras.features import Settings, Value
from inspector.config import CameraConfig
from inspector.errors import CameraLostError


class Nodes:
    """A camera's features; numbers are rounded to `step`, as real ones do."""

    def __init__(self, step: float = 0.0, **values: Value) -> None:
        self.values: dict[str, Value] = {"PixelFormat": "Mono8", **values}
        self.step = step
        self.log: list[tuple[str, Value]] = []
        self.ignores: set[str] = set()

    def has(self, name: str) -> bool:
        return name in self.values

    def options(self, name: str) -> tuple[str, ...]:
        return ("FrameStart", "AcquisitionStart") if name == "TriggerSelector" else ()

    def write(self, name: str, value: Value) -> None:
        if name not in self.values:
            raise CameraLostError(f"the camera has no feature {name}")
        self.log.append((name, value))
        if name in self.ignores:
            return
        if isinstance(value, float) and self.step:
            value = round(value / self.step) * self.step
        self.values[name] = str(value)

    def read(self, name: str) -> Value:
        return self.values[name]


TRIGGERS = {"TriggerSelector": "FrameStart", "TriggerMode": "Off", "TriggerSource": "Line0", "TriggerActivation": "x"}


def apply(nodes: Nodes, **config: Any) -> str:
    return Settings(CameraConfig.model_validate({"kind": "genicam", **config}), nodes).apply()


@pytest.mark.parametrize("exposure", ["ExposureTime", "ExposureTimeAbs"])
def test_exposure_gain_and_format_are_written_with_the_automatics_off(exposure: str) -> None:
    nodes = Nodes(**{exposure: 1, "ExposureAuto": "Continuous", "Gain": 0, "GainAuto": "Continuous"})
    assert apply(nodes, exposure_us=5000, gain=3.5, pixel_format="BayerRG8") == "BayerRG8"
    assert nodes.log == [
        ("PixelFormat", "BayerRG8"),
        ("ExposureAuto", "Off"),
        (exposure, 5000.0),
        ("GainAuto", "Off"),
        ("Gain", 3.5),
    ]


def test_the_steps_of_the_camera_are_no_fault_and_another_value_is() -> None:
    apply(Nodes(step=7.0, ExposureTime=1), exposure_us=5000)
    nodes = Nodes(ExposureTime=8000)
    nodes.ignores.add("ExposureTime")
    with pytest.raises(CameraLostError, match=r"ExposureTime was set to 5000.0 and reads back as 8000"):
        apply(nodes, exposure_us=5000)


def test_a_setting_that_a_later_one_undoes_is_found() -> None:
    class Coupled(Nodes):
        def write(self, name: str, value: Value) -> None:
            super().write(name, value)
            if name == "Binning":
                self.values["PixelFormat"] = "Mono8"

    with pytest.raises(CameraLostError, match="PixelFormat was set to RGB8 and reads back as Mono8"):
        apply(Coupled(Binning=1), pixel_format="RGB8", features={"Binning": 2})


def test_a_missing_feature_is_named() -> None:
    with pytest.raises(CameraLostError, match="no feature Fancy"):
        apply(Nodes(), features={"Fancy": 1})
    with pytest.raises(CameraLostError, match="remove exposure_us"):
        apply(Nodes(), exposure_us=10)


def test_free_running_turns_every_trigger_off_and_sets_the_rate() -> None:
    nodes = Nodes(**TRIGGERS, AcquisitionFrameRate=1, AcquisitionFrameRateEnable="false")
    nodes.values["TriggerMode"] = "On"
    apply(nodes, period_s=0.05)
    assert ("TriggerSelector", "AcquisitionStart") in nodes.log
    assert nodes.values["TriggerMode"] == "Off"
    assert nodes.values["AcquisitionFrameRateEnable"] == "True"
    assert float(nodes.values["AcquisitionFrameRate"]) == pytest.approx(20)


@pytest.mark.parametrize(("trigger", "source"), [("mqtt", "Software"), ("hardware", "Line3")])
def test_triggers_come_by_software_or_by_the_input_that_is_named(trigger: str, source: str) -> None:
    nodes = Nodes(**TRIGGERS)
    apply(nodes, trigger=trigger, trigger_source="Line3")
    assert nodes.values["TriggerSelector"] == "FrameStart"
    assert nodes.values["TriggerSource"] == source
    assert nodes.values["TriggerActivation"] == "RisingEdge"
    assert nodes.values["TriggerMode"] == "On"


def test_a_camera_without_triggers_is_refused_for_triggers_and_runs_free() -> None:
    with pytest.raises(CameraLostError, match="cannot be triggered"):
        apply(Nodes(), trigger="hardware")
    assert apply(Nodes()) == "Mono8"


def test_a_pixel_format_that_cannot_be_read_is_refused_before_the_first_frame() -> None:
    with pytest.raises(CameraLostError, match="Mono12Packed"):
        apply(Nodes(PixelFormat="Mono12Packed"))
