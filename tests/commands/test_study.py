"""`inspector study`: what there is, and what a study says, for people, for programs and on paper."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from inspector.cli import app
from inspector.errors import NotFoundError, UsageError
from tests.dashboard import seed
from tests.dashboard.judged import judged, line_of_gears, made
from tests.dashboard.seed import Scene


@pytest.fixture
def study(tmp_path: Path) -> tuple[Scene, int]:
    """A study that Anna has finished and Ben has not."""
    scene = line_of_gears(seed.empty(tmp_path))
    number = made(scene)
    judged(scene, number, "Anna")
    judged(scene, number, "Ben", leave=3)
    return scene, number


def run(scene: Scene, *words: str) -> Result:
    return CliRunner().invoke(app, ["study", *words, "--config", str(scene.config_path)], catch_exceptions=False)


def test_list_tells_how_far_each_study_is(study: tuple[Scene, int]) -> None:
    scene, _ = study
    assert "6 parts × 2 rounds, Anna, Ben; 21 of 24 answers" in run(scene, "list").stdout
    (told,) = json.loads(run(scene, "list", "--json").stdout)["studies"]
    assert (told["product"], told["answered"], told["of"]) == ("gear", 21, 24)


def test_an_empty_list_says_where_studies_are_made(tmp_path: Path) -> None:
    assert "made on the Study page" in run(seed.empty(tmp_path), "list").stdout


def test_report_tells_the_figures_and_who_is_left_out(study: tuple[Scene, int], tmp_path: Path) -> None:
    scene, number = study
    out = tmp_path / "study.html"
    text = run(scene, "report", str(number), "--out", str(out)).stdout
    assert "Ben has answered 9 of 12 and is left out" in text
    assert "Anna with inspection system: kappa 1.00" in text
    assert "Anna: acceptable against the truth." in text
    assert out.read_text().startswith("<!doctype html>")
    told = json.loads(run(scene, "report", str(number), "--json").stdout)
    assert told["unfinished"] == ["Ben"]
    assert told["agreement"]["operators"][0]["effectiveness"]["rate"] == 1.0


def test_faults_are_one_sentence(study: tuple[Scene, int], tmp_path: Path) -> None:
    scene, number = study
    with pytest.raises(NotFoundError, match="there is no study 77; there are: 1"):
        run(scene, "report", "77")
    with pytest.raises(UsageError, match="cannot be written"):
        run(scene, "report", str(number), "--out", str(tmp_path / "nowhere" / "study.html"))
