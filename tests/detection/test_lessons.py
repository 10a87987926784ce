"""Lessons: a taught defect is seen better, a tolerated mark is left alone in its place, and normal patches stay quiet."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as fn

from inspector.config import EncoderConfig
from inspector.detection.bank import ResidualBank
from inspector.detection.detector import Detector
from inspector.detection.encoder import Encoder, load_encoder
from inspector.detection.lessons import Lesson, Marked, Subject, gains, learn, region_patches
from inspector.errors import BankError
from inspector.simulation import draw_references
from inspector.types import Box, ImageArray

GRID = (8, 8)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(EncoderConfig())


def with_spot(image: ImageArray, at: tuple[int, int], radius: int = 26) -> ImageArray:
    """A part with a bluish spot, and its picture's own region."""
    spotted = image.copy()
    cv2.circle(spotted, at, radius, (70, 90, 140), -1, cv2.LINE_AA)
    return spotted


def box_of(image: ImageArray, at: tuple[int, int], radius: int = 26) -> Box:
    height, width = image.shape[:2]
    return (at[0] - radius) / width, (at[1] - radius) / height, 2 * radius / width, 2 * radius / height


def rows(seed: int) -> torch.Tensor:
    return 0.1 * torch.randn(64, 6, generator=torch.Generator().manual_seed(seed))


def test_a_region_covers_its_patches_and_a_tiny_one_the_patch_that_it_lies_in() -> None:
    covered = region_patches((0.25, 0.5, 0.25, 0.25), GRID, torch.device("cpu")).reshape(GRID)
    assert covered.sum() == 4
    assert covered[4:6, 2:4].all()
    tiny = region_patches((0.51, 0.26, 0.001, 0.001), GRID, torch.device("cpu")).reshape(GRID)
    assert tiny.nonzero().tolist() == [[2, 4]]


def test_a_lesson_is_the_direction_of_the_marked_residuals() -> None:
    residuals, towards = rows(0), fn.normalize(torch.tensor([1.0, 2.0, 0.0, 0.0, 0.0, -1.0]), dim=0)
    inside = region_patches((0.25, 0.25, 0.25, 0.25), GRID, torch.device("cpu"))
    residuals[inside] += towards
    lesson = learn(1, Subject.DEFECT, (0.25, 0.25, 0.25, 0.25), [residuals], [GRID])
    assert float(lesson.directions[0] @ towards) > 0.98
    assert 0.1 < lesson.floors[0] < 0.6
    with pytest.raises(BankError, match="mark it anew"):
        learn(1, Subject.DEFECT, (0.25, 0.25, 0.25, 0.25), [torch.zeros(64, 6)], [GRID])


def lesson(subject: Subject, region: Box = (0.25, 0.25, 0.25, 0.25)) -> Lesson:
    return Lesson(1, subject, region, (torch.tensor([1.0, 0.0, 0.0]),), (0.2,))


def test_gains_change_what_is_alike_and_long_enough_and_nothing_else() -> None:
    residuals = torch.zeros(1, 64, 3)
    alike, opposite, short, other = 18, 19, 26, 27
    residuals[0, alike], residuals[0, opposite] = torch.tensor([0.9, 0, 0]), torch.tensor([-0.9, 0, 0])
    residuals[0, short], residuals[0, other] = torch.tensor([0.1, 0, 0]), torch.tensor([0, 0.9, 0])
    (raised,) = gains([lesson(Subject.DEFECT)], [residuals], [GRID])
    assert raised[0, alike] == pytest.approx(2.0)
    assert (raised[0, [opposite, short, other]] == 1.0).all()
    (lowered,) = gains([lesson(Subject.TOLERATED)], [residuals], [GRID])
    assert lowered[0, alike] == pytest.approx(0.0, abs=1e-6)
    assert (lowered[0, [opposite, short, other]] == 1.0).all()


def test_a_mark_is_tolerated_in_its_region_only() -> None:
    residuals = torch.zeros(1, 64, 3)
    residuals[0, :] = torch.tensor([0.9, 0, 0])
    (lowered,) = gains([lesson(Subject.TOLERATED)], [residuals], [GRID])
    plane = lowered.reshape(GRID)
    assert plane[2:4, 2:4].max() < 1e-6
    assert (plane[6:] == 1.0).all()


def test_a_taught_defect_scores_higher_elsewhere_and_good_parts_as_before(encoder: Encoder) -> None:
    references = draw_references("flange", 6)
    teacher, others = draw_references("flange", 6, seed=3)[:1], draw_references("flange", 8, seed=4)
    region = box_of(teacher[0], (300, 200))
    marked = Marked(7, Subject.DEFECT, with_spot(teacher[0], (300, 200)), region)
    plain = Detector.from_references(encoder, references)
    taught = Detector.from_references(encoder, references, taught=[marked])
    spotted = [with_spot(image, (260, 260)) for image in others]
    before, after = ([found.score for found in detector.inspect(spotted)] for detector in (plain, taught))
    assert np.median(np.array(after) / np.array(before)) > 1.1
    good_before, good_after = ([found.score for found in detector.inspect(others)] for detector in (plain, taught))
    assert np.median(np.abs(np.array(good_after) / np.array(good_before) - 1.0)) < 0.05


def test_a_tolerated_mark_scores_lower_in_its_place_and_not_elsewhere(encoder: Encoder) -> None:
    references = draw_references("flange", 6)
    teacher, others = draw_references("flange", 6, seed=3)[0], draw_references("flange", 6, seed=4)
    region = box_of(teacher, (300, 200))
    marked = Marked(8, Subject.TOLERATED, with_spot(teacher, (300, 200)), region)
    plain = Detector.from_references(encoder, references)
    taught = Detector.from_references(encoder, references, taught=[marked])
    for at, lowest, highest in (((300, 200), 0.0, 0.9), ((200, 330), 0.98, 1.02)):
        spotted = [with_spot(image, at) for image in others]
        before, after = ([found.score for found in detector.inspect(spotted)] for detector in (plain, taught))
        assert lowest <= np.median(np.array(after) / np.array(before)) <= highest


def test_lessons_are_a_part_of_the_bank(encoder: Encoder, tmp_path: Path) -> None:
    references = draw_references("gear", 3)
    marked = Marked(9, Subject.DEFECT, with_spot(references[0], (320, 240)), box_of(references[0], (320, 240)))
    built = Detector.from_references(encoder, references, taught=[marked])
    built.bank.save(tmp_path / "bank")
    loaded = Detector(encoder, ResidualBank.load(tmp_path / "bank", encoder))
    picture = with_spot(draw_references("gear", 1, seed=5)[0], (320, 240))
    assert loaded.inspect([picture])[0].score == built.inspect([picture])[0].score
    assert [(one.label, one.subject) for one in loaded.bank.lessons] == [(9, Subject.DEFECT)]
