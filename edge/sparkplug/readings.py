"""What the station tells a SCADA system: the metrics, and where their values come from.

May import the station's parts and the contract. Reading takes no lock of the verdict path and changes nothing.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from edge.announcer import Pulse
from edge.state import Station
from inspector import __version__
from inspector.contract.messages import Result
from inspector.contract.sparkplug.payload import DataType, Value
from inspector.types import Verdict

MISSED_BEATS = 3
"""So many heartbeat periods without a turn of the inspection loop, and the device is dead; the PLC's own rule."""

NODE_TYPES = {
    "Properties/Version": DataType.STRING,
    "Properties/Boot": DataType.UINT16,
    "Sparkplug/Dropped Verdicts": DataType.INT64,
    "Sparkplug/Refused Writes": DataType.INT64,
}
STATE_TYPES = {
    "State/Code": DataType.UINT8,
    "State/Mode": DataType.UINT8,
    "State/Error": DataType.UINT16,
    "Alarm/Active": DataType.BOOLEAN,
    "Alarm/Count": DataType.INT32,
    "Alarm/Code": DataType.UINT16,
    "Alarm/Text": DataType.STRING,
    "Recipe/Index": DataType.UINT16,
    "Recipe/Revision": DataType.UINT16,
    "Recipe/Name": DataType.STRING,
    "Recipe/Threshold": DataType.DOUBLE,
    "Recipe/Since": DataType.DATE_TIME,
    "Heartbeat/Age": DataType.INT64,
}
VERDICT_TYPES = {
    "Verdict/Boot": DataType.UINT16,
    "Verdict/Sequence": DataType.INT64,
    "Verdict/Trigger": DataType.INT64,
    "Verdict/Result": DataType.UINT8,
    "Verdict/Error": DataType.UINT16,
    "Verdict/Flags": DataType.UINT16,
    "Verdict/Recipe": DataType.UINT16,
    "Verdict/Revision": DataType.UINT16,
    "Verdict/Score": DataType.INT32,
    "Verdict/Latency": DataType.UINT16,
    "Verdict/Part": DataType.STRING,
    **{f"Count/{verdict.name}": DataType.INT64 for verdict in Verdict},
}
NO_VERDICT: dict[str, Value] = {f"Count/{verdict.name}": 0 for verdict in Verdict}
"""What is known of verdicts before the first one; everything else of it is null."""


class Camera(Protocol):
    """A camera as far as SCADA is concerned: `problem` is empty while it works."""

    @property
    def name(self) -> str: ...

    @property
    def problem(self) -> str: ...


@dataclass(frozen=True)
class VerdictReading:
    """One verdict with the counters after it; `number` counts all verdicts of this run from 1."""

    number: int
    exposed_ms: int
    values: Mapping[str, Value]


def read_verdict(result: Result, lat_ms: int, number: int, counts: Mapping[Verdict, int]) -> VerdictReading:
    """A verdict as SCADA sees it; its time is that of the exposure. A part without a score has a null score."""
    has_score = result.res != Verdict.NONE or result.scr != 0
    values: dict[str, Value] = {
        "Verdict/Boot": result.boot,
        "Verdict/Sequence": result.seq,
        "Verdict/Trigger": result.trg,
        "Verdict/Result": result.res,
        "Verdict/Error": result.err,
        "Verdict/Flags": result.flg,
        "Verdict/Recipe": result.rcp,
        "Verdict/Revision": result.rev,
        "Verdict/Score": result.scr if has_score else None,
        "Verdict/Latency": lat_ms,
        "Verdict/Part": result.part,
        **{f"Count/{verdict.name}": counts[verdict] for verdict in Verdict},
    }
    return VerdictReading(number, result.ts * 1000 + result.ms, values)


class StationReadings:
    """The present state of one station."""

    def __init__(self, station: Station, pulse: Pulse, cameras: Sequence[Camera], heartbeat_s: float) -> None:
        self._station = station
        self._pulse = pulse
        self._cameras = cameras
        self._heartbeat_s = heartbeat_s

    @property
    def device_types(self) -> dict[str, DataType]:
        """Every metric of the device."""
        cameras = {_camera_metric(camera): DataType.STRING for camera in self._cameras}
        return STATE_TYPES | cameras | VERDICT_TYPES

    def node(self, dropped: int, refused: int) -> dict[str, Value]:
        """Metrics of the edge node."""
        return {
            "Properties/Version": __version__,
            "Properties/Boot": self._station.boot,
            "Sparkplug/Dropped Verdicts": dropped,
            "Sparkplug/Refused Writes": refused,
        }

    def device(self) -> dict[str, Value]:
        """Metrics of the device that are not of a verdict."""
        state, recipe = self._station.state_message(int(time.time())), self._station.recipe_message()
        board = self._station.alarms.message(self._station.boot)
        oldest = board.alarms[0] if board.alarms else None
        return {
            "State/Code": state.st,
            "State/Mode": state.mode,
            "State/Error": state.err,
            "Alarm/Active": oldest is not None,
            "Alarm/Count": len(board.alarms) + board.more,
            "Alarm/Code": None if oldest is None else oldest.err,
            "Alarm/Text": None if oldest is None else oldest.txt,
            "Recipe/Index": state.rcp,
            "Recipe/Revision": state.rev,
            "Recipe/Name": None if recipe is None else _text(recipe.name),
            "Recipe/Threshold": None if recipe is None else recipe.thr,
            "Recipe/Since": None if recipe is None else recipe.since * 1000,
            "Heartbeat/Age": int(self._missed_beats * self._heartbeat_s * 1000),
            **{_camera_metric(camera): _text(camera.problem) for camera in self._cameras},
        }

    @property
    def device_is_alive(self) -> bool:
        """Whether the inspection loop goes round."""
        return self._missed_beats < MISSED_BEATS

    @property
    def _missed_beats(self) -> int:
        """Whole heartbeat periods since the loop came by; so the age is told by exception, not every second."""
        return int((time.monotonic() - self._pulse.beat_monotonic_s) / self._heartbeat_s)


def _camera_metric(camera: Camera) -> str:
    return f"Camera/{camera.name}/Problem"


def _text(text: str) -> str:
    """Text that can be sent as UTF-8: a file name in it may hold other bytes."""
    return text.encode("utf-8", "replace").decode()
