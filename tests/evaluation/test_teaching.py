"""What teaching does, measured on a small set that is drawn here; and the boxes and marks it is taught with."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from inspector import simulation
from inspector.cli import app
from inspector.config import EncoderConfig
from inspector.detection.encoder import Encoder, load_encoder
from inspector.errors import UsageError
from inspector.evaluation.datasets import read_categories
from inspector.evaluation.marking import Pictures, Product, box_of, drawn_marks, drawn_scratch
from inspector.evaluation.teaching import DRAWN, Effect, Rates, Teaching, Trial, bench_teaching, summarise
from inspector.types import Step
from tests.evaluation.sets import part, write

GOOD, BAD, REFERENCES = 22, 9, 3


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(EncoderConfig())


@pytest.fixture(scope="module")
def holes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey parts, some with a hole in another place each, with masks."""
    root = tmp_path_factory.mktemp("data") / "holes"
    for number in range(GOOD):
        write(root / "train" / "good" / f"{number:03d}.png", part(number)[0])
    write(root / "test" / "good" / "000.png", part(100)[0])
    for number in range(BAD):
        image, mask = part(200 + number, hole=True)
        write(root / "test" / "hole" / f"{number:03d}.png", image)
        write(root / "ground_truth" / "hole" / f"{number:03d}_mask.png", mask)
    return root


@pytest.fixture(scope="module")
def product(encoder: Encoder, holes: Path) -> Product:
    return Product.read(encoder, read_categories(holes)[0])


@pytest.fixture(scope="module")
def effects(encoder: Encoder, product: Product) -> list[Effect]:
    return bench_teaching(encoder, product, references=REFERENCES, seeds=[1], advance=lambda _: None)


def test_nobody_plays_two_parts_and_a_seed_draws_the_same_again(encoder: Encoder, product: Product) -> None:
    trial = Trial.draw(encoder, product, REFERENCES, 1)
    everyone = [*trial.references, *trial.seen, *trial.held_out]
    assert sorted(everyone) == list(range(GOOD + 1))
    assert Trial.draw(encoder, product, REFERENCES, 1).seen == trial.seen
    assert Trial.draw(encoder, product, REFERENCES, 2).seen != trial.seen


def test_each_lesson_is_measured_before_and_after_at_both_steps(effects: list[Effect]) -> None:
    found = [(one.teaching, one.kind, one.count, one.step) for one in effects]
    assert len(found) == len(set(found))
    lessons = {(one.teaching, one.kind, one.count) for one in effects}
    assert lessons == {
        *((Teaching.DEFECT, kind, count) for kind in ("hole", DRAWN) for count in (1, 2, 4)),
        *((Teaching.TOLERATED, "drawn spot", count) for count in (1, 2)),
        *((Teaching.REFERENCE, "", count) for count in (1, 2, 4)),
    }
    assert len(found) == 2 * len(lessons)
    for one in effects:
        for rates in (one.before, one.after):
            assert all(0.0 <= value <= 1.0 for value in (rates.false_rejects, rates.escapes, rates.auroc))


def test_what_comes_before_a_lesson_does_not_depend_on_how_many_are_taught(effects: list[Effect]) -> None:
    for kind in ("hole", DRAWN, ""):
        for step in (Step.PROVISIONAL, Step.CONFIRMED):
            assert len({one.before for one in effects if one.kind == kind and one.step is step}) == 1


def test_holes_that_are_taught_pass_no_more_often_and_no_good_part_is_lifted(effects: list[Effect]) -> None:
    taught = [one for one in effects if one.kind == "hole"]
    assert all(one.after.escapes <= one.before.escapes for one in taught)
    assert sum(one.risen for one in taught) == 0


def test_figures_are_summed_up_over_seeds_and_products() -> None:
    def effect(product: str, seed: int, escapes: float) -> Effect:
        before, after = Rates(0.0, 0.5, 0.9), Rates(0.0, escapes, 0.9)
        return Effect(product, seed, Teaching.DEFECT, "hole", 1, Step.CONFIRMED, before, after, 1)

    (row,) = summarise("set", [effect("a", 1, 0.1), effect("b", 1, 0.3), effect("a", 2, 0.2), effect("b", 2, 0.6)])
    assert row.after["escapes"] == (30.0, 10.0)
    assert row.before["escapes"] == (50.0, 0.0)
    assert (row.trials, row.risen) == (4, 4)


def test_too_few_pictures_are_refused(encoder: Encoder, product: Product) -> None:
    with pytest.raises(UsageError, match="too few to teach with 20 references"):
        bench_teaching(encoder, product, references=20, seeds=[1], advance=print)


def test_a_box_is_what_a_mask_spans() -> None:
    mask = np.zeros((10, 20), np.bool_)
    mask[2:5, 4:14] = True
    assert box_of(mask) == (0.2, 0.2, 0.5, 0.3)
    with pytest.raises(UsageError, match="mask is empty"):
        box_of(np.zeros((4, 4), np.bool_))


def test_drawn_marks_lie_in_one_place_and_their_boxes_hold_all_that_changed() -> None:
    images = simulation.draw_references("gear", 3)
    marks = drawn_marks(np.random.default_rng(3), images)
    lefts = [box[0] for _, box in marks]
    assert max(lefts) - min(lefts) < 0.05
    for (image, (left, top, width, height)), plain in zip(
        [*marks, drawn_scratch(np.random.default_rng(4), images[0])], [*images, images[0]], strict=True
    ):
        high, wide = plain.shape[:2]
        rest = np.abs(image.astype(int) - plain).max(axis=2)
        assert rest.max() > 20
        rest[round(top * high) : round((top + height) * high), round(left * wide) : round((left + width) * wide)] = 0
        assert rest.max() <= 4


def test_pictures_score_as_the_detector_scores_them(encoder: Encoder, product: Product) -> None:
    detector = Trial.draw(encoder, product, REFERENCES, 1).build()
    images = product.good.images[:3]
    scores = Pictures.encoded(encoder, images).scores(detector)
    assert scores.tolist() == pytest.approx([one.score for one in detector.inspect(images)], rel=1e-3)


def test_the_command_tells_it_for_people_and_for_programs(holes: Path) -> None:
    words = ["bench", "teaching", str(holes), "--references", "3", "--seeds", "1"]
    told = json.loads(CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False).stdout)
    assert {row["data"] for row in told["rows"]} == {"holes"}
    assert len(told["rows"]) == len(told["trials"]) == 22
    with pytest.raises(UsageError, match="--seeds is 'x'"):
        CliRunner().invoke(app, [*words[:-1], "x"], catch_exceptions=False)
