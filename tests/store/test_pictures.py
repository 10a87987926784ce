"""Pictures are written before the transaction that names them, so that the line can commit meanwhile."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from dashboard import known_parts, revisions, study_form, uploads
from dashboard.access import ANYBODY
from dashboard.context import Dashboard
from dashboard.uploads import Upload
from dashboard.views import review
from inspector.cli import app
from inspector.config import Config
from inspector.errors import StoreError, UsageError
from inspector.images import encode_png, read_image
from inspector.store import engine, journal, labels, pictures, products, stations
from inspector.store.pictures import ABANDONED_S, FOLDER, staged
from inspector.store.studies import Plan
from inspector.types import ImageArray, Verdict
from tests import stored
from tests.store.test_store import record

NOW = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)


def picture(seed: int) -> ImageArray:
    return np.random.default_rng(seed).integers(0, 255, (24, 32, 3), np.uint8)


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Dashboard]:
    """A product with a revision, and a part of it whose picture is kept."""
    url = f"sqlite:///{tmp_path / 'line.db'}"
    engine.upgrade(url)
    store = engine.open_store(url)
    (tmp_path / "shown.png").write_bytes(encode_png(picture(5)))
    with store.write() as session:
        line = stations.ensure_station(session, "station1").id
        named = [("a.png", picture(1))]
        recipe = stored.request_recipe(session, tmp_path, "gear", named, station_id=line, who="me", now=NOW)
        (row,) = journal.commit_verdicts(session, line, [record(1, Verdict.NG, recipe_id=recipe.id)])
        journal.set_image_paths(session, row.inspection_id, "shown.png", None)
    yield Dashboard(Config.model_validate({"data_dir": tmp_path, "database": {"url": url}}), store, "station1", ANYBODY)
    store.close()


@pytest.fixture
def free_while_encoding(monkeypatch: pytest.MonkeyPatch, plant: Dashboard) -> list[str]:
    """Each picture that is encoded tries whether the line could commit at that moment; gives how many there were."""
    seen: list[str] = []
    encode = pictures.encode_png

    def trying(image: ImageArray) -> bytes:
        with closing(sqlite3.connect(plant.data_path / "line.db", timeout=0)) as line:
            line.execute("BEGIN IMMEDIATE")
            line.rollback()
        seen.append("free")
        return encode(image)

    monkeypatch.setattr(pictures, "encode_png", trying)
    return seen


def _upload(name: str, seed: int = 9) -> Upload:
    return uploads.read_upload(name, encode_png(picture(seed)))


def _study(plant: Dashboard) -> None:
    sources = [_upload("a.png", 1), _upload("b.png", 2)]
    cards = [(study_form.Card(one.name, one.name, None, "", "", "", one), labels.GOOD) for one in sources]
    study_form.make(plant, Plan("gear", "shift A", ("Anna", "Ben"), 2, seed=3), cards, 0)


def _by_command(*words: str) -> Callable[[Dashboard], Any]:
    def run(plant: Dashboard) -> None:
        path = plant.data_path / "line.yaml"
        path.write_text(
            yaml.safe_dump({"data_dir": str(plant.data_path), "database": {"url": plant.config.database.url}})
        )
        files = [word.replace("DIR", str(plant.data_path)) for word in words]
        assert CliRunner().invoke(app, [*files, "--config", str(path)], catch_exceptions=False).exit_code == 0

    return run


WAYS: dict[str, Callable[[Dashboard], Any]] = {
    "more references": lambda plant: revisions.request(plant, "gear", [("b.png", picture(2))]),
    "known parts": lambda plant: known_parts._add_files(plant, "gear", 1, [_upload("b.png")], ("good", "")),
    "a study": _study,
    "label on the page": lambda plant: review._label(plant, 1, labels.Said(labels.GOOD)),
    "label by command": _by_command("review", "label", "1", "good"),
    "known part by command": _by_command("challenge", "add", "gear", "DIR/shown.png", "--expected", "good"),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_the_line_can_commit_while_a_picture_is_encoded(
    plant: Dashboard, free_while_encoding: list[str], way: Callable[[Dashboard], Any]
) -> None:
    way(plant)
    assert free_while_encoding


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_nothing_is_left_behind_once_the_rows_are_stored(plant: Dashboard, way: Callable[[Dashboard], Any]) -> None:
    way(plant)
    assert list((plant.data_path / FOLDER).iterdir()) == []


def test_a_row_names_the_pixels_that_were_given(plant: Dashboard) -> None:
    with plant.store.read() as session:
        (reference,) = products.newest_revision(session, 1).references  # type: ignore[union-attr]
    assert reference.path == f"references/1/1/000-{reference.sha256[:8]}.png"
    assert np.array_equal(read_image(plant.data_path / reference.path), picture(1))


def test_a_transaction_that_fails_leaves_no_picture_on_its_way(plant: Dashboard) -> None:
    with (
        pytest.raises(UsageError),
        staged(plant.data_path, [("a.png", picture(1))]) as kept,
        plant.store.write() as session,
    ):
        products.request_recipe(session, "../x", kept, station_id=None, who="me", now=NOW)
    assert list((plant.data_path / FOLDER).iterdir()) == []


def test_what_a_process_left_that_died_is_deleted_after_a_day(tmp_path: Path) -> None:
    for name, age_s in (("old", ABANDONED_S + 60), ("fresh", 60)):
        (tmp_path / FOLDER / name).mkdir(parents=True)
        os.utime(tmp_path / FOLDER / name, (time.time() - age_s,) * 2)
    with staged(tmp_path, []):
        pass
    assert [folder.name for folder in (tmp_path / FOLDER).iterdir()] == ["fresh"]


def test_a_data_folder_that_cannot_be_written_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("a file, not a folder")
    with pytest.raises(StoreError, match="incoming: cannot be written"), staged(tmp_path, []):
        pass
