"""RTSP against a real server, started here: what comes, and what happens when it stops, dies and comes back."""

import signal
import time
from collections.abc import Iterator

import pytest

from edge.cameras import Camera, IdleLineError, TriggerQueue, make_camera
from inspector.config import CameraConfig
from inspector.errors import CameraError, CameraLostError, CameraTimeoutError

from .servers import RtspServer, rtsp_server


@pytest.fixture
def server() -> Iterator[RtspServer]:
    with rtsp_server(96, 64) as running:
        yield running


@pytest.fixture
def camera(server: RtspServer) -> Iterator[Camera]:
    config = CameraConfig(name="cam", kind="opencv", source=server.address, period_s=0.1, timeout_s=5.0)
    opened = make_camera(config, TriggerQueue())
    opened.open()
    yield opened
    opened.close()


def until_it_fails(camera: Camera) -> tuple[CameraError, float]:
    """The error, and after how many seconds it came."""
    start_s = time.monotonic()
    while True:
        try:
            camera.read(5.0)
        except IdleLineError:
            continue
        except CameraError as error:
            return error, time.monotonic() - start_s


def test_a_stream_that_stands_still_is_told_within_three_seconds(server: RtspServer, camera: Camera) -> None:
    assert camera.read(5.0) is not None
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    error, after_s = until_it_fails(camera)
    assert isinstance(error, CameraTimeoutError)
    assert after_s < 3.0


def test_a_server_that_dies_is_told_within_three_seconds_and_found_again(server: RtspServer, camera: Camera) -> None:
    first = camera.read(5.0)
    server.kill()
    error, after_s = until_it_fails(camera)
    assert isinstance(error, CameraLostError | CameraTimeoutError)
    assert after_s < 3.0
    camera.close()
    with pytest.raises(CameraLostError):
        camera.open()
    server.start()
    camera.open()
    again = camera.read(5.0)
    assert first is not None
    assert again is not None
    assert again.image.shape == first.image.shape
    assert again.image[..., 0].mean() > 100 > again.image[..., 2].mean()
