"""The simulated line as a camera: its counter, its kinds, its truth."""

import numpy as np
import pytest

from edge.cameras import TriggerQueue, make_camera
from edge.cameras.protocol import Camera
from inspector import simulation
from inspector.config import CameraConfig
from inspector.errors import CameraLostError

from .fake_time import FakeTime


def line(last_trigger: int = 0, triggers: TriggerQueue | None = None, **settings: object) -> Camera:
    config = CameraConfig.model_validate({"name": "cam", "seed": 3, "defect_rate": 0.5, **settings})
    camera = make_camera(config, triggers or TriggerQueue(), last_trigger=last_trigger, clock=FakeTime().clock)
    camera.open()
    return camera


def test_frames_are_the_pictures_that_the_truth_speaks_of() -> None:
    camera = line(source="gear")
    for _ in range(6):
        frame = camera.read(1.0)
        expected, _ = simulation.draw_part("gear", 3, frame.trigger, 0.5)
        assert np.array_equal(frame.image, expected)
        assert frame.part_id == f"gear:{frame.trigger:06d}"


def test_the_counter_goes_on_behind_the_last_recorded_trigger() -> None:
    camera = line(last_trigger=41)
    assert [camera.read(1.0).trigger for _ in range(2)] == [42, 43]


def test_the_counter_wraps_to_one_and_never_shows_zero() -> None:
    camera = line(last_trigger=2**32 - 2)
    assert [camera.read(1.0).trigger for _ in range(3)] == [2**32 - 1, 1, 2]


def test_kinds_come_in_turn_and_an_empty_source_means_all() -> None:
    camera = line(parts_per_product=2)
    kinds = [camera.read(1.0).part_id.split(":")[0] for _ in range(8)]
    assert kinds == ["flange", "flange", "blister", "blister", "gear", "gear", "flange", "flange"]


def test_the_source_names_the_kinds_and_their_order() -> None:
    camera = line(source="gear, flange", parts_per_product=1)
    assert [camera.read(1.0).part_id.split(":")[0] for _ in range(3)] == ["gear", "flange", "gear"]


def test_a_kind_that_cannot_be_drawn_is_refused_with_those_that_can() -> None:
    with pytest.raises(CameraLostError, match=r"valve.*flange, blister, gear"):
        line(source="flange,valve")


@pytest.mark.parametrize(("part_id", "kind"), [("blister:00012", "blister"), ("4711", "gear"), ("x:1", "gear")])
def test_the_part_id_of_a_trigger_tells_what_lies_on_the_belt(part_id: str, kind: str) -> None:
    triggers = TriggerQueue()
    camera = line(source="gear", trigger="mqtt", triggers=triggers)
    triggers.put(9, part_id)
    frame = camera.read(1.0)
    assert (frame.trigger, frame.part_id) == (9, part_id)
    assert np.array_equal(frame.image, simulation.draw_part(kind, 3, 9, 0.5)[0])
