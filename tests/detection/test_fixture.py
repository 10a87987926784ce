"""Alignment: where a part lies, when it is not found or too far off, and that only the part's place changes what is said."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from inspector import simulation
from inspector.config import EncoderConfig
from inspector.detection.bank import ResidualBank
from inspector.detection.detector import Detector
from inspector.detection.encoder import Encoder, load_encoder
from inspector.detection.fixture import Fixture
from inspector.detection.lessons import Marked, Subject
from inspector.errors import BankCorruptError, BankError, CalibrationError
from inspector.types import Align, Fit, ImageArray, Placement, Roi, Verdict, align_of

from ..benchmarks.fixture import moved

SMALL = (240, 320)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(EncoderConfig(precision="fp32", threads=1))


@pytest.fixture(scope="module")
def references() -> list[ImageArray]:
    return list(simulation.draw_references("flange", 4))


@pytest.fixture(scope="module")
def others() -> list[ImageArray]:
    """Good parts that are no references."""
    return list(simulation.draw_references("flange", 10))[4:]


@pytest.fixture(scope="module")
def fixture(references: list[ImageArray]) -> Fixture:
    return Fixture.learn(Align(), references, ["a", "b", "c", "d"])[0]


@pytest.fixture(scope="module")
def detector(encoder: Encoder, references: list[ImageArray]) -> Detector:
    return Detector.from_references(encoder, references, align=Align())


def blotted(image: ImageArray, x: float, y: float) -> ImageArray:
    """The same picture with a dark square around a place, 1/12 of its height."""
    height_px, width_px = image.shape[:2]
    half, spoilt = height_px // 24, image.copy()
    at = (round(x * width_px), round(y * height_px))
    spoilt[at[1] - half : at[1] + half, at[0] - half : at[0] + half] = (20, 20, 20)
    return spoilt


@pytest.mark.parametrize(
    ("x", "y", "turn"), [(0.0, 0.0, 0.0), (0.08, -0.05, 6.0), (-0.1, 0.1, -9.0), (0.11, 0.0, 0.0), (0.0, 0.02, 10.0)]
)
def test_a_part_is_found_to_a_fraction_of_a_percent_and_of_a_degree(
    fixture: Fixture, others: list[ImageArray], x: float, y: float, turn: float
) -> None:
    before = fixture.place(others[0])
    found = fixture.place(moved(others[0], (x, y), turn))

    assert found.fit is Fit.FOUND
    assert found.turn_deg == pytest.approx(before.turn_deg + turn, abs=0.2)
    height_px, width_px = others[0].shape[:2]
    middle = np.array([width_px / 2, height_px / 2])
    size = np.array([width_px, height_px])
    lay = middle + np.array([before.shift_x, before.shift_y]) * size
    angle = np.deg2rad(turn)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    expected = (rotation @ (lay - middle) + np.array([x, y]) * size) / size
    assert (found.shift_x, found.shift_y) == pytest.approx(tuple(expected), abs=0.003)


def test_an_aligned_picture_shows_the_part_where_the_first_reference_does(
    fixture: Fixture, references: list[ImageArray]
) -> None:
    picture = moved(references[0], (0.07, -0.06), 8.0)
    aligned = fixture.aligned(picture, fixture.place(picture))

    def difference(image: ImageArray) -> float:
        one, other = (cv2.GaussianBlur(picture, (0, 0), 2)[120:360, 160:480] for picture in (image, references[0]))
        return float(np.abs(one.astype(float) - other).mean())

    assert difference(aligned) < 2.0
    assert difference(picture) > 8.0


def test_the_place_does_not_depend_on_how_many_pixels_show_it(fixture: Fixture, others: list[ImageArray]) -> None:
    picture = moved(others[1], (0.06, 0.03), -4.0)
    large = np.asarray(cv2.resize(picture, (1280, 960), interpolation=cv2.INTER_CUBIC), np.uint8)
    one, other = fixture.place(picture), fixture.place(large)

    assert (one.shift_x, one.shift_y) == pytest.approx((other.shift_x, other.shift_y), abs=0.003)
    assert one.turn_deg == pytest.approx(other.turn_deg, abs=0.2)


def test_neither_light_nor_noise_moves_a_part(fixture: Fixture, others: list[ImageArray]) -> None:
    noise = np.random.default_rng(3).normal(0.0, 6.0, others[0].shape)
    dimmed = np.clip(others[0] * 0.6 + noise, 0, 255).astype(np.uint8)
    one, other = fixture.place(others[0]), fixture.place(dimmed)

    assert other.fit is Fit.FOUND
    assert (one.shift_x, one.shift_y) == pytest.approx((other.shift_x, other.shift_y), abs=0.003)


@pytest.mark.parametrize("what", ["flat", "noise", "another product"])
def test_where_there_is_no_part_none_is_found(fixture: Fixture, references: list[ImageArray], what: str) -> None:
    rng = np.random.default_rng(5)
    pictures = {
        "flat": np.full_like(references[0], 90),
        "noise": np.clip(rng.normal(90.0, 10.0, references[0].shape), 0, 255).astype(np.uint8),
        "another product": simulation.draw_references("blister", 1)[0],
    }
    found = fixture.place(pictures[what])

    assert found.fit is Fit.NOT_FOUND
    assert found.likeness < fixture.limit
    assert f"at least {fixture.limit:.2f} is needed" in found.reason


@pytest.mark.parametrize(("x", "turn", "said"), [(0.19, 0.0, "lies +1"), (0.0, 20.0, "turned by +")])
def test_a_part_too_far_off_is_told_from_none(
    fixture: Fixture, references: list[ImageArray], x: float, turn: float, said: str
) -> None:
    found = fixture.place(moved(references[0], (x, 0.0), turn))

    assert found.fit is Fit.AWAY
    assert said in found.reason
    assert "15 % and 15° are allowed" in found.reason


def test_references_without_anything_to_be_found_by_are_refused() -> None:
    with pytest.raises(CalibrationError, match=r"the reference a shows nothing .*contrast 0\.0"):
        Fixture.learn(Align(), [np.full((*SMALL, 3), 100, np.uint8)] * 2, ["a", "b"])


def test_references_that_have_no_part_in_common_are_refused() -> None:
    rng = np.random.default_rng(2)
    noise = [cv2.resize(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8), SMALL[::-1]) for _ in range(4)]

    with pytest.raises(CalibrationError, match=r"too unlike to be aligned: [abcd] has a likeness of"):
        Fixture.learn(Align(), noise, ["a", "b", "c", "d"])


def test_a_reference_that_lies_too_far_off_is_named(references: list[ImageArray]) -> None:
    pictures = [*references[:3], moved(references[3], (0.19, 0.0), 0.0)]

    with pytest.raises(CalibrationError, match="the reference d cannot be aligned with the first one: the part lies"):
        Fixture.learn(Align(), pictures, ["a", "b", "c", "d"])


def test_a_part_that_looks_the_same_turned_is_taken_to_be_turned_less() -> None:
    gear = list(simulation.draw_references("gear", 3))
    fixture, _ = Fixture.learn(Align(), gear, ["a", "b", "c"])

    assert abs(fixture.place(moved(gear[0], (0.0, 0.0), 17.0)).turn_deg) < 15.0


def test_what_the_camera_does_not_show_is_not_seen(fixture: Fixture) -> None:
    assert fixture.seen(Placement(0.0, 0.0, 0.0, 1.0), (16, 16)).all()
    to_the_right = fixture.seen(Placement(0.125, 0.0, 0.0, 1.0), (16, 16)).reshape(16, 16)

    assert not to_the_right[:, 14:].any()  # where the part's right end would lie, the picture has ended
    assert to_the_right[:, :13].all()


def test_a_map_and_boxes_go_to_the_cameras_picture_and_back(fixture: Fixture) -> None:
    place = Placement(0.1, -0.05, 12.0, 1.0)
    anomaly_map = np.zeros((128, 128), np.float32)
    anomaly_map[62:66, 94:98] = 5.0
    there = fixture.back(anomaly_map, place)
    y, x = np.unravel_index(int(np.argmax(cv2.GaussianBlur(there, (0, 0), 2))), there.shape)

    point = fixture.point_in_template((x + 0.5) / 128, (y + 0.5) / 128, place)
    assert point == pytest.approx((96 / 128, 64 / 128), abs=0.01)
    box = (94 / 128, 62 / 128, 4 / 128, 4 / 128)
    shown = fixture.to_picture(box, place)
    assert (shown[0] + shown[2] / 2, shown[1] + shown[3] / 2) == pytest.approx(
        ((x + 0.5) / 128, (y + 0.5) / 128), abs=0.012
    )
    around = fixture.to_template(shown, place)
    assert around[0] <= box[0] + 1e-6
    assert around[0] + around[2] >= box[0] + box[2] - 1e-6


def test_displaced_good_parts_are_accepted_and_their_defects_are_found_where_they_lie(
    detector: Detector, others: list[ImageArray]
) -> None:
    rng = np.random.default_rng(11)
    places = [
        ((float(x), float(y)), float(turn)) for x, y, turn in rng.uniform([-0.07, -0.07, -8], [0.07, 0.07, 8], (6, 3))
    ]
    good = [moved(image, *place) for image, place in zip(others, places, strict=True)]
    bad = [blotted(image, 0.45, 0.55) for image in good]

    found = detector.inspect([*good, *bad])

    assert [one.verdict for one in found[:6]].count(Verdict.OK) >= 5
    for inspection, image in zip(found[6:], bad, strict=True):
        assert inspection.verdict is Verdict.NG
        worst = inspection.regions[0]
        assert worst.peak_x_px == pytest.approx(0.45 * image.shape[1], abs=0.04 * image.shape[1])
        assert worst.peak_y_px == pytest.approx(0.55 * image.shape[0], abs=0.04 * image.shape[0])
        y, x = np.unravel_index(int(np.argmax(inspection.anomaly_map)), inspection.anomaly_map.shape)
        assert ((x + 0.5) / 256, (y + 0.5) / 256) == pytest.approx((0.45, 0.55), abs=0.04)
        assert abs(worst.matches[0].patch[0] - 0.45) < 0.06
        assert 0.0 <= worst.matches[0].reference_patch[0] <= 1.0


def test_references_that_lie_apart_are_calibrated_as_aligned(encoder: Encoder, references: list[ImageArray]) -> None:
    spread = [moved(image, (0.04 * (number - 1.5), 0.0), 3.0 * number) for number, image in enumerate(references)]
    plain = Detector.from_references(encoder, spread)
    aligned = Detector.from_references(encoder, spread, align=Align())

    assert max(aligned.calibration.scores) < min(plain.calibration.scores)


def test_a_reference_lacks_nothing_where_the_camera_does_not_show_it(
    encoder: Encoder, references: list[ImageArray]
) -> None:
    striped = [image.copy() for image in references]
    for image in striped:
        image[:, round(0.94 * image.shape[1]) : round(0.97 * image.shape[1])] = (200, 40, 40)
    outside = moved(striped[0], (0.06, 0.0), 0.0)  # its stripe
    mutual = Detector.from_references(encoder, [*striped, outside], align=Align()).mutual

    assert mutual[-1].gap < 2.0 * max(one.gap for one in mutual[:-1])


def test_a_part_that_is_not_found_has_no_score_and_costs_the_others_nothing(
    detector: Detector, others: list[ImageArray]
) -> None:
    empty = np.full_like(others[0], 90)
    alone = [detector.inspect([image])[0].score for image in others[:2]]
    first, none, second = detector.inspect([others[0], empty, others[1]])

    assert none.verdict is Verdict.NONE
    assert none.placement is not None
    assert none.placement.fit is Fit.NOT_FOUND
    assert np.isnan(none.score)
    assert np.isnan(none.anomaly_map).all()
    assert [first.score, second.score] == pytest.approx(alone, rel=1e-4)
    assert all(one.verdict is Verdict.NONE for one in detector.inspect([empty, empty]))


def test_regions_of_interest_go_with_the_part(
    encoder: Encoder, references: list[ImageArray], others: list[ImageArray]
) -> None:
    rois = [Roi("left", (0.25, 0.3, 0.2, 0.4)), Roi("right", (0.55, 0.3, 0.2, 0.4))]
    detector = Detector.from_references(encoder, references, rois=rois, align=Align())
    for side, x in enumerate((0.33, 0.66)):
        for shift in (-0.1, 0.0, 0.1):
            found = detector.inspect([moved(blotted(others[0], x, 0.5), (shift, 0.0), 0.0)])[0]
            assert found.verdict is Verdict.NG
            assert found.roi_mask & (1 << side)
            assert found.rois[side] > 1.5 * found.rois[1 - side]


def test_a_region_of_interest_that_the_camera_does_not_show_in_full_is_no_part_that_may_pass(
    encoder: Encoder, references: list[ImageArray], others: list[ImageArray]
) -> None:
    detector = Detector.from_references(encoder, references, rois=[Roi("rim", (0.75, 0.2, 0.2, 0.6))], align=Align())
    found = detector.inspect([moved(others[0], (0.12, 0.0), 0.0), others[0]])

    assert found[0].placement is not None
    assert found[0].placement.fit is Fit.AWAY
    assert "the region 'rim' does not lie in the picture" in found[0].placement.reason
    assert found[1].placement is not None
    assert found[1].placement.fit is Fit.FOUND


def test_a_saved_bank_aligns_as_before_and_passes_its_self_test(
    detector: Detector, encoder: Encoder, others: list[ImageArray], tmp_path: Path
) -> None:
    detector.bank.save(tmp_path / "bank")
    loaded = Detector(encoder, ResidualBank.load(tmp_path / "bank", encoder))
    pictures = [moved(others[0], (0.05, 0.05), 5.0), np.full_like(others[0], 90)]

    loaded.self_test(2)
    for one, other in zip(detector.inspect(pictures), loaded.inspect(pictures), strict=True):
        assert one.placement == other.placement
        assert one.score == other.score or (np.isnan(one.score) and np.isnan(other.score))
    manifest = json.loads((tmp_path / "bank" / "manifest.json").read_text())
    assert manifest["format"] == 5
    assert len(manifest["places"]) == len(detector.bank.references)


def test_a_bank_whose_template_is_gone_is_refused(detector: Detector, encoder: Encoder, tmp_path: Path) -> None:
    fixture = detector.bank.fixture
    assert fixture is not None
    blank = replace(detector.bank, fixture=replace(fixture, template=np.full_like(fixture.template, np.nan)))
    blank.save(tmp_path / "bank")

    with pytest.raises(BankCorruptError, match="not finite"):
        ResidualBank.load(tmp_path / "bank", encoder)


def test_tokens_of_pictures_that_were_not_aligned_are_refused(detector: Detector, others: list[ImageArray]) -> None:
    with pytest.raises(BankError, match="0 places for 1 pictures"):
        detector.judge(detector.encoder.encode(others[:1]), [(480, 640)])


def test_a_single_reference_is_aligned_and_calibrated_by_its_variations(
    encoder: Encoder, references: list[ImageArray], others: list[ImageArray]
) -> None:
    detector = Detector.from_references(encoder, references[:1], align=Align())
    detector.self_test()

    assert detector.inspect([moved(others[0], (0.08, 0.0), 5.0)])[0].placement is not None
    assert len(detector.calibration.scores) == 8


def test_a_mark_is_learned_where_it_lies_on_the_part(
    encoder: Encoder, references: list[ImageArray], others: list[ImageArray]
) -> None:
    """Marked on a displaced part, the same mark is tolerated on a part that lies elsewhere."""
    marked = moved(blotted(others[0], 0.5, 0.5), (0.08, 0.0), 0.0)
    lesson = Marked(1, Subject.TOLERATED, marked, (0.54, 0.45, 0.08, 0.1))
    same_mark = moved(blotted(others[1], 0.5, 0.5), (-0.08, 0.0), 0.0)
    plain = Detector.from_references(encoder, references, align=Align())
    taught = Detector.from_references(encoder, references, align=Align(), taught=[lesson])

    assert taught.inspect([same_mark])[0].score < 0.8 * plain.inspect([same_mark])[0].score


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"max_shift": 0.0}, "max_shift is 0"),
        ({"max_shift": 0.31}, "max_shift is 0.31"),
        ({"max_turn_deg": 181.0}, "max_turn_deg is 181"),
        ({"box": (0.5, 0.5, 0.6, 0.2)}, "must lie in the picture"),
        ({"box": (0.5, 0.5, 0.05, 0.2)}, "at least 0.1"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Align(**wrong)  # type: ignore[arg-type]


def test_a_wish_comes_back_from_its_record() -> None:
    for align in (Align(), Align(0.1, 30.0, (0.2, 0.2, 0.5, 0.6))):
        assert align_of(json.loads(json.dumps(asdict(align)))) == align
    assert align_of(None) is None
