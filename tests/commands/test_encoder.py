"""`inspector encoder`: what a person reads, what a program reads, and the way of an encoder by stick."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from inspector.cli import app
from inspector.detection import hub
from inspector.detection.encoder import write_random_checkpoint
from inspector.errors import EncoderError, UsageError


def run(*words: str) -> str:
    result = CliRunner().invoke(app, ["encoder", *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INSPECTOR_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data" / "encoders"


def test_list_shows_the_shipped_encoder_first_and_what_the_others_would_cost(station: Path) -> None:
    told = json.loads(run("list", "--json"))
    assert told["folder"] == str(station)
    assert told["embedded_ms"] > 0
    by_name = {(row["name"], row["tag"]): row for row in told["encoders"]}
    assert by_name["ViT-L-14-336", "openai"]["expected_ms"] > by_name["ViT-B-16", "openai"]["expected_ms"] > 0
    assert not by_name["ViT-B-16", "openai"]["in_folder"]
    shown = run("list")
    assert shown.index("embedded") < shown.index("ViT-B-16")
    assert "MIT" in shown


def test_list_all_names_everything_that_can_be_fetched(station: Path) -> None:
    rows = json.loads(run("list", "--all", "--json"))["encoders"]
    assert len(rows) > 100
    assert {"name": "ViT-L-14-336", "tag": "openai", "licence": "MIT"} in rows


def test_show_tells_of_the_shipped_encoder_and_of_one_of_the_hub(station: Path) -> None:
    told = json.loads(run("show", "embedded", "--json"))
    assert told["matching"] == "nearest"
    assert told["measured_ms"] > 0
    assert "licence         MIT" in run("show", "ViT-B-16", "openai")


def test_show_measures_an_encoder_of_the_hub_with_random_weights(station: Path) -> None:
    told = json.loads(run("show", "ViT-B-32", "openai", "--measure", "--json"))
    assert told["measured_ms"] > told["expected_ms"] * 0.3


def test_an_encoder_goes_by_stick_to_a_station_and_is_verified_there(
    station: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = tmp_path / "open_clip_model.safetensors"
    write_random_checkpoint("RN50", published)
    monkeypatch.setattr(hub, "download_pretrained", lambda known: str(published))
    run("pull", "RN50", "openai", "--to", str(tmp_path / "stick"))
    monkeypatch.setattr(hub, "download_pretrained", None)  # from here on nothing may be fetched
    told = run("pull", "RN50", "openai", "--from", str(tmp_path / "stick"))
    assert f"name: {station / 'RN50--openai.json'}" in told
    assert f"pretrained: {station / 'RN50--openai.safetensors'}" in told
    assert "licence: MIT" in told
    assert "checksums and weights are right" in run("verify", "RN50", "openai")
    listed = json.loads(run("list", "--json"))["encoders"]
    assert listed[0]["name"] == "RN50"
    assert listed[0]["in_folder"]
    (station / "RN50--openai.safetensors").write_bytes(b"cut off")
    with pytest.raises(EncoderError, match="checksum"):
        run("verify", "RN50", "openai")


def test_the_shipped_encoder_is_verified_and_needs_no_pull(station: Path) -> None:
    assert "are right" in run("verify", "embedded")
    assert "nothing to pull" in run("pull", "embedded")


def test_a_missing_tag_and_an_encoder_that_is_not_here_are_sentences(station: Path) -> None:
    with pytest.raises(UsageError, match="name its weights too"):
        run("show", "ViT-B-16")
    with pytest.raises(UsageError, match="encoder pull"):
        run("verify", "ViT-B-16", "openai")


def test_export_writes_onnx_and_tells_the_difference(station: Path, tmp_path: Path) -> None:
    told = run("export", "--to", str(tmp_path / "tower.onnx"))
    assert "largest difference from torch" in told
    assert (tmp_path / "tower.onnx").stat().st_size > 1_000_000
