"""Faults of the simulated line: each part meets the one that the seed says, and is accounted for."""

from collections import Counter

import numpy as np
import pytest

from edge.cameras import BadFrameError, MissedFrameError, TriggerQueue, make_camera
from edge.cameras.protocol import Camera
from inspector.config import CameraConfig
from inspector.errors import CameraLostError, CameraTimeoutError

from .fake_time import FakeTime


def line(**faults: float) -> Camera:
    config = CameraConfig.model_validate({"name": "cam", "source": "gear", "seed": 3, "faults": faults})
    camera = make_camera(config, TriggerQueue(), clock=FakeTime().clock)
    camera.open()
    return camera


def outcomes(camera: Camera, count: int) -> list[str]:
    found = []
    for _ in range(count):
        try:
            frame = camera.read(1.0)
        except BadFrameError as error:
            found.append("bad" if error.failure is None else type(error.failure).__name__)
        else:
            found.append("black" if not frame.image.any() else "good")
    return found


@pytest.mark.parametrize(
    ("fault", "failure"),
    [("missed", MissedFrameError), ("timeout", CameraTimeoutError), ("lost", CameraLostError), ("bad", type(None))],
)
def test_a_fault_names_its_part_and_what_the_camera_did(fault: str, failure: type) -> None:
    camera = line(**{fault: 1.0})
    for trigger in (1, 2):
        with pytest.raises(BadFrameError, match="simulated") as caught:
            camera.read(1.0)
        assert caught.value.trigger == trigger
        assert isinstance(caught.value.failure, failure)


def test_the_shares_come_true_and_the_same_seed_has_the_same_faults() -> None:
    faults = {"missed": 0.2, "bad": 0.1, "black": 0.2}
    first, second = outcomes(line(**faults), 60), outcomes(line(**faults), 60)
    assert first == second
    counts = Counter(first)
    assert 4 <= counts["MissedFrameError"] <= 20
    assert 1 <= counts["bad"] <= 12
    assert 4 <= counts["black"] <= 20
    assert counts["good"] >= 15


def test_a_frozen_camera_gives_the_last_picture_again_under_a_new_number() -> None:
    camera = line(frozen=1.0)
    frames = [camera.read(1.0) for _ in range(3)]
    assert [frame.trigger for frame in frames] == [1, 2, 3]
    assert np.array_equal(frames[0].image, frames[2].image)
