"""What a build says of the last parts: those that lie as no reference does are advised, those with a defect are not."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from inspector import simulation
from inspector.cli import app
from inspector.config import EncoderConfig
from inspector.detection.encoder import load_encoder
from inspector.images import encode_jpeg, encode_png
from inspector.recipes import build_recipe
from inspector.store import labels, products
from inspector.store.schema import InspectionRow, Recipe
from inspector.store.writer import StoreWriter
from inspector.types import ImageArray, Verdict
from tests import stored
from tests.dashboard import seed
from tests.dashboard.conftest import scene
from tests.dashboard.seed import Scene

__all__ = ["scene"]
NOW = datetime.now(UTC)


def good(number: int) -> ImageArray:
    return list(simulation.draw_references("flange", 12))[6 + number]


def upside_down(image: ImageArray) -> ImageArray:
    return np.ascontiguousarray(np.rot90(image, 2))


def build(plant: Scene) -> Recipe:
    """A revision from six flanges, by the product's own build."""
    pictures = [(f"{number}.png", image) for number, image in enumerate(simulation.draw_references("flange", 6))]
    writer = StoreWriter(plant.store)
    writer.start()
    try:
        data_path = plant.config.data_path
        recipe_id = writer.call(
            lambda session: (
                stored.request_recipe(
                    session, data_path, "flange", pictures, station_id=plant.station_id, who="test", now=NOW
                ).id
            )
        )
        assert build_recipe(writer, data_path, recipe_id, load_encoder(EncoderConfig()))
    finally:
        writer.stop()
    with plant.store.read() as session:
        return session.get_one(Recipe, recipe_id)


@pytest.fixture
def line(scene: Scene) -> tuple[Scene, list[int]]:
    """A line that rejected three parts: with a defect, upside down, and upside down but called a defect by a person."""
    recipe = build(scene)
    seed.inspect(scene, recipe, "flange", range(1, 30), NOW, pictures=29)
    with scene.store.write() as session:
        query = select(InspectionRow).where(InspectionRow.verdict == int(Verdict.NG)).order_by(InspectionRow.id.desc())
        rejected = session.scalars(query.limit(3)).all()
        shown = [simulation.draw_part("flange", 0, 0, 1.0)[0], upside_down(good(0)), upside_down(good(1))]
        for row, image in zip(rejected, shown, strict=True):
            (scene.config.data_path / str(row.image_path)).write_bytes(encode_jpeg(image))
        stored.add_label(
            session,
            scene.config.data_path,
            products.find_product(session, "flange"),
            ("odd.jpg", shown[2]),
            labels.Said(labels.DEFECT, "turned"),
            inspection_id=rejected[2].id,
            source="review",
            who="test",
            now=NOW + timedelta(seconds=1),
        )
        return scene, [row.id for row in rejected]


def test_a_build_names_parts_in_a_position_that_no_reference_shows_and_no_defects(
    line: tuple[Scene, list[int]],
) -> None:
    plant, (defect, position, called_defect) = line
    found = build(plant).report["positions"]
    named = [one["inspection"] for one in found]
    assert position in named
    assert defect not in named
    assert called_defect not in named
    (one,) = [one for one in found if one["inspection"] == position]
    assert one["kind"] == "position"
    assert abs(one["move"]["turn_deg"] - 180.0) <= 15.0

    runner = CliRunner()
    config = ["--config", str(plant.config_path)]
    shown = runner.invoke(app, ["product", "show", "flange", *config], catch_exceptions=False).output
    assert f"verdict {position} " in shown
    assert "inspector references add flange NUMBER" in shown
    added = runner.invoke(app, ["references", "add", "flange", str(position), *config], catch_exceptions=False)
    assert added.exit_code == 0
    with plant.store.read() as session:
        newest = products.find_product(session, "flange").recipes[-1]
        assert len(newest.references) == 7
        assert position not in [one["inspection"] for one in newest.report["positions"]]  # it is known now


def test_pictures_can_be_checked_against_a_product_before_they_enter(scene: Scene, tmp_path: Path) -> None:
    build(scene)
    folder = tmp_path / "candidates"
    folder.mkdir()
    (folder / "usual.png").write_bytes(encode_png(next(iter(simulation.draw_references("flange", 6)))))
    (folder / "turned.png").write_bytes(encode_png(upside_down(good(0))))
    words = ["references", "check", str(folder), "--product", "flange", "--config", str(scene.config_path)]
    output = CliRunner().invoke(app, words, catch_exceptions=False).output
    assert "turned.png: position: differs from all references" in output
    assert "usual.png: position" not in output
