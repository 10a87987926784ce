"""Drift becomes alarms and rows; the run-in of a recipe outlives the worker."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from edge.drift import DriftWatch
from edge.parts import Part
from edge.state import ActiveRecipe, Station
from edge.verdicts import Statement, judge
from inspector.contract.codes import ErrorCode, StationMode
from inspector.drift import RUN_IN, Looks, Measures
from inspector.store import drift, engine, stations
from inspector.store.writer import StoreWriter
from inspector.types import Placement
from tests import stored
from tests.edge.detector_stub import StubDetector, active, inspection
from tests.edge.part_maker import part

NOW = datetime(2026, 1, 2, tzinfo=UTC)
IMAGE = np.random.default_rng(0).integers(60, 160, (64, 64, 3), dtype=np.uint8)


class Line:
    def __init__(self, folder: Path) -> None:
        url = f"sqlite:///{folder / 'x.db'}"
        engine.upgrade(url)
        self.store = engine.open_store(url)
        self.writer = StoreWriter(self.store)
        self.writer.start()
        self.station = Station(boot=1, mode=StationMode.PRODUCTION, window_ms=2000, heartbeat_ms=1000)
        self.station_id: int = self.writer.call(lambda session: stations.ensure_station(session, "s").id)
        pictures = [("1.png", IMAGE)]
        self.recipe_id: int = self.writer.call(
            lambda session: (
                stored.request_recipe(session, folder, "gear", pictures, station_id=None, who="t", now=NOW).id
            )
        )
        self.watch = DriftWatch(self.writer, self.station, self.station_id)
        self.rng = np.random.default_rng(1)

    @property
    def recipe(self) -> ActiveRecipe:
        detector = StubDetector(lambda _: 0.5, looks=Looks((Measures(110.0, 40.0, 300.0, 0.0, 5.0),), ()))
        detector.bank = _Bank()  # type: ignore[attr-defined]
        return active(recipe_id=self.recipe_id, detector=detector)

    def show(self, count: int, level: float = 110.0, novelty: float = 0.005) -> None:
        recipe = self.recipe
        for number in range(count):
            measures = Measures(level + self.rng.normal(0, 1), 40.0, 300.0, 0.0, 5.0)
            shown: Part = replace(part(number + 1), image=IMAGE, measures=measures)
            found = replace(inspection(0.5 + 0.1 * self.rng.random()), novelty=novelty)
            self.watch.take(Statement(judge(shown, found, recipe, now_monotonic_s=0.5), number + 1, 1))

    @property
    def alarms(self) -> list[int]:
        return [alarm.err for alarm in self.station.alarms.message(1).alarms]

    def points(self) -> list[object]:
        self.writer.call(lambda session: None)
        with self.store.read() as session:
            return list(drift.points(session, self.station_id, datetime(2020, 1, 1, tzinfo=UTC)))


class _Bank:
    usual = torch.zeros(128, 128)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path)
    yield made
    made.writer.stop()
    made.store.close()


def test_changed_light_raises_the_alarm_and_ends_it_again(line: Line) -> None:
    line.show(RUN_IN)
    line.show(60)
    assert line.alarms == []
    line.show(130, level=85.0)
    assert line.alarms == [ErrorCode.LIGHT_DRIFT]
    line.show(130)
    assert line.alarms == []
    causes = [(point.err, "the light has changed" in point.cause) for point in line.points()]  # type: ignore[attr-defined]
    assert (204, True) in causes
    assert causes[-1] == (0, False)


def test_after_a_restart_the_parts_are_compared_with_the_first_ones_of_the_recipe(line: Line) -> None:
    line.show(RUN_IN)
    line.writer.call(lambda session: None)
    line.watch = DriftWatch(line.writer, line.station, line.station_id)
    line.show(60, level=85.0)  # the light was changed while the worker was down
    assert line.alarms == [ErrorCode.LIGHT_DRIFT]


def test_of_aligned_parts_the_place_where_they_were_found_tells_that_the_camera_has_moved(line: Line) -> None:
    rng = np.random.default_rng(4)
    for start, off in ((0, 0.0), (RUN_IN, 0.08)):
        for number in range(start, start + (RUN_IN if off == 0.0 else 130)):
            place = Placement(off + rng.normal(0.0, 0.005), 0.0, 0.0, 0.95)
            shown = replace(part(number + 1), image=IMAGE, measures=Measures(110.0, 40.0, 300.0, 0.0, 5.0))
            found = replace(inspection(0.5 + 0.1 * rng.random()), novelty=0.005, placement=place)
            line.watch.take(Statement(judge(shown, found, line.recipe, now_monotonic_s=0.5), number + 1, 1))
        assert (ErrorCode.CAMERA_MOVED in line.alarms) is (off > 0.0)


def test_parts_of_another_product_raise_403(line: Line) -> None:
    line.show(3, novelty=0.4)
    assert line.alarms == [ErrorCode.WRONG_PRODUCT]


def test_another_recipe_starts_anew(line: Line) -> None:
    line.show(3, novelty=0.4)
    line.recipe_id = 999
    line.show(1)
    assert line.alarms == []


def test_old_points_go_and_the_run_in_stays(line: Line) -> None:
    line.show(RUN_IN + 60)
    assert line.points()
    line.writer.call(lambda session: drift.remove_points(session, datetime(2100, 1, 1, tzinfo=UTC)))
    assert line.points() == []
    with line.store.read() as session:
        assert len(drift.run_in(session, line.station_id, line.recipe_id)) == RUN_IN


def test_a_burst_that_finds_the_queue_full_is_counted_and_blocks_nobody(line: Line) -> None:
    answer = judge(replace(part(1), measures=None), inspection(0.5), line.recipe, now_monotonic_s=0.5)
    for number in range(200):
        line.watch.seen(Statement(answer, number + 1, 1))
    assert line.watch.skipped == 200 - 64
