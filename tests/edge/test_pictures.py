"""Evidence is kept after the verdict, never in its way, and no more of it than is allowed."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from edge import recorder as recorder_module
from edge.recorder import Evidence, Recorder
from edge.verdicts import Statement, judge
from inspector.config import ImagesConfig
from inspector.images import read_image
from inspector.store import engine, journal, queries, stations
from inspector.store.journal import VerdictRecord
from inspector.store.writer import StoreWriter
from inspector.types import Verdict
from tests.edge.detector_stub import active, inspection
from tests.edge.part_maker import part

AT = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[StoreWriter]:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    engine.upgrade(url)
    made = StoreWriter(engine.open_store(url))
    made.start()
    made.call(lambda session: stations.ensure_station(session, "s"))
    yield made
    made.stop()
    made.store.close()


def _rows(writer: StoreWriter, verdicts: list[Verdict]) -> list[int]:
    records = [
        VerdictRecord(1, seq, seq, "c", seq, "", int(verdict), 0, 0, None, None, None, 0, 0.0, AT)
        for seq, verdict in enumerate(verdicts, start=1)
    ]
    committed = writer.call(lambda session: journal.commit_verdicts(session, 1, records))
    return [one.inspection_id for one in committed]


def _evidence(inspection_id: int, name: str = "images/1.jpg") -> Evidence:
    image = np.full((100, 200, 3), 90, np.uint8)
    return Evidence(inspection_id, image, np.ones((8, 8), np.float32), 1.0, name)


def test_a_picture_and_its_heat_map_are_kept_small_and_found_by_their_row(tmp_path: Path, writer: StoreWriter) -> None:
    (row_id,) = _rows(writer, [Verdict.NG])
    recorder = Recorder(ImagesConfig(max_side_px=64), tmp_path, writer)
    recorder.start()
    recorder.put(_evidence(row_id))
    recorder.stop()
    writer.call(lambda _session: None)
    with writer.store.read() as session:
        row = queries.inspection(session, row_id)
    assert row.image_path == "images/1.jpg"
    assert row.map_path == "images/1-map.jpg"
    assert read_image(tmp_path / row.image_path).shape == (32, 64, 3)
    assert read_image(tmp_path / row.map_path).shape == (32, 64, 3)


def test_a_full_queue_drops_pictures_and_counts_them(tmp_path: Path, writer: StoreWriter) -> None:
    recorder = Recorder(ImagesConfig(), tmp_path, writer)
    for _ in range(recorder_module.QUEUE_SIZE + 3):
        recorder.put(_evidence(1))
    assert recorder.dropped == 3


def test_a_place_that_cannot_be_written_costs_the_picture_only(tmp_path: Path, writer: StoreWriter) -> None:
    (row_id,) = _rows(writer, [Verdict.OK])
    (tmp_path / "images").write_text("a file where the folder should be")
    recorder = Recorder(ImagesConfig(), tmp_path, writer)
    recorder.start()
    recorder.put(_evidence(row_id))
    recorder.put(_evidence(row_id, "elsewhere/1.jpg"))
    recorder.stop()
    assert recorder.failed == 1
    assert (tmp_path / "elsewhere/1.jpg").exists()


@pytest.mark.parametrize(
    ("save", "kept"), [("all", {"OK", "NG"}), ("not_ok", {"NG"}), ("none", set())], ids=["all", "not_ok", "none"]
)
def test_the_policy_says_whose_picture_is_kept(tmp_path: Path, writer: StoreWriter, save: str, kept: set[str]) -> None:
    recorder = Recorder(ImagesConfig.model_validate({"save": save}), tmp_path, writer)
    wanted = set()
    for score in (0.2, 2.0):
        statement = Statement(judge(part(1), inspection(score), active(), now_monotonic_s=0.0), 1, 1)
        if recorder.path_for(statement) is not None:
            wanted.add(statement.answer.verdict.name)
    assert wanted == kept


def test_a_full_disk_gets_no_pictures_and_they_are_counted(tmp_path: Path, writer: StoreWriter) -> None:
    recorder = Recorder(ImagesConfig(), tmp_path, writer)
    statement = Statement(judge(part(1), inspection(2.0), active(), now_monotonic_s=0.0), 1, 1)
    assert recorder.path_for(statement) is not None
    recorder.has_room = lambda: False
    assert (recorder.path_for(statement), recorder.dropped) == (None, 1)
