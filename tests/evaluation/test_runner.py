"""An evaluation gives the numbers of the line, by seed the same, and says what it left out."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from inspector.detection.detector import Detector
from inspector.detection.encoder import Encoder
from inspector.errors import UsageError
from inspector.evaluation import results
from inspector.evaluation.datasets import Category, read_categories
from inspector.evaluation.report import keep_cases, write_report
from inspector.evaluation.runner import Evaluated, Plan, chosen_references, evaluate_category, steps
from inspector.images import read_image
from tests.detection.conftest import resnet, resnet_files
from tests.evaluation import sets

__all__ = ["resnet", "resnet_files"]
SETTINGS: dict[str, Any] = {
    "dataset": "set", "layout": "auto", "shots": [1, 2], "seeds": [0, 1], "encoder": "small", "precision": "fp32",
    "fingerprint": "f" * 64,
}  # fmt: skip


@pytest.fixture
def category(tmp_path: Path) -> Category:
    return read_categories(sets.mvtec(tmp_path / "part", kinds=("hole", "other")))[0]


def run(encoder: Encoder, category: Category) -> Evaluated:
    return evaluate_category(encoder, category, Plan([1, 2], [0, 1]), lambda _steps, _what: None)


def test_the_scores_are_those_of_the_detector(resnet: Encoder, category: Category) -> None:
    found = run(resnet, category).results
    assert [(r["shots"], r["seed"]) for r in found] == [(1, 0), (2, 0), (1, 1), (2, 1)]
    for result in found:
        paths = chosen_references(category, result["shots"], result["seed"])
        detector = Detector.from_references(resnet, [read_image(path) for path in paths])
        assert result["threshold"] == detector.threshold
        assert result["references"] == [path.name for path in paths]
        for picture, told in zip(category.test, result["pictures"], strict=True):
            (wanted,) = detector.inspect([read_image(picture.path)])
            assert told["score"] == pytest.approx(wanted.score, rel=1e-5)


def test_a_hole_is_found_and_counted_for_pictures_and_pixels(resnet: Encoder, category: Category) -> None:
    for result in run(resnet, category).results:
        assert result["image_auroc"] == 1.0
        assert result["tnr_at_zero_escapes"] == 1.0
        assert result["pixel_auroc"] > 0.9
        assert 0.5 < result["aupro"] <= 1.0
        assert (result["good"], result["bad"]) == (3, 4)
        good = [entry for entry in result["pictures"] if entry["kind"] == "good"]
        assert result["false_reject_rate"] == pytest.approx(sum(e["verdict"] != "OK" for e in good) / 3)


def test_the_same_seed_gives_the_same_result_and_more_shots_keep_the_fewer(resnet: Encoder, category: Category) -> None:
    assert run(resnet, category).results == run(resnet, category).results
    assert chosen_references(category, 4, 1)[:2] == chosen_references(category, 2, 1)
    with pytest.raises(UsageError, match=r"has 4 good pictures .* asks for 9"):
        chosen_references(category, 9, 0)


def test_all_steps_are_told(resnet: Encoder, category: Category) -> None:
    told: list[int] = []
    evaluate_category(resnet, category, Plan([1, 2], [0]), lambda step, _what: told.append(step))
    assert sum(told) == steps(category, Plan([1, 2], [0]))


def test_a_picture_that_cannot_be_read_is_none_and_is_named(resnet: Encoder, category: Category) -> None:
    category.test[0].path.write_text("no picture")
    (result, *_) = run(resnet, category).results
    assert result["unscored"] == ["good/000.png"]
    assert result["pictures"][0] == {"picture": "good/000.png", "kind": "good", "score": None, "verdict": "NONE"}
    assert result["false_reject_rate"] >= 1 / 3
    assert result["image_auroc"] == 1.0


def test_without_masks_pixels_have_no_measure_and_pictures_have(resnet: Encoder, tmp_path: Path) -> None:
    (category,) = read_categories(sets.mvtec(tmp_path / "part", masks=False))
    (result, *_) = run(resnet, category).results
    assert [result[name] for name in ("pixel_auroc", "pixel_ap", "pixel_f1max", "aupro")] == [None] * 4
    assert result["kinds_without_masks"] == ["hole"]
    assert result["image_auroc"] == 1.0


@pytest.mark.parametrize("left", ["good", "hole"])
def test_one_side_alone_gives_null_and_no_traceback(resnet: Encoder, tmp_path: Path, left: str) -> None:
    place = sets.mvtec(tmp_path / "part")
    shutil.rmtree(place / "test" / ("hole" if left == "good" else "good"))
    (result, *_) = run(resnet, read_categories(place)[0]).results
    assert result["image_auroc"] is None
    assert (result["escape_rate"] is None) == (left == "good")
    assert (result["false_reject_rate"] is None) == (left == "hole")
    json.dumps(result, allow_nan=False)


def test_references_of_a_plain_folder_are_not_tested(resnet: Encoder, tmp_path: Path) -> None:
    for number in range(4):
        sets.write(tmp_path / "good" / f"{number}.png", sets.part(number)[0])
    sets.write(tmp_path / "bad" / "9.png", sets.part(9, hole=True)[0])
    (category,) = read_categories(tmp_path)
    for result in run(resnet, category).results:
        tested = {entry["picture"] for entry in result["pictures"]}
        assert not tested & {f"good/{name}" for name in result["references"]}
        assert result["good"] == 4 - result["shots"]


def test_the_summary_is_over_seeds_and_then_over_categories() -> None:
    rows = [
        {"category": name, "shots": 1, "seed": seed} | dict.fromkeys(results.METRICS, value)
        for name, seed, value in (("a", 0, 0.5), ("a", 1, 0.7), ("b", 0, 0.9), ("b", 1, None))
    ]
    by_name = {row["category"]: row for row in results.summarise(rows)}
    assert by_name["a"]["aupro"] == {"mean": pytest.approx(0.6), "std": pytest.approx(0.02**0.5)}
    assert by_name["b"]["aupro"] == {"mean": 0.9, "std": 0.0}
    assert by_name["mean"]["aupro"]["mean"] == pytest.approx(0.7)
    assert by_name["mean"]["seeds"] == 2


def test_a_results_file_is_gone_on_from_only_with_the_same_settings(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    assert results.load(path, SETTINGS, restart=False) == []
    row = {"category": "a", "shots": 1, "seed": 0} | dict.fromkeys(results.METRICS, 0.5)
    results.save(path, SETTINGS, [row])
    assert results.load(path, SETTINGS, restart=False) == [row]
    assert results.load(path, SETTINGS, restart=True) == []
    with pytest.raises(UsageError, match="made with another fingerprint, seeds; choose"):
        results.load(path, SETTINGS | {"fingerprint": "0", "seeds": [5]}, restart=False)
    path.write_text("{}")
    with pytest.raises(UsageError, match="not a results file"):
        results.load(path, SETTINGS, restart=False)
    with pytest.raises(UsageError, match="cannot be written"):
        results.save(tmp_path / "missing" / "r.json", SETTINGS, [])


def test_a_changed_data_set_is_another_one(tmp_path: Path) -> None:
    place = sets.mvtec(tmp_path / "part")
    before = results.file_list_hash(read_categories(place))
    assert results.file_list_hash(read_categories(place)) == before
    sets.write(place / "test" / "hole" / "000.png", sets.part(5)[0][:32])
    assert results.file_list_hash(read_categories(place)) != before


def test_the_report_is_one_file_with_curves_and_worst_cases(
    resnet: Encoder, category: Category, tmp_path: Path
) -> None:
    evaluated = run(resnet, category)
    keep_cases(tmp_path / "report", category.name, evaluated)
    evaluated.results[0]["unscored"] = ["good/<script>.png"]
    html = write_report(tmp_path / "report", SETTINGS, evaluated.results).read_text()

    assert html.count("<polyline") == 2
    assert html.count("data:image/jpeg;base64,") == 2 * 7  # three good and four bad ones for each number of references
    assert "<script>" not in html
    assert "http" not in html
    assert "1 reference, seed 0: worst cases" in html
