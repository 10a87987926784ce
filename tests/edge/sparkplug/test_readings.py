"""What SCADA is told of a station: states, alarms, recipe, heartbeat, cameras."""

import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge.announcer import Pulse
from edge.sparkplug.readings import NODE_TYPES, STATE_TYPES, VERDICT_TYPES, StationReadings, read_verdict
from edge.state import Station
from inspector.contract.codes import ErrorCode, StationMode, StationState
from inspector.contract.sparkplug.payload import Metric, encode
from inspector.types import Verdict
from tests.edge.detector_stub import active
from tests.edge.sparkplug.station import EPOCH_S, verdict

HEARTBEAT_S = 0.5
README = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")


@dataclass
class FakeCamera:
    name: str
    problem: str = ""


class Post:
    def __init__(self) -> None:
        self.station = Station(boot=7, mode=StationMode.SIMULATION, window_ms=2000, heartbeat_ms=500)
        self.pulse = Pulse(None, self.station, HEARTBEAT_S)  # type: ignore[arg-type]  # never beaten here
        self.cameras = [FakeCamera("top"), FakeCamera("side")]
        self.readings = StationReadings(self.station, self.pulse, self.cameras, HEARTBEAT_S)

    def silent_for(self, seconds: float) -> None:
        self.pulse.beat_monotonic_s = time.monotonic() - seconds


@pytest.fixture
def post() -> Post:
    return Post()


def test_every_reading_is_a_declared_metric_and_fits_its_type(post: Post) -> None:
    post.station.set_up(active())
    types = post.readings.device_types
    readings = post.readings.device() | read_verdict(verdict(1), 65535, 1, dict.fromkeys(Verdict, 2)).values
    assert readings.keys() == types.keys()
    encode([Metric(types[name], value, 0) for name, value in readings.items()], timestamp_ms=0, seq=0, with_types=True)


@pytest.mark.parametrize("name", sorted(NODE_TYPES | STATE_TYPES | VERDICT_TYPES))
def test_each_metric_is_in_the_readme(name: str) -> None:
    assert f"`{name}`" in README


def test_state_and_recipe_are_those_that_the_plc_is_told(post: Post) -> None:
    before = post.readings.device()
    assert (before["State/Code"], before["State/Mode"]) == (StationState.PREOPERATIONAL, StationMode.SIMULATION)
    assert (before["Recipe/Index"], before["Recipe/Name"], before["Recipe/Since"]) == (0, None, None)
    recipe = active()
    post.station.set_up(recipe)
    after = post.readings.device()
    assert after["State/Code"] == StationState.CONTINUOUS_EXECUTION
    assert (after["Recipe/Index"], after["Recipe/Revision"], after["Recipe/Name"]) == (
        recipe.rcp,
        recipe.rev,
        recipe.name,
    )
    assert after["Recipe/Since"] == int(recipe.since.timestamp()) * 1000


def test_the_oldest_alarm_is_told_and_how_many_there_are(post: Post) -> None:
    post.station.set_up(active())
    before = post.readings.device()
    assert (before["Alarm/Active"], before["Alarm/Count"], before["Alarm/Text"]) == (False, 0, None)
    post.station.fail(ErrorCode.STORAGE, "verdicts cannot be stored")
    post.station.set_camera("side", ErrorCode.CAMERA_LOST, "camera side: unplugged")
    during = post.readings.device()
    assert (during["Alarm/Active"], during["Alarm/Count"]) == (True, 2)
    assert (during["Alarm/Code"], during["Alarm/Text"]) == (800, "verdicts cannot be stored")
    assert during["State/Error"] == 800
    post.station.recover()
    assert post.readings.device()["Alarm/Code"] == 101


def test_the_problem_of_a_camera_can_always_be_sent(post: Post) -> None:
    post.cameras[1].problem = "no picture in \udcff.png"
    assert post.readings.device()["Camera/side/Problem"] == "no picture in ?.png"


@pytest.mark.parametrize(("silence_s", "age_ms", "alive"), [(0.2, 0, True), (0.7, 500, True), (1.7, 1500, False)])
def test_the_heartbeat_ages_in_periods_and_the_device_is_dead_after_three(
    post: Post, silence_s: float, age_ms: int, alive: bool
) -> None:
    post.silent_for(silence_s)
    assert post.readings.device()["Heartbeat/Age"] == age_ms
    assert post.readings.device_is_alive == alive


def test_a_verdict_has_the_time_of_its_exposure_and_the_counters_after_it() -> None:
    reading = read_verdict(verdict(1234, 2, scr=1500, part="a:1"), 40, 9, {**dict.fromkeys(Verdict, 0), Verdict.NG: 4})
    assert reading.values.keys() == VERDICT_TYPES.keys()
    assert (reading.number, reading.exposed_ms) == (9, EPOCH_S * 1000 + 1234)
    assert reading.values["Verdict/Score"] == 1500
    assert (reading.values["Count/NG"], reading.values["Count/OK"]) == (4, 0)
    assert (reading.values["Verdict/Part"], reading.values["Verdict/Latency"]) == ("a:1", 40)
