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
from tests.detection import judge_lessons

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


def marked(subject: Subject, region: Box = (0.25, 0.25, 0.25, 0.25), label: int = 1) -> Marked:
    return Marked(label, subject, np.zeros((64, 64, 3), np.uint8), region)


def test_a_tolerated_mark_is_the_direction_of_the_marked_residuals() -> None:
    residuals, towards = rows(0), fn.normalize(torch.tensor([1.0, 2.0, 0.0, 0.0, 0.0, -1.0]), dim=0)
    inside = region_patches((0.25, 0.25, 0.25, 0.25), GRID, torch.device("cpu"))
    residuals[inside] += towards
    lesson = learn(marked(Subject.TOLERATED), [residuals], [rows(1)[None]], [GRID])
    assert float(lesson.directions[0] @ towards) > 0.98
    assert 0.1 < lesson.floors[0] < 0.6


@pytest.mark.parametrize("subject", Subject)
def test_a_region_that_does_not_differ_teaches_nothing(subject: Subject) -> None:
    with pytest.raises(BankError, match="mark it anew"):
        learn(marked(subject), [torch.zeros(64, 6)], [rows(1)[None]], [GRID])


def test_a_taught_defect_is_what_tells_it_from_normal_patches_not_what_it_shares_with_them() -> None:
    """All residuals vary along the first axis; the defect lies along the first and, a little, along the second."""
    common, own = torch.eye(6)[0], torch.eye(6)[1]
    drawn = torch.randn(3, 64, 1, generator=torch.Generator().manual_seed(5)).abs()
    normal, picture = rows(1) + drawn[:2] * common, rows(2) + drawn[2] * common
    inside = region_patches((0.25, 0.25, 0.25, 0.25), GRID, torch.device("cpu"))
    picture[inside] += common + own
    lesson = learn(marked(Subject.DEFECT), [picture], [normal], [GRID])
    assert float(lesson.directions[0] @ own) > 0.9
    assert not lesson.is_silent
    (quiet,) = gains([lesson], [normal], [GRID])
    assert (quiet == 1.0).all()
    (raised,) = gains([lesson], [picture[None]], [GRID])
    assert raised[0, inside].mean() > 1.8


def test_a_defect_that_normal_patches_look_like_changes_nothing_and_says_so() -> None:
    normal = rows(1)[None].clone()
    normal[0, 5] = 3.0
    picture = rows(2)
    picture[region_patches((0.25, 0.25, 0.25, 0.25), GRID, torch.device("cpu"))] += 0.5
    lesson = learn(marked(Subject.DEFECT), [picture], [normal], [GRID])
    assert lesson.is_silent
    assert (gains([lesson], [picture[None]], [GRID])[0] == 1.0).all()


def test_the_same_lesson_twice_counts_once() -> None:
    picture, normal = rows(2), rows(1)[None]
    picture[region_patches((0.25, 0.25, 0.25, 0.25), GRID, torch.device("cpu"))] += 0.5
    for subject in Subject:
        lesson = learn(marked(subject), [picture], [normal], [GRID])
        once, twice = (gains([lesson] * times, [picture[None]], [GRID])[0] for times in (1, 2))
        assert not (once == 1.0).all()
        assert torch.equal(once, twice)


def test_the_fast_lessons_are_those_of_the_plain_judge() -> None:
    """Two pictures of three taps on two grids; two defects and a tolerated mark."""
    grids, widths = [(8, 6), (8, 6), (4, 3)], (5, 3, 4)
    drawn = np.random.default_rng(11)
    normal = [0.2 * drawn.standard_normal((3, gh * gw, width)) for (gh, gw), width in zip(grids, widths, strict=True)]
    pictures = [0.2 * drawn.standard_normal((3, gh * gw, width)) for (gh, gw), width in zip(grids, widths, strict=True)]
    regions = [(0.2, 0.3, 0.4, 0.3), (0.5, 0.1, 0.3, 0.4), (0.1, 0.5, 0.3, 0.3)]
    subjects = [Subject.DEFECT, Subject.DEFECT, Subject.TOLERATED]
    for number, region in enumerate(regions):
        for rows_, grid in zip(pictures, grids, strict=True):
            rows_[number][judge_lessons.covered(region, grid)] += 0.8 * drawn.standard_normal(rows_.shape[-1])
    tensors = [torch.from_numpy(rows_).float() for rows_ in pictures]
    taught = [
        learn(
            marked(subject, region, number),
            [rows_[number] for rows_ in tensors],
            [torch.from_numpy(rows_).float() for rows_ in normal],
            grids,
        )
        for number, (subject, region) in enumerate(zip(subjects, regions, strict=True))
    ]
    fast = gains(taught, tensors, grids)
    judges = [
        judge_lessons.learned(subject is Subject.DEFECT, region, [rows_[number] for rows_ in pictures], normal, grids)
        for number, (subject, region) in enumerate(zip(subjects, regions, strict=True))
    ]
    assert any((tap > 1.5).any() for tap in fast)
    assert any((tap < 0.5).any() for tap in fast)
    for picture in range(3):
        slow = judge_lessons.factors(judges, [rows_[picture] for rows_ in pictures], grids)
        for tap, values in zip(fast, slow, strict=True):
            np.testing.assert_allclose(tap[picture].numpy(), values, atol=2e-5)


def lesson(subject: Subject, region: Box = (0.25, 0.25, 0.25, 0.25)) -> Lesson:
    fulls = (0.8,) if subject is Subject.DEFECT else ()
    return Lesson(1, subject, region, (torch.tensor([1.0, 0.0, 0.0]),), (0.2,), fulls)


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
    lesson_of = Marked(7, Subject.DEFECT, with_spot(teacher[0], (300, 200)), region)
    plain = Detector.from_references(encoder, references)
    taught = Detector.from_references(encoder, references, taught=[lesson_of])
    spotted = [with_spot(image, (260, 260)) for image in others]
    before, after = ([found.score for found in detector.inspect(spotted)] for detector in (plain, taught))
    assert np.median(np.array(after) / np.array(before)) > 1.1
    good_before, good_after = ([found.score for found in detector.inspect(others)] for detector in (plain, taught))
    assert np.median(np.abs(np.array(good_after) / np.array(good_before) - 1.0)) < 0.05


def test_a_tolerated_mark_scores_lower_in_its_place_and_not_elsewhere(encoder: Encoder) -> None:
    references = draw_references("flange", 6)
    teacher, others = draw_references("flange", 6, seed=3)[0], draw_references("flange", 6, seed=4)
    region = box_of(teacher, (300, 200))
    lesson_of = Marked(8, Subject.TOLERATED, with_spot(teacher, (300, 200)), region)
    plain = Detector.from_references(encoder, references)
    taught = Detector.from_references(encoder, references, taught=[lesson_of])
    for at, lowest, highest in (((300, 200), 0.0, 0.9), ((200, 330), 0.98, 1.02)):
        spotted = [with_spot(image, at) for image in others]
        before, after = ([found.score for found in detector.inspect(spotted)] for detector in (plain, taught))
        assert lowest <= np.median(np.array(after) / np.array(before)) <= highest


def test_lessons_are_a_part_of_the_bank(encoder: Encoder, tmp_path: Path) -> None:
    references = draw_references("gear", 3)
    lesson_of = Marked(9, Subject.DEFECT, with_spot(references[0], (320, 240)), box_of(references[0], (320, 240)))
    built = Detector.from_references(encoder, references, taught=[lesson_of])
    built.bank.save(tmp_path / "bank")
    loaded = Detector(encoder, ResidualBank.load(tmp_path / "bank", encoder))
    picture = with_spot(draw_references("gear", 1, seed=5)[0], (320, 240))
    assert loaded.inspect([picture])[0].score == built.inspect([picture])[0].score
    assert [(one.label, one.subject) for one in loaded.bank.lessons] == [(9, Subject.DEFECT)]
