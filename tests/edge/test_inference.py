"""The loop itself: what happens between seeing a part and its one verdict, with a real ledger and a detector that obeys."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from edge.absences import Absences
from edge.announcer import Pulse
from edge.batching import Batcher
from edge.buffers import Inbox
from edge.capture import Intake
from edge.deadlines import Deadlines
from edge.inference import Inference, VerdictPath
from edge.ledger import Ledger
from edge.publisher import LiveVerdict
from edge.recorder import Recorder
from edge.state import Snapshot, Station
from inspector.config import Config
from inspector.contract.codes import ErrorCode, StationMode, StationState
from inspector.contract.messages import Heartbeat
from inspector.contract.topics import Topics
from inspector.store import engine, stations
from inspector.store.redo import RedoLog
from inspector.store.schema import InspectionRow
from inspector.store.writer import StoreWriter
from inspector.types import Frame, ImageArray, Verdict
from tests.brokers import wait_until
from tests.edge.detector_stub import active

PERIOD_S = 0.1


class _Link:
    """A broker that keeps the heartbeats."""

    topics = Topics("a/b")

    def __init__(self) -> None:
        self.beats: list[Heartbeat] = []

    def publish(self, topic: str, payload: bytes, **_: Any) -> object:
        assert topic == self.topics.hb
        self.beats.append(Heartbeat.from_json(payload))
        return self


class _Publisher:
    """What is handed over for the PLC, in order."""

    def __init__(self) -> None:
        self.told: list[LiveVerdict] = []

    def publish_live(self, verdict: LiveVerdict) -> None:
        self.told.append(verdict)


class Loop:
    """The inspection of one station; `score_of` may wait, raise, or change the station while a picture is scored."""

    def __init__(
        self, folder: Path, score_of: Callable[[ImageArray], float], make_station: type[Station] = Station
    ) -> None:
        url = f"sqlite:///{folder / 'loop.db'}"
        engine.upgrade(url)
        self.store = engine.open_store(url)
        self.writer = StoreWriter(self.store)
        self.writer.start()
        self.station_id: int = self.writer.call(lambda session: stations.ensure_station(session, "s").id)
        self.station = make_station(boot=1, mode=StationMode.PRODUCTION, window_ms=2000, heartbeat_ms=1000)
        self.station.set_up(active(score_of, recipe_id=None))
        self.link, self.publisher, self.deadlines, self.inbox = _Link(), _Publisher(), Deadlines(), Inbox(100)
        self.pulse = Pulse(self.link, self.station, PERIOD_S)  # type: ignore[arg-type]
        self.intake = Intake(self.station, self.deadlines, self.inbox, self.pulse, 30.0)
        redo = RedoLog(folder / "redo", 2)
        path = VerdictPath(
            station=self.station,
            deadlines=self.deadlines,
            inbox=self.inbox,
            batcher=Batcher(4, 0.005),
            ledger=Ledger(self.writer, self.station_id, self.station, redo),
            absences=Absences(self.writer, self.station_id, redo),
            publisher=self.publisher,  # type: ignore[arg-type]
            recorder=Recorder(Config().images, folder, self.writer),
            pulse=self.pulse,
            simulated_cameras=frozenset(),
            on_the_way=lambda: False,
            most_part_s=1.0,
            timed=self.timed,
        )
        self.stage_fails = ""
        self.inference = Inference(path)

    def timed(self, stage: str, _took_s: float) -> None:
        if stage == self.stage_fails:
            raise RuntimeError("the statistics are broken")

    def show(self, *numbers: int) -> None:
        """Parts come by."""
        for number in numbers:
            image = np.full((8, 8, 3), number, np.uint8)
            self.intake.frame(
                Frame(number, "c", f"p{number}", number, datetime.now(UTC), time.monotonic(), image), None
            )

    def told(self) -> list[tuple[int, int, int]]:
        """What the PLC hears: trigger, verdict, code."""
        return [(one.result.trg, one.result.res, one.result.err) for one in self.publisher.told]

    def stored(self) -> list[tuple[int, int, int]]:
        with self.store.read() as session:
            rows = session.scalars(select(InspectionRow).order_by(InspectionRow.id))
            return [(row.trg, row.verdict, row.err) for row in rows]

    def close(self) -> None:
        self.inference.stop()
        self.writer.stop()
        self.store.close()


Make = Callable[[Callable[[ImageArray], float]], Loop]


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Make]:
    made: list[Loop] = []

    def make(score_of: Callable[[ImageArray], float]) -> Loop:
        made.append(Loop(tmp_path, score_of))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_each_part_is_told_as_it_is_stored_and_in_order(loop: Make) -> None:
    line = loop(lambda image: 0.5 if image[0, 0, 0] % 3 else 1.5)
    line.show(*range(1, 10))
    line.inference.start()
    wait_until(lambda: len(line.told()) == 9)
    assert line.told() == line.stored() == [(n, Verdict.OK if n % 3 else Verdict.NG, 0) for n in range(1, 10)]
    assert line.deadlines.in_flight == 0


@pytest.mark.parametrize("leave", ["halt", "run", "prepare", "fail"])
def test_a_part_during_whose_scoring_the_station_leaves_production_is_not_accepted(loop: Make, leave: str) -> None:
    def leaves(_: ImageArray) -> float:
        arguments: dict[str, tuple[Any, ...]] = {"run": (False,), "fail": (ErrorCode.STORAGE,)}
        getattr(line.station, leave)(*arguments.get(leave, ()))
        return 0.1

    line = loop(leaves)
    line.show(1)
    line.inference.start()
    wait_until(line.told)
    assert (
        line.told() == line.stored() == [(1, Verdict.NONE, ErrorCode.STORAGE if leave == "fail" else ErrorCode.ABORTED)]
    )


def test_a_part_that_was_scored_by_a_product_which_is_no_longer_active_is_not_accepted(loop: Make) -> None:
    def changes(_: ImageArray) -> float:
        line.station.prepare()
        line.station.activate(active(rcp=4, recipe_id=None))
        return 0.1

    line = loop(changes)
    line.show(1)
    line.inference.start()
    wait_until(line.told)
    assert line.told() == [(1, Verdict.NONE, ErrorCode.ABORTED)]


class _Released(Station):
    """A station that a challenge holds, and that is released right after the next look at it once `armed`."""

    armed = False

    @property
    def snapshot(self) -> Snapshot:
        seen = super().snapshot
        if self.armed:
            self.armed = False
            self.hold(ErrorCode.NONE)
        return seen


def test_a_part_that_was_scored_while_the_station_was_held_is_not_accepted_when_it_is_released_a_moment_later(
    tmp_path: Path,
) -> None:
    def score(_: ImageArray) -> float:
        line.station.armed = True  # type: ignore[attr-defined]
        return 0.1

    line = Loop(tmp_path, score, _Released)
    with closing(line):
        line.station.hold(ErrorCode.CHALLENGE_FAILED)
        line.show(1)
        line.inference.start()
        wait_until(line.told)
    assert line.told() == [(1, Verdict.NONE, ErrorCode.CHALLENGE_FAILED)]


def test_a_device_that_fails_for_good_ends_the_loop_and_each_part_in_flight_has_one_verdict(loop: Make) -> None:
    def lost(_: ImageArray) -> float:
        raise RuntimeError("CUDA error: device lost")

    line = loop(lost)
    line.show(1, 2, 3, 4, 5, 6)
    line.inference.start()
    wait_until(lambda: line.inference.failure is not None)
    wait_until(lambda: line.deadlines.in_flight == 0)
    assert "device lost" in str(line.inference.failure)
    assert line.station.snapshot.st is StationState.ERROR
    assert sorted(line.told()) == sorted(line.stored())
    assert [trg for trg, _, _ in sorted(line.told())] == [1, 2, 3, 4, 5, 6]
    assert {(res, err) for _, res, err in line.told()} <= {
        (Verdict.NONE, ErrorCode.ABORTED),
        (Verdict.NONE, ErrorCode.INTERNAL),
    }


@pytest.mark.parametrize("stage", ["committed", "published", "total"])
def test_a_fault_behind_the_commit_gets_no_part_a_second_verdict(loop: Make, stage: str) -> None:
    line = loop(lambda _: 0.5)
    line.stage_fails = stage
    line.show(1, 2, 3)
    line.inference.start()
    wait_until(lambda: line.inference.failure is not None)
    wait_until(lambda: line.deadlines.in_flight == 0)
    assert sorted(trg for trg, _, _ in line.stored()) == [1, 2, 3]


def test_the_heartbeat_stops_while_the_scoring_hangs_and_goes_on_with_it(loop: Make) -> None:
    go_on = threading.Event()

    def hangs(_: ImageArray) -> float:
        go_on.wait(60)
        return 0.5

    line = loop(hangs)
    line.inference.start()
    wait_until(lambda: len(line.link.beats) >= 3)
    line.show(1)
    wait_until(lambda: not len(line.inbox))
    beats = len(line.link.beats)
    beaten_at = line.pulse.beat_monotonic_s
    time.sleep(5 * PERIOD_S)
    assert len(line.link.beats) <= beats + 1
    assert line.pulse.beat_monotonic_s - beaten_at < 2 * PERIOD_S, "the worker's watchdog would see progress"
    go_on.set()
    wait_until(lambda: len(line.link.beats) >= beats + 3)
    assert line.told() == [(1, Verdict.OK, 0)]
