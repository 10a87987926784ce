"""What the worker's main thread sees to: cameras that have not answered when the station gets ready, and the wall clock."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge import capture as capture_module
from edge import worker as worker_module
from edge.worker import Worker
from inspector.config import Config
from inspector.contract.codes import ErrorCode
from inspector.store import engine
from inspector.types import Frame
from tests.brokers import wait_until


class DeadMount:
    """A folder on a server that does not answer: its driver hangs in the kernel until the test lets it go on."""

    name = "camera1"
    position = 0

    def __init__(self) -> None:
        self.answers = threading.Event()

    def open(self) -> None:
        self.answers.wait(60)

    def read(self, timeout_s: float) -> Frame | None:
        return None

    def close(self) -> None:
        """Nothing to let go of."""


@pytest.fixture
def mount(monkeypatch: pytest.MonkeyPatch) -> Iterator[DeadMount]:
    made = DeadMount()
    monkeypatch.setattr(capture_module, "make_camera", lambda *_, **__: made)
    yield made
    made.answers.set()


@pytest.fixture
def worker(tmp_path: Path, mount: DeadMount) -> Iterator[Worker]:
    config = Config.model_validate({"data_dir": tmp_path, "cameras": [{"kind": "folder", "source": str(tmp_path)}]})
    engine.upgrade(config.database_url)
    made = Worker(config, engine.open_store(config.database_url), threading.Event())
    for camera in made._cameras:
        camera.start()
    yield made
    mount.answers.set()
    made._stop_cameras()
    made._writer.stop()


def test_a_camera_that_hangs_while_it_is_opened_is_an_alarm_before_the_station_says_that_it_is_ready(
    worker: Worker, mount: DeadMount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "OPEN_PATIENCE_S", 0.05)
    said: list[tuple[bool, ErrorCode]] = []
    worker._station.announce = lambda: said.append((worker._station._shown.starting, worker._station.shown[1]))
    worker._become_ready()
    assert said[0] == (True, ErrorCode.FRAME_TIMEOUT)
    assert worker._station.shown[1] is ErrorCode.FRAME_TIMEOUT
    mount.answers.set()
    wait_until(lambda: worker._station.shown[1] is ErrorCode.NONE)


def test_the_worker_says_that_the_wall_clock_was_set(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_module, "WATCH_S", 0.01)
    too_late = threading.Timer(30.0, worker._stopping.set)
    too_late.start()
    looks: list[int] = []

    class Counted(worker_module.ClockSteps):
        def look(self) -> None:
            looks.append(1)
            if len(looks) == 5:
                worker._stopping.set()
            super().look()

    times = iter([0.0, 0.0, 3600.0, 3600.0, 3600.0])
    monkeypatch.setattr(worker, "_clock_steps", Counted(lambda: next(times), lambda: 7.0))
    worker._watch()
    too_late.cancel()
    assert len(looks) == 5
    assert [record.message for record in caplog.records if "wall clock" in record.message] == [
        "the wall clock was set by +3600.0 s; times before and after it cannot be compared, verdicts are not touched"
    ]
