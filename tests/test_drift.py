"""Drift is told by its cause, and a good line without change is left alone."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from inspector import simulation
from inspector.drift import (
    EVERY,
    MIN_PARTS,
    RUN_IN,
    WRONG_IN_A_ROW,
    Drift,
    DriftMonitor,
    Looks,
    Measures,
    Sight,
    shift,
    thumbnail,
)
from inspector.types import ImageArray

USUAL = Measures(level=110.0, contrast=40.0, detail=300.0, clipped=0.0, cast=5.0)
LOOKS = Looks((USUAL, replace(USUAL, level=114.0)), (0.004, 0.004))
THRESHOLD = 2.0
BLANK = np.zeros((128, 128), np.float32)


def sights(seed: int, count: int, **changes: float) -> Iterator[Sight]:
    """Parts of a line as it usually is; `score` and the measures may be moved."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        score = rng.normal(1.0, 0.15) + changes.get("score", 0.0)
        measures = Measures(
            level=USUAL.level * changes.get("level", 1.0) + rng.normal(0, 1.5),
            contrast=USUAL.contrast * changes.get("contrast", 1.0) + rng.normal(0, 0.8),
            detail=USUAL.detail * changes.get("detail", 1.0) + rng.normal(0, 12),
            clipped=0.0,
            cast=USUAL.cast + changes.get("cast", 0.0) + rng.normal(0, 0.5),
        )
        shifted = (rng.normal(changes.get("x", 0.0), 0.004), rng.normal(0.0, 0.004))
        yield Sight(score, score < THRESHOLD, changes.get("novelty", 0.005), measures, shifted)


def monitor(scores: int = 0) -> DriftMonitor:
    rng = np.random.default_rng(99)
    made = DriftMonitor(rng.normal(1.0, 0.15, scores), THRESHOLD, LOOKS, BLANK)
    for sight in sights(1, RUN_IN):
        made.add(sight)
    return made


def watch(made: DriftMonitor, parts: Iterator[Sight]) -> list[Drift]:
    return [drift for sight in parts if (drift := made.add(sight)) is not None]


def kinds(found: list[Drift]) -> set[str]:
    return {cause.kind for drift in found for cause in drift.causes}


@pytest.mark.parametrize("seed", range(8))
def test_a_line_that_stays_as_it_is_raises_no_alarm(seed: int) -> None:
    assert kinds(watch(monitor(), sights(seed + 10, 1000))) == set()


@pytest.mark.parametrize("seed", range(4))
def test_nor_does_it_with_confirmed_scores(seed: int) -> None:
    found = watch(monitor(200), sights(seed + 50, 1000))
    assert kinds(found) == set()
    assert found[-1].p_mean == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"level": 0.85}, "light", "mean grey level"),
        ({"contrast": 0.8}, "light", "contrast"),
        ({"cast": 12.0}, "light", "red minus blue"),
        ({"detail": 0.6}, "focus", "lost detail"),
        ({"x": 0.06}, "camera", "+6.0 % of the width"),
        ({"score": 0.2}, "score", "false rejects will rise"),
        ({"score": -0.2}, "score", "defects may score too low"),
    ],
)
def test_each_change_is_told_by_its_cause(changes: dict[str, float], kind: str, words: str) -> None:
    found = watch(monitor(), sights(3, 200, **changes))
    assert kinds(found) == {kind}
    assert words in found[-1].causes[0].text


def test_it_is_told_before_parts_are_rejected() -> None:
    parts = list(sights(4, 200, score=0.3))
    assert all(sight.accepted for sight in parts)
    assert kinds(watch(monitor(), iter(parts))) == {"score"}


def test_a_burst_of_defects_is_no_drift() -> None:
    bad = [replace(sight, score=5.0, accepted=False) for sight in sights(6, 60)]
    good = list(sights(7, 200))
    mixed = [sight for pair in zip(bad, good, strict=False) for sight in pair] + good[60:]
    assert kinds(watch(monitor(), iter(mixed))) == set()


def test_another_product_is_told_within_three_parts() -> None:
    made = monitor()
    watch(made, sights(8, 40))
    parts = list(sights(9, WRONG_IN_A_ROW, novelty=0.2))
    (found,) = watch(made, iter(parts))
    assert found.causes[0].kind == "product"


def test_a_single_odd_part_is_not_another_product() -> None:
    made = monitor()
    (odd,) = sights(8, 1, novelty=0.2)
    assert kinds(watch(made, iter([odd, *sights(9, 60)]))) == set()


def test_mixed_parts_are_told() -> None:
    others = list(sights(11, 100, novelty=0.2))
    mine = list(sights(12, 100))
    mixed = [sight for pair in zip(mine, others, strict=True) for sight in pair]
    assert "mix" in kinds(watch(monitor(), iter(mixed)))


def test_a_line_that_never_looked_like_its_references_is_told() -> None:
    made = DriftMonitor((), THRESHOLD, LOOKS, BLANK)
    found = watch(made, sights(13, 200, level=0.6))
    assert kinds(found) == {"light"}
    assert "teach it with pictures from here" in found[-1].causes[0].text


def test_nothing_is_said_before_enough_parts_were_seen() -> None:
    made = DriftMonitor((), THRESHOLD, LOOKS, BLANK)
    found = watch(made, sights(14, RUN_IN + MIN_PARTS - 1, level=0.5))
    assert kinds(found) == set()
    assert found[0].p_mean is None
    assert len(found) == (RUN_IN + MIN_PARTS - 1) // EVERY


def test_an_alarm_ends_when_the_line_is_as_it_was() -> None:
    made = monitor()
    assert kinds(watch(made, sights(15, 150, level=0.85))) == {"light"}
    assert watch(made, sights(16, 200))[-1].causes == ()


def test_the_run_in_comes_back_as_it_was_kept() -> None:
    kept = monitor().run_in
    assert kept is not None
    again = [Sight.from_record(sight.record()) for sight in kept]
    assert tuple(again) == kept
    made = DriftMonitor((), THRESHOLD, LOOKS, BLANK, again)
    assert kinds(watch(made, sights(17, 150, x=0.06))) == {"camera"}


@pytest.fixture(scope="module")
def picture() -> ImageArray:
    return simulation.draw_references("flange", 1)[0]


def test_a_shifted_picture_is_measured_as_shifted(picture: ImageArray) -> None:
    moved = np.roll(picture, (12, -32), axis=(0, 1))
    found = shift(thumbnail(moved), thumbnail(picture))
    assert found == pytest.approx((-32 / 640, 12 / 480), abs=0.006)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda image: image // 12, "dark"),
        (lambda image: np.full_like(image, 255), "saturated"),
        (lambda image: np.full_like(image, image.mean().astype(np.uint8)), "blurred"),
        (lambda image: image, ""),
        (lambda image: (image * 0.7).astype(np.uint8), ""),
    ],
)
def test_pictures_in_which_nothing_can_be_seen_are_refused_and_mild_ones_are_not(
    picture: ImageArray, spoil: object, said: str
) -> None:
    looks = Looks((Measures.of(picture),), ())
    assert callable(spoil)
    assert looks.refusal(Measures.of(spoil(picture))) == said


def test_dark_products_are_not_refused_for_being_dark() -> None:
    dark = simulation.draw_references("gear", 1)[0] // 20
    assert Looks((Measures.of(dark),), ()).refusal(Measures.of(dark)) == ""


CAMERA = (1280, 960)


@pytest.mark.parametrize(
    ("picture_px", "references_px"),
    [
        (CAMERA, ()),  # a bank of before sizes were kept
        (CAMERA, (CAMERA,)),
        (CAMERA, ((1024, 768),)),  # a kept picture: made smaller
        ((4096, 3072), ((1024, 768),)),
        (CAMERA, ((1600, 1200),)),
        (CAMERA, ((1920, 1080), CAMERA)),  # several cameras have taught it
        ((1270, 970), (CAMERA,)),  # a crop that was moved a little
        ((68, 4096), ((17, 1024),)),
    ],
)
def test_pictures_of_the_references_shape_and_not_much_smaller_may_be_scored(
    picture_px: tuple[int, int], references_px: tuple[tuple[int, int], ...]
) -> None:
    assert Looks((USUAL,) * len(references_px), (), references_px).misfit(*picture_px) == ""


@pytest.mark.parametrize(
    ("picture_px", "references_px"),
    [
        ((640, 480), (CAMERA,)),  # a USB camera after a power cut
        ((1280, 720), ((1920, 1080),)),
        ((1280, 720), (CAMERA,)),
        ((1280, 1024), (CAMERA,)),
        ((960, 1280), (CAMERA,)),  # turned since
        ((2560, 1440), (CAMERA, CAMERA)),
    ],
)
def test_pictures_of_another_shape_or_with_far_fewer_pixels_are_a_misfit_that_names_both_sizes(
    picture_px: tuple[int, int], references_px: tuple[tuple[int, int], ...]
) -> None:
    said = Looks((USUAL,) * len(references_px), (), references_px).misfit(*picture_px)
    taught = references_px[0]
    assert f"{picture_px[0]}x{picture_px[1]} px, the references {taught[0]}x{taught[1]} px" in said
