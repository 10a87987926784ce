"""What is downloaded is what the database holds."""

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from dashboard import data, export, pictures
from inspector.images import encode_jpeg, encode_png, read_image
from inspector.store.queries import InspectionFilter
from tests.dashboard import seed
from tests.dashboard.seed import Scene

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def parts_of(scene: Scene, count: int = 8) -> list[data.PartView]:
    recipe = seed.teach(scene, "gear", "gear", now=NOW, pictures=2)
    seed.inspect(scene, recipe, "gear", range(1, count + 1), NOW, pictures=2)
    return data.search(scene.store, InspectionFilter(), offset=0, limit=100)[0]


def test_csv_has_one_line_for_each_part_with_full_numbers(scene: Scene) -> None:
    parts = parts_of(scene)
    rows = list(csv.DictReader(io.StringIO(export.to_csv(parts).decode("utf-8"))))

    assert [row["trg"] for row in rows] == ["8", "7", "6", "5", "4", "3", "2", "1"]
    assert float(rows[0]["score"]) == parts[0].score
    assert rows[0]["captured_at"] == "2026-05-04T12:00:00+00:00"
    assert rows[0]["product"] == "gear"


def test_a_part_id_that_looks_like_a_formula_is_not_run_by_a_spreadsheet(scene: Scene) -> None:
    part = parts_of(scene, 1)[0]
    risky = data.PartView(**{**part.__dict__, "part": "=1+1", "score": -0.5})
    row = next(csv.DictReader(io.StringIO(export.to_csv([risky]).decode("utf-8"))))

    assert row["part"] == "'=1+1"
    assert row["score"] == "-0.5"


def test_json_of_one_verdict_holds_its_parts_branches_timings_recipe_and_regions(scene: Scene) -> None:
    parts = parts_of(scene, 30)
    bad = next(part for part in parts if part.verdict.name == "NG")
    values = json.loads(export.inspection_json(data.inspection(scene.store, bad.id)))

    assert values["verdict"] == "NG"
    assert values["score"] == bad.score
    assert values["detail"]["branches"] == ["visual"]
    assert set(values["detail"]["timings_ms"]) == {"queue", "infer", "commit"}
    assert (values["product"], values["rcp"], values["rev"]) == ("gear", 1, 1)
    assert len(json.loads(export.to_json(parts))) == 30


def test_pictures_outside_the_data_folder_are_never_opened(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "secret.png").write_bytes(encode_png(np.zeros((32, 32, 3), np.uint8)))

    assert pictures.view(tmp_path / "data", "../secret.png", 64) is None
    assert pictures.view(tmp_path / "data", str(tmp_path / "secret.png"), 64) is None
    assert pictures.view(tmp_path, "secret.png", 64) is not None


def test_a_picture_that_was_tidied_away_is_none_and_no_error(tmp_path: Path) -> None:
    assert pictures.view(tmp_path, "gone.jpg", 64) is None
    assert pictures.view(tmp_path, None, 64) is None


def test_regions_are_drawn_where_they_lie_also_on_a_smaller_picture(tmp_path: Path) -> None:
    grey = encode_jpeg(np.full((240, 320, 3), 90, np.uint8))
    boxed = pictures.with_boxes(grey, [(320, 240, 160, 120)], (640, 480))
    (tmp_path / "boxed.jpg").write_bytes(boxed)
    image = read_image(tmp_path / "boxed.jpg").astype(int)
    red = (image[..., 0] - image[..., 2]) > 80
    rows, columns = np.nonzero(red[122:])  # below the number's tag

    assert abs(columns.min() - 160) <= 4
    assert abs(columns.max() - 240) <= 4
    assert abs(rows.max() + 122 - 180) <= 4
