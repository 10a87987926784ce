"""`inspector score`: numbers in the order given, one entry per picture, exit codes."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from inspector import simulation
from inspector.cli import app
from inspector.errors import EncoderError, ImageError, UsageError
from inspector.images import encode_png, read_image


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four references, and two folders that hold a picture of the same name."""
    root = tmp_path_factory.mktemp("score")
    for name in ("good", "a", "b"):
        (root / name).mkdir()
    for number, image in enumerate(simulation.draw_references("gear", 4)):
        (root / "good" / f"{number}.png").write_bytes(encode_png(image))
    clean = simulation.draw_references("gear", 1)[0]
    broken = clean.copy()
    broken[100:150, 100:150] = (255, 0, 255)
    (root / "a" / "part.png").write_bytes(encode_png(clean))
    (root / "b" / "part.png").write_bytes(encode_png(broken))
    (root / "b" / "part-2.png").write_bytes(encode_png(clean))
    return root


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["score", *map(str, arguments)])


def test_each_picture_has_its_entry_in_the_order_given(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "scores.json"
    result = run("-r", folder / "good", "--json", out, folder / "b" / "part.png", folder / "a")

    assert result.exit_code == 0, result.output
    told = json.loads(out.read_text())
    assert told["encoder"] == "embedded"
    assert [entry["image"] for entry in told["images"]] == [
        str(folder / "b" / "part.png"),
        str(folder / "a" / "part.png"),
    ]
    bad, good = told["images"]
    assert set(good) == {"image", "score", "parts", "contributions", "threshold", "verdict", "regions", "placement"}
    assert good["placement"] is None
    assert (bad["verdict"], good["verdict"]) == ("NG", "OK")
    assert bad["score"] >= bad["threshold"] > good["score"] == good["parts"]["visual_map"]
    assert good["parts"]["text_map"] is None
    assert len(bad["regions"]) >= 1
    assert "part.png" in result.output
    assert "provisional, n=4" in result.output.replace("\n", " ")


def test_maps_are_raw_and_none_overwrites_another(folder: Path, tmp_path: Path) -> None:
    pictures = [folder / "a" / "part.png", folder / "b" / "part.png", folder / "b" / "part-2.png"]
    result = run("-r", folder / "good", "--maps", tmp_path / "maps", *pictures)

    assert result.exit_code == 0, result.output
    raw = sorted((tmp_path / "maps").glob("*.npy"))
    assert len(raw) == 3
    assert {path.stem for path in raw} == {path.stem for path in (tmp_path / "maps").glob("*.png")}
    for path in raw:
        anomaly_map = np.load(path, allow_pickle=False)
        assert (anomaly_map.shape, anomaly_map.dtype) == ((256, 256), np.float32)
        assert read_image(path.with_suffix(".png")).shape == read_image(pictures[0]).shape
    assert len({np.load(path).tobytes() for path in raw}) == 2  # two of the three pictures are the same


def test_an_unreadable_picture_is_none_with_its_reason_and_the_others_are_scored(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    out = tmp_path / "scores.json"
    result = run("-r", folder / "good", "--json", out, tmp_path / "text.png", folder / "a" / "part.png")

    assert result.exit_code == 1
    odd, good = json.loads(out.read_text())["images"]
    assert (odd["verdict"], odd["score"]) == ("NONE", None)
    assert "not a picture" in odd["error"]
    assert good["verdict"] == "OK"


def test_references_that_are_not_there_are_a_usage_error(folder: Path) -> None:
    result = run("-r", folder / "nowhere", folder / "a")

    assert isinstance(result.exception, ImageError)
    assert result.exception.exit_code == 2


def test_a_result_that_cannot_be_written_is_refused_before_the_work(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = run("-r", folder / "good", "--maps", tmp_path / "file", folder / "a")

    assert isinstance(result.exception, UsageError)


def test_a_wrong_encoder_is_exit_code_3(folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "line.yaml"
    config.write_text("encoder: {name: ViT-B-32}\n")
    result = run("-r", folder / "good", "--config", config, folder / "a")

    assert isinstance(result.exception, EncoderError)
    assert result.exception.exit_code == 3


def test_the_help_names_exit_codes_and_an_example() -> None:
    text = run("--help").output

    assert "Exit codes" in text
    assert "Example" in text


def test_a_sheet_of_evidence_is_written_for_each_rejected_picture(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.json"
    result = run("-r", folder / "good", "--explain", tmp_path / "why", "--json", out, folder / "b", folder / "a")

    assert result.exit_code == 0, result.output
    assert [path.name for path in (tmp_path / "why").iterdir()] == ["part.png"]
    assert read_image(tmp_path / "why" / "part.png").shape[0] > 300
    bad = next(entry for entry in json.loads(out.read_text())["images"] if entry["verdict"] == "NG")
    assert bad["contributions"] == {"visual": bad["score"]}
    for region in bad["regions"]:
        assert {match["tap"] for match in region["matches"]} == {1, 2, 3, 4}
        assert all(0 <= match["reference"] < 4 for match in region["matches"])
        assert region["x_px"] <= region["peak_x_px"] <= region["x_px"] + region["width_px"]


def test_aligned_pictures_say_where_the_part_lies_and_why_there_is_no_score(folder: Path, tmp_path: Path) -> None:
    clean = read_image(folder / "a" / "part.png")
    shifted = np.roll(clean, round(0.05 * clean.shape[1]), axis=1)
    for name, image in (("shifted", shifted), ("empty", np.full_like(clean, 90))):
        (tmp_path / f"{name}.png").write_bytes(encode_png(image))
    pictures = (tmp_path / "shifted.png", tmp_path / "empty.png")
    result = run("-r", folder / "good", "--align", "--max-shift", 0.1, "--json", tmp_path / "x.json", *pictures)

    found, none = json.loads((tmp_path / "x.json").read_text())["images"]
    assert result.exit_code == 1
    assert (found["verdict"], none["verdict"]) == ("OK", "NONE")
    assert found["placement"]["shift_x"] == pytest.approx(0.05, abs=0.005)
    assert none["placement"]["fit"] == "not found"
    assert none["score"] is None
    assert "no part was found: likeness" in none["error"]


def test_limits_of_an_alignment_that_nobody_asked_for_and_impossible_ones_are_refused(folder: Path) -> None:
    for option in (("--max-shift", 0.1), ("--max-turn", 5), ("--found-by", "0,0,1,1")):
        result = run("-r", folder / "good", *option, folder / "a")
        assert isinstance(result.exception, UsageError)
        assert "give --align, too" in str(result.exception)
    for wrong in (("--max-shift", 0.5), ("--found-by", "0,0,1"), ("--tiles", "5x5"), ("--tiles", "many")):
        assert isinstance(run("-r", folder / "good", "--align", *wrong, folder / "a").exception, UsageError)
