"""A product whose parts are aligned: the wish goes with its revisions, and good parts that are not found count."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from inspector import simulation
from inspector.config import EncoderConfig
from inspector.detection.encoder import load_encoder
from inspector.recipes import build_recipe, load_detector
from inspector.store import labels, products
from inspector.store.schema import Recipe
from inspector.store.writer import StoreWriter
from inspector.types import Align, Fit, ImageArray
from tests import stored
from tests.benchmarks.fixture import moved
from tests.dashboard.conftest import scene
from tests.dashboard.seed import Scene

__all__ = ["scene"]
NOW = datetime.now(UTC)
WISH = products.Wish(align=Align(max_shift=0.1, max_turn_deg=10.0))


def build(plant: Scene, pictures: Sequence[ImageArray], wish: products.Wish | None) -> int:
    named = [(f"{number}.png", image) for number, image in enumerate(pictures)]
    encoder = load_encoder(EncoderConfig(precision="fp32", threads=1))
    writer = StoreWriter(plant.store)
    writer.start()
    try:
        recipe_id = writer.call(
            lambda session: (
                stored.request_recipe(
                    session,
                    plant.config.data_path,
                    "bracket",
                    named,
                    station_id=plant.station_id,
                    who="test",
                    now=NOW,
                    wish=wish,
                ).id
            )
        )
        assert build_recipe(writer, plant.config.data_path, recipe_id, encoder)
    finally:
        writer.stop()
    return recipe_id


def test_a_good_part_that_is_not_where_it_may_lie_counts_as_one_that_is_rejected(scene: Scene) -> None:
    drawn = list(simulation.draw_references("flange", 13))
    first = build(scene, drawn[:3], WISH)
    good = [moved(image, (0.03, -0.03), 3.0) for image in drawn[3:12]]
    with scene.store.write() as session:
        for number, image in enumerate([*good, moved(drawn[12], (0.15, 0.0), 0.0)]):
            stored.add_label(
                session,
                scene.config.data_path,
                products.find_product(session, "bracket"),
                (f"good{number}.png", image),
                labels.Said(labels.GOOD),
                source="cli",
                who="test",
                now=NOW,
            )
    second = build(scene, drawn[:3], None)

    with scene.store.read() as session:
        before, after = session.get_one(Recipe, first), session.get_one(Recipe, second)
        assert products.wish_of(before) == products.wish_of(after) == products.last_wish(session, "bracket") == WISH
        assert (after.calibration_kind, after.calibration_n) == ("confirmed", 10)
        assert after.calibration["rate"] == 2 / 11
        assert [one["picture"] for one in after.report["good_not_accepted"]] == ["good9.png"]
        assert after.report["good_not_accepted"][0]["score"] is None
        detector = load_detector(
            scene.config.data_path, after, load_encoder(EncoderConfig(precision="fp32", threads=1))
        )
    found = detector.inspect([good[0], np.full_like(good[0], 90)])
    assert [one.placement.fit for one in found if one.placement] == [Fit.FOUND, Fit.NOT_FOUND]
