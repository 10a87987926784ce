"""Encoders of the hub: described without fetching, brought with checksums, refused when a byte is wrong."""

import json
from pathlib import Path

import open_clip
import pytest
import safetensors.torch
import torch

from inspector.config import EncoderConfig
from inspector.detection import hub
from inspector.detection.encoder import load_encoder, write_random_checkpoint
from inspector.errors import EncoderError

NAME, TAG = "RN50", "openai"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as the publisher would give it: RN50's own layout, values that say nothing."""
    path = tmp_path_factory.mktemp("hub") / "open_clip_model.safetensors"
    write_random_checkpoint(NAME, path)
    return path


@pytest.fixture
def stick(tmp_path: Path, published: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of encoders with one that was fetched; only the network is not real."""
    monkeypatch.setattr(hub, "download_pretrained", lambda known: str(published))
    hub.fetch(NAME, TAG, tmp_path / "stick", lambda _: None)
    return tmp_path / "stick"


def test_an_encoder_is_described_without_its_weights() -> None:
    found = hub.describe("ViT-B-16", "openai")
    assert (found.licence, found.image_size) == ("MIT", 224)
    assert found.image_tower_mb == pytest.approx(86.2 * 2, rel=0.01)  # 86 M parameters, published
    assert found.gflop == pytest.approx(35.1, rel=0.02)  # 17.6 G multiply-adds, published
    assert found.source


def test_licences_are_told_and_an_unknown_one_is_not_guessed() -> None:
    assert "non-commercial" in hub.licence_of("metaclip_400m")
    assert hub.licence_of("somebody_new") == hub.UNKNOWN_LICENCE
    assert all(hub.licence_of(tag) != hub.UNKNOWN_LICENCE for _, tag in hub.RECOMMENDED)


def test_all_that_is_recommended_exists() -> None:
    assert set(hub.RECOMMENDED) <= set(hub.all_tags())


@pytest.mark.parametrize(("name", "tag"), [("ViT-Z-99", "openai"), ("ViT-B-16", "nobody")])
def test_an_unknown_model_or_tag_is_refused_by_name(name: str, tag: str) -> None:
    with pytest.raises(EncoderError, match=name):
        hub.describe(name, tag)


def test_a_fetched_encoder_has_its_configuration_its_weights_and_checksums(stick: Path) -> None:
    assert sorted(path.name for path in stick.iterdir()) == [
        "RN50--openai.json",
        "RN50--openai.safetensors",
        "SHA256SUMS",
    ]
    keys = json.loads((stick / "RN50--openai.json").read_text())
    assert keys["model_cfg"]["quick_gelu"] is True  # openai's weights want it, whatever the model's name says
    assert keys["preprocess_cfg"]["mean"] == list(open_clip.OPENAI_DATASET_MEAN)


def test_a_stick_brings_an_encoder_that_loads(stick: Path, tmp_path: Path) -> None:
    config = hub.bring(NAME, TAG, stick, tmp_path / "station")
    assert hub.encoders_in(tmp_path / "station") == [(NAME, TAG)]
    weights = hub.weights_beside(config)
    encoder = load_encoder(EncoderConfig(name=str(config), pretrained=str(weights), image_size=64, precision="fp32"))
    assert len(encoder.tokens(torch.zeros(1, 3, 64, 64)).taps) == len(encoder.taps)


def test_a_byte_that_changed_on_the_way_is_found(stick: Path, tmp_path: Path) -> None:
    weights = stick / "RN50--openai.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    with pytest.raises(EncoderError, match="checksum"):
        hub.bring(NAME, TAG, stick, tmp_path / "station")
    assert not (tmp_path / "station").exists()


def test_a_file_without_a_checksum_and_a_stick_without_a_list_are_refused(stick: Path, tmp_path: Path) -> None:
    sums = stick / hub.SUMS
    sums.write_text("\n".join(line for line in sums.read_text().splitlines() if "json" in line))
    with pytest.raises(EncoderError, match="is not in"):
        hub.bring(NAME, TAG, stick, tmp_path / "station")
    sums.unlink()
    with pytest.raises(EncoderError, match="missing or empty"):
        hub.bring(NAME, TAG, stick, tmp_path / "station")


def test_a_stick_that_holds_something_else_says_what(stick: Path, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="it holds RN50 openai"):
        hub.bring("ViT-B-16", "openai", stick, tmp_path / "station")


def test_no_connection_is_one_sentence_with_the_way_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(known: object) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(hub, "download_pretrained", fail)
    with pytest.raises(EncoderError, match=r"no route to host.*--from DIR"):
        hub.fetch(NAME, TAG, tmp_path, lambda _: None)


def test_an_answer_that_is_no_checkpoint_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "open_clip_model.safetensors"
    page.write_text("<html>sign in</html>")
    monkeypatch.setattr(hub, "download_pretrained", lambda known: str(page))
    with pytest.raises(EncoderError, match="not a safetensors file"):
        hub.fetch(NAME, TAG, tmp_path / "station", lambda _: None)
    assert not (tmp_path / "station").exists()


def test_the_shipped_weights_are_what_their_checksums_say() -> None:
    hub.check_embedded()


def test_a_changed_shipped_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in hub.WEIGHTS.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    state = safetensors.torch.load_file(tmp_path / "embedded.safetensors")
    name = next(iter(state))
    state[name] = state[name] + 1
    safetensors.torch.save_file(state, tmp_path / "embedded.safetensors")
    monkeypatch.setattr(hub, "WEIGHTS", tmp_path)
    with pytest.raises(EncoderError, match="checksum"):
        hub.check_embedded()
