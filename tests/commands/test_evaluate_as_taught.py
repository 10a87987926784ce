"""`inspector evaluate --align` and `--tiles` give the numbers of a product that was taught with these options."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner, Result

from inspector import simulation
from inspector.cli import app
from inspector.config import EncoderConfig, load_config
from inspector.contract.codes import ErrorCode
from inspector.detection.detector import Detector
from inspector.detection.encoder import load_encoder
from inspector.drift import Measures
from inspector.errors import CalibrationError, UsageError
from inspector.images import read_image
from inspector.recipes import load_detector
from inspector.refusals import refusal
from inspector.store import products
from inspector.store.engine import Store
from inspector.types import ImageArray
from tests.benchmarks.fixture import moved
from tests.evaluation.sets import write

ENCODER = {"precision": "fp32", "threads": 1}
ALIGN = ("--align", "--max-shift", "0.1", "--max-turn", "10")
TILES = ("--tiles", "2x1")
NEAR, FAR = (0.05, -0.04), (0.18, 0.0)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments], terminal_width=200)


def belt(like: ImageArray) -> ImageArray:
    """An empty belt that is in focus: its structure can be seen."""
    return np.random.default_rng(0).integers(60, 120, like.shape, np.uint8)


@pytest.fixture(scope="module")
def flange(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures to draw from; to test two good parts near their place, one too far off, an empty belt, and a defect."""
    root = tmp_path_factory.mktemp("sets") / "flange"
    drawn = simulation.draw_references("flange", 5)
    for number, image in enumerate(drawn[:2]):
        write(root / "train" / "good" / f"{number}.png", image)
    good = [moved(drawn[2], NEAR, 3.0), drawn[3], moved(drawn[4], FAR, 0.0), belt(drawn[0])]
    for name, image in zip(("near", "still", "far", "belt"), good, strict=True):
        write(root / "test" / "good" / f"{name}.png", image)
    defect, mask = next(
        (image, mask)
        for image, mask in (simulation.draw_part("flange", 0, n, 1.0) for n in range(9))
        if mask is not None
    )
    write(root / "test" / "bad" / "0.png", moved(defect, NEAR, -3.0))
    write(
        root / "ground_truth" / "bad" / "0.png", moved(np.stack([mask.astype(np.uint8) * 255] * 3, axis=2), NEAR, -3.0)
    )
    return root


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("INSPECTOR_DATA_DIR", raising=False)
    path = tmp_path / "line.yaml"
    path.write_text(yaml.safe_dump({"data_dir": str(tmp_path / "data"), "encoder": ENCODER}))
    return path


def evaluated(place: Path, config: Path, *options: object) -> dict[str, Any]:
    """The only result of two references by one seed, with what was printed."""
    out = config.with_name("results.json")
    given = ("evaluate", place, "--shots", "2", "--seeds", "0", "--config", config, "--json", out, "--restart")
    done = run(*given, *options)
    assert done.exit_code == 0, done.output
    (result,) = json.loads(out.read_text())["results"]
    return result | {"printed": " ".join(done.stdout.split())}


def taught(place: Path, config: Path, references: list[str], *options: object) -> Detector:
    """The detector of a product that `inspector product add` has built from these references, in their order."""
    folder = config.with_name("references")
    folder.mkdir()
    for number, name in enumerate(references):
        shutil.copy(place / "train" / "good" / name, folder / f"{number}.png")
    done = run("product", "add", "flange", "-r", folder, "--config", config, *options)
    assert done.exit_code == 0, done.output
    settings = load_config(config)
    store = Store(settings.database_url)
    with store.read() as session:
        recipe = products.find_recipe(session, products.find_product(session, "flange").rcp)
        assert recipe is not None
        detector = load_detector(settings.data_path, recipe, load_encoder(EncoderConfig.model_validate(ENCODER)))
    store.close()
    return detector


@pytest.mark.slow
@pytest.mark.parametrize("options", [ALIGN, TILES, (*ALIGN, *TILES)], ids=["aligned", "in tiles", "both"])
def test_each_score_is_that_of_the_product_that_was_taught_so(
    flange: Path, config: Path, options: tuple[str, ...]
) -> None:
    result = evaluated(flange, config, *options)
    product = taught(flange, config, result["references"], *options)

    assert (product.bank.fixture is not None, product.bank.tiles is not None) == (
        "--align" in options,
        "--tiles" in options,
    )
    assert result["threshold"] == product.threshold
    for told in result["pictures"]:
        image = read_image(flange / "test" / told["picture"])
        (wanted,) = product.inspect([image])
        err, reason = refusal(Measures.of(image), wanted.placement, product.looks)
        assert told["verdict"] == ("NONE" if err else wanted.verdict.name)
        assert told["score"] == (pytest.approx(wanted.score, rel=1e-5) if np.isfinite(wanted.score) else None)
        assert (told.get("err", 0), told.get("reason", "")) == (err, reason)
    assert result["pixel_auroc"] > 0.5


def test_parts_that_are_not_found_are_rejected_and_told(flange: Path, config: Path, tmp_path: Path) -> None:
    result = evaluated(flange, config, *ALIGN, "--report", tmp_path / "report")

    lost = {entry["picture"]: entry for entry in result["refused"]}
    assert {picture: entry["err"] for picture, entry in lost.items()} == {"good/far.png": 303, "good/belt.png": 301}
    assert lost["good/far.png"]["reason"].endswith("; 10 % and 10° are allowed")
    assert result["unscored"] == []
    verdicts = {entry["picture"]: entry["verdict"] for entry in result["pictures"]}
    assert (verdicts["good/far.png"], verdicts["good/belt.png"]) == ("NONE", "NONE")
    assert result["false_reject_rate"] >= 2 / 4
    assert result["image_auroc"] == 0.5, (
        "the defect ranks above the two good parts that were found, below the two that were not"
    )
    assert result["tnr_at_zero_escapes"] == 0.5
    assert "refused, as on the line: 2 of 5 pictures (301: 1, 303: 1); they count as rejected" in result["printed"]
    html = (tmp_path / "report" / "report.html").read_text()
    assert "parts are aligned: 10 % off, 10° at most" in html
    assert "<td>2 of 4</td><td>0 of 1</td>" in html
    assert f"good/far.png: 303, {lost['good/far.png']['reason']}" in html


def test_a_picture_in_which_nothing_can_be_seen_is_refused_as_on_the_line(
    flange: Path, config: Path, tmp_path: Path
) -> None:
    place = tmp_path / "flange"
    shutil.copytree(flange, place)
    write(place / "test" / "good" / "dark.png", np.full((120, 160, 3), 2, np.uint8))
    result = evaluated(place, config)
    (dark,) = [entry for entry in result["refused"] if entry["picture"] == "good/dark.png"]
    assert (dark["err"], dark["verdict"]) == (ErrorCode.TOO_DARK, "NONE")
    assert "the picture is dark, unlike all references" in dark["reason"]


def test_a_part_far_off_that_may_lie_so_is_scored(flange: Path, config: Path) -> None:
    result = evaluated(flange, config, "--align", "--max-shift", "0.2")
    assert [entry["picture"] for entry in result["refused"]] == ["good/belt.png"]


def test_results_of_other_options_are_not_gone_on_from(flange: Path, config: Path, tmp_path: Path) -> None:
    given = ("evaluate", flange, "--shots", "1", "--seeds", "0", "--config", config, "--json", tmp_path / "r.json")
    box = ("--align", "--found-by", "0.2,0.2,0.6,0.6")
    assert run(*given, *box).exit_code == 0
    assert "1 of 1 categories are done already" in run(*given, *box).output
    for options, differing in (
        ((), "align"),
        ((*box, "--max-turn", "9"), "align"),
        ((*box, "--tiles", "auto"), "tiles"),
    ):
        refused = run(*given, *options)
        assert isinstance(refused.exception, UsageError)
        assert f"made with another {differing};" in str(refused.exception)


def test_a_picture_too_small_for_its_tiles_has_no_verdict_and_the_others_have(
    flange: Path, config: Path, tmp_path: Path
) -> None:
    place = tmp_path / "flange"
    shutil.copytree(flange, place)
    write(place / "test" / "good" / "small.png", np.full((20, 27, 3), 90, np.uint8))
    result = evaluated(place, config, *TILES)
    assert result["unscored"] == ["good/small.png"]
    assert sum(entry["score"] is not None for entry in result["pictures"]) == 5


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (("--max-turn", "5"), UsageError, "give --align, too"),
        (("--align", "--max-shift", "0.5"), UsageError, "max_shift is 0.5"),
        (("--tiles", "9"), UsageError, "--tiles is '9'"),
        (("--align",), CalibrationError, "plain: 1 references, seed 0: the reference 0.png shows nothing"),
    ],
)
def test_what_cannot_be_is_a_sentence(
    tmp_path: Path, config: Path, options: tuple[str, ...], error: type[Exception], words: str
) -> None:
    plain: ImageArray = np.full((64, 64, 3), 128, np.uint8)
    write(tmp_path / "plain" / "train" / "good" / "0.png", plain)
    write(tmp_path / "plain" / "test" / "good" / "0.png", plain)
    done = run("evaluate", tmp_path / "plain", "--shots", "1", "--seeds", "0", "--config", config, *options)
    assert isinstance(done.exception, error)
    assert words in str(done.exception)
