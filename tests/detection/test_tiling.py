"""Tiles: the same patches as the tower gives for each tile, on one grid; small defects of large pictures are found."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from inspector.config import EncoderConfig
from inspector.detection.bank import ResidualBank
from inspector.detection.detector import Detector
from inspector.detection.encoder import Encoder, load_encoder
from inspector.detection.scoring import Canvas
from inspector.detection.tiling import TiledEncoder, chosen
from inspector.errors import EncoderError, ImageError
from inspector.types import Align, ImageArray, Roi, Tiles, Verdict

from ..benchmarks.fixture import moved
from . import models


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(EncoderConfig(precision="fp32", threads=1))


def brushed(side_px: int, seed: int) -> ImageArray:
    """A large plate, brushed along its rows, with four dark holes; the brushing differs from plate to plate."""
    rng = np.random.default_rng(seed)
    grain = cv2.GaussianBlur(rng.normal(0.0, 12.0, (side_px, side_px)).astype(np.float32), (0, 0), 6.0, sigmaY=0.8)
    plate = 150.0 + grain + rng.normal(0.0, 1.5, (side_px, side_px))
    for x in (0.25, 0.75):
        for y in (0.3, 0.7):
            cv2.circle(plate, (round(x * side_px), round(y * side_px)), side_px // 16, 60.0, -1, cv2.LINE_AA)
    return np.repeat(np.clip(plate, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def pierced(image: ImageArray, x_px: int, y_px: int, side_px: int) -> ImageArray:
    spoilt = image.copy()
    spoilt[y_px : y_px + side_px, x_px : x_px + side_px] = (10, 10, 10)
    return spoilt


def test_each_patch_of_the_large_grid_is_one_of_a_tile(encoder: Encoder) -> None:
    """Written out for two tiles: what lies left of the overlap's middle comes from the left one, the rest from the right."""
    image = np.random.default_rng(0).integers(0, 256, (256, 480, 3), dtype=np.uint8)
    tiled = TiledEncoder(encoder, Tiles(1, 2))
    left, right = (encoder.encode([np.ascontiguousarray(part)]) for part in (image[:, :256], image[:, 224:]))
    whole = tiled.encode([image])

    for tap, (one, other) in enumerate(zip(left.taps, right.taps, strict=True)):
        gh, gw = encoder.grids[tap]
        margin = gw // 16
        wanted = torch.cat(
            [one.reshape(gh, gw, -1)[:, : gw - margin], other.reshape(gh, gw, -1)[:, margin:]], dim=1
        ).flatten(0, 1)
        assert tiled.grids[tap] == (gh, 2 * gw - 2 * margin)
        torch.testing.assert_close(whole.taps[tap][0], wanted, atol=1e-5, rtol=0)
    assert tiled.canvas == Canvas((256, 480), 256, 224)


@pytest.mark.parametrize("tiles", [Tiles(2, 2), Tiles(4, 4), Tiles(1, 16)])
def test_the_windows_cover_the_map_to_its_last_pixel_at_any_size(tiles: Tiles) -> None:
    for size in (192, 256, 320):
        encoder = load_encoder(EncoderConfig(precision="fp32", threads=1, image_size=size))
        canvas = TiledEncoder(encoder, tiles).canvas
        maps = torch.zeros(1, *canvas.size_hw)
        maps[0, -1, -1] = 1.0

        windows = canvas.windows(maps)
        assert windows.shape[1] == tiles.rows * tiles.columns
        assert windows[0, -1, -1, -1] == 1.0


def test_a_large_picture_gives_one_row_of_tokens_whatever_its_size(encoder: Encoder) -> None:
    tiled = TiledEncoder(encoder, Tiles(2, 3))
    images = [np.full((401, 733, 3), 90, np.uint8), np.full((90, 120, 3), 90, np.uint8)]
    tokens = tiled.encode(images)

    assert [tap.shape[:2] for tap in tokens.taps] == [(2, gh * gw) for gh, gw in tiled.grids]
    with pytest.raises(ImageError, match=r"a picture of 30×20 px is too small for 2x3 tiles"):
        tiled.encode([np.zeros((20, 30, 3), np.uint8)])


def test_the_score_is_that_of_the_worst_window() -> None:
    canvas = Canvas((4, 6), 4, 2)
    maps = torch.zeros(1, 4, 6)
    maps[0, 0, 5] = 3.0

    assert canvas.windows(maps).shape == (1, 2, 4, 4)
    assert canvas.windows(maps).amax(dim=(2, 3)).tolist() == [[0.0, 3.0]]
    assert Canvas.square(4).windows(torch.ones(2, 4, 4)).shape == (2, 1, 4, 4)


@pytest.mark.slow
def test_a_defect_that_vanishes_in_a_small_picture_is_found_in_tiles_where_it_lies(encoder: Encoder) -> None:
    """3 px of 2,000: the model's input of 256 px shows less than half a pixel of it."""
    references = [brushed(2000, seed) for seed in range(3)]
    good, bad = brushed(2000, 11), pierced(brushed(2000, 12), 1310, 930, 3)
    at_once = Detector.from_references(encoder, references).inspect([good, bad])
    detector = Detector.from_references(encoder, references, tiles=Tiles(2, 2))
    in_tiles = detector.inspect([good, bad])

    assert [one.verdict for one in at_once] == [Verdict.OK, Verdict.OK]
    assert [one.verdict for one in in_tiles] == [Verdict.OK, Verdict.NG]
    worst = in_tiles[1].regions[0]
    assert worst.peak_x_px == pytest.approx(1311, abs=30)
    assert worst.peak_y_px == pytest.approx(931, abs=30)
    assert worst.matches


def test_a_tiled_bank_is_saved_loaded_and_tested_like_any_other(encoder: Encoder, tmp_path: Path) -> None:
    references = [brushed(400, seed) for seed in range(3)]
    rois = [Roi("right", (0.5, 0.1, 0.4, 0.8))]
    detector = Detector.from_references(encoder, references, tiles=Tiles(1, 2), align=Align(max_shift=0.05), rois=rois)
    detector.bank.save(tmp_path / "bank")
    loaded = Detector(encoder, ResidualBank.load(tmp_path / "bank", encoder))
    picture = moved(pierced(brushed(400, 5), 290, 190, 24), (0.02, 0.0), 0.0)

    loaded.self_test(2)
    one, other = detector.inspect([picture])[0], loaded.inspect([picture])[0]
    assert (one.score, one.verdict, one.roi_mask) == (other.score, other.verdict, other.roi_mask) == (one.score, 2, 1)
    assert one.anomaly_map.shape == (256, 480)
    assert loaded.bank.tiles == Tiles(1, 2)
    assert loaded.recalibrated([0.1 * n for n in range(1, 10)]).inspect([picture])[0].score == one.score
    assert loaded.without(0).inspect([picture])[0].score >= one.score - 1e-6


def test_text_branches_work_on_tiles(vit: Encoder) -> None:
    images = models.pictures(4, 80, seed=0)
    detector = Detector.from_references(vit, images[:3], tiles=Tiles(2, 2))
    found = detector.inspect(images)

    assert all(one.parts.branches == ("text", "visual", "residual") for one in found)
    assert all(sum(one.contributions.values()) == pytest.approx(one.score, rel=1e-4) for one in found)
    detector.self_test(3)


def test_batches_of_tiled_pictures_score_as_each_alone(encoder: Encoder) -> None:
    detector = Detector.from_references(encoder, [brushed(400, 1), brushed(400, 2)], tiles=Tiles(2, 1))
    pictures = [brushed(400, seed) for seed in (3, 4, 5)]
    together = [one.score for one in detector.inspect(pictures)]

    assert together == pytest.approx([detector.inspect([picture])[0].score for picture in pictures], rel=1e-4)


@pytest.mark.parametrize(
    ("size_hw", "tiles"),
    [
        ((256, 256), None),
        ((480, 640), Tiles(2, 2)),
        ((2048, 2448), Tiles(4, 4)),
        ((300, 9000), Tiles(1, 16)),
    ],
)
def test_auto_takes_as_many_tiles_as_the_picture_asks_for(size_hw: tuple[int, int], tiles: Tiles | None) -> None:
    image = np.zeros((*size_hw, 3), np.uint8)
    assert chosen(Tiles(), image, 256) == tiles
    assert chosen(Tiles(1, 3), image, 256) == Tiles(1, 3)
    assert chosen(None, image, 256) is None


def test_a_picture_that_fits_the_model_is_seen_at_once_by_auto(resnet: Encoder) -> None:
    detector = Detector.from_references(resnet, models.pictures(2, resnet.image_size, seed=0), tiles=Tiles())
    assert detector.bank.tiles is None


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (0, 2), (3, 6), (17, 1), (-1, -2)])
def test_too_many_or_too_few_tiles_are_refused(rows: int, columns: int) -> None:
    with pytest.raises(ValueError, match="2 to 16 tiles"):
        Tiles(rows, columns)


def test_adapters_are_refused(encoder: Encoder) -> None:
    adapted = load_encoder(EncoderConfig(precision="fp32", threads=1))
    adapted.adapters = object()  # type: ignore[assignment]  # only whether there are any matters
    with pytest.raises(EncoderError, match="adapters are made for one patch grid"):
        TiledEncoder(adapted, Tiles(2, 2))
