"""`inspector bench`: the figures that it promises, for the embedded tower and for random weights."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from inspector.cli import app
from inspector.errors import EncoderError, UsageError
from tests.detection import models

STAGES = ["decode", "prepare", "tower", "matching", "maps", "verdict", "total"]


def test_a_small_tower_with_random_weights_is_measured_in_all_its_stages(tmp_path: Path) -> None:
    (tmp_path / "tiny.json").write_text(json.dumps(models.vit_keys(4)))
    arguments = ["bench", "--encoder", str(tmp_path / "tiny.json"), "--random-weights", "--shots", "1,3"]
    result = CliRunner().invoke(app, [*arguments, "--batch", "2", "--json"])

    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert [(run["shots"], run["batch"]) for run in told["runs"]] == [(1, 2), (3, 2)]
    for run in told["runs"]:
        assert list(run["ms"]) == STAGES
        assert all(value >= 0 for value in run["ms"].values())
        assert run["ms"]["total"] > run["ms"]["tower"] > 0
        assert run["ratio"] == pytest.approx(run["plain_ms"] / run["ms"]["total"], rel=0.05)
    assert told["tower_gflop"] > 0
    assert told["matrix_peak_gflop_s"] > 0
    assert set(told["tower_share_of_peak"]) == {"2"}
    assert [row["shots"] for row in told["memory"]] == [1, 2, 4, 8, 16, 32, 64]
    width, patches, taps = 24, 16, 4
    assert {row["bytes_per_reference"] for row in told["memory"]} == {4 * width * (patches * taps + 1)}


def test_the_embedded_tower_is_measured_without_the_plain_path() -> None:
    result = CliRunner().invoke(app, ["bench", "--shots", "1", "--batch", "1", "--no-plain"])
    assert result.exit_code == 0, result.output
    assert "matching nearest" in result.output
    assert "milliseconds per picture" in result.output
    assert "GFLOP a picture" in result.output


@pytest.mark.parametrize("option", ["--shots", "--batch"])
def test_numbers_that_are_none_are_a_sentence(option: str) -> None:
    result = CliRunner().invoke(app, ["bench", option, "many"])
    assert isinstance(result.exception, UsageError)
    assert f"{option} is 'many'" in str(result.exception)


def test_an_encoder_without_weights_is_not_measured_unless_random_ones_are_asked_for() -> None:
    result = CliRunner().invoke(app, ["bench", "--encoder", "ViT-B-32", "--shots", "1"])
    assert isinstance(result.exception, EncoderError)
    assert "encoder.pretrained is missing" in str(result.exception)
