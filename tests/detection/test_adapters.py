"""The adapted mode: identity at the start, the judge's numbers after that, and files that fit or are refused."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from inspector.detection.adapters import Adapters, load_adapters, read_manifest, save_adapters
from inspector.detection.bank import ResidualBank
from inspector.detection.detector import Detector
from inspector.detection.encoder import Encoder
from inspector.errors import BankMismatchError, EncoderError, EncoderMismatchError
from tests.detection import judge, judge_adapted, models

TOLERANCE = 1e-4
Files = tuple[Path, Path]


def random_adapters(encoder: Encoder, seed: int = 0) -> Adapters:
    torch.manual_seed(seed)
    adapters = Adapters(encoder.adapter_shape)
    with torch.no_grad():
        for value in adapters.parameters():
            value.add_(0.2 * torch.randn(value.shape))
    return adapters


def written(folder: Path, encoder: Encoder, adapters: Adapters) -> Path:
    path = folder / "adapters.safetensors"
    save_adapters(path, adapters, {"encoder": encoder.name, "tower_fingerprint": encoder.tower_fingerprint})
    return path


@pytest.mark.parametrize("count", [1, 3])
def test_an_adapted_vit_scores_as_the_algorithm_says(
    tmp_path: Path, vit: Encoder, vit_files: Files, count: int
) -> None:
    path = written(tmp_path, vit, random_adapters(vit))
    encoder = models.load(*vit_files, adapters=str(path))
    tower, text = judge.JudgeVit(*vit_files, 32), judge.text_residual(*vit_files)
    check(encoder, tower, text, count=count, size=32)


@pytest.mark.parametrize("count", [1, 3])
def test_an_adapted_resnet_scores_as_the_algorithm_says(
    tmp_path: Path, resnet: Encoder, resnet_files: Files, count: int
) -> None:
    bare = models.load(*resnet_files, taps=[1, 2, 3])
    path = written(tmp_path, bare, random_adapters(bare))
    encoder = models.load(*resnet_files, taps=[1, 2, 3], adapters=str(path))
    check(encoder, judge.JudgeStages(*resnet_files, [1, 2, 3]), None, count=count, size=64)


def check(encoder: Encoder, tower: object, text: object, *, count: int, size: int) -> None:
    references, queries = models.pictures(count, size, seed=1), models.pictures(2, size, seed=9)
    found = Detector.from_references(encoder, references).inspect(queries)
    known = [tower.seen(image) for image in references]  # type: ignore[attr-defined]
    assert encoder.adapters is not None
    for inspection, image in zip(found, queries, strict=True):
        seen = tower.seen(image)  # type: ignore[attr-defined]
        wanted = judge_adapted.judged(seen, known, size, text, encoder.adapters)  # type: ignore[arg-type]
        scale = float(np.abs(wanted.anomaly_map).max())
        assert np.abs(inspection.anomaly_map - wanted.anomaly_map).max() <= TOLERANCE * scale
        assert inspection.score == pytest.approx(wanted.score, rel=TOLERANCE)
        parts = {name: value for name, value in asdict(inspection.parts).items() if value is not None}
        for name, value in wanted.parts.items():
            assert parts[name] == pytest.approx(value, rel=TOLERANCE, abs=TOLERANCE * 0.01), name
        assert sum(inspection.contributions.values()) == pytest.approx(inspection.score, rel=1e-5)


def test_untrained_adapters_are_the_identity(tmp_path: Path, vit: Encoder, vit_files: Files) -> None:
    """Text and visual terms are those of the training-free mode; the residual branch takes all taps, and λ is 0.1."""
    encoder = models.load(*vit_files, adapters=str(written(tmp_path, vit, Adapters(vit.adapter_shape))))
    references, queries = models.pictures(2, 32, seed=1), models.pictures(1, 32, seed=9)
    (plain,) = Detector.from_references(vit, references).inspect(queries)
    (adapted,) = Detector.from_references(encoder, references).inspect(queries)

    for name in ("visual_map", "text_map", "text_cls", "residual_cls"):
        assert getattr(adapted.parts, name) == pytest.approx(getattr(plain.parts, name), rel=1e-6), name
    terms = plain.parts
    assert adapted.contributions["residual"] == pytest.approx(
        0.1 * 0.5 * ((adapted.parts.residual_map or 0.0) + (terms.residual_cls or 0.0)), rel=1e-5
    )


def test_untrained_adapters_change_nothing_where_there_is_no_text(
    tmp_path: Path, resnet: Encoder, resnet_files: Files
) -> None:
    encoder = models.load(*resnet_files, adapters=str(written(tmp_path, resnet, Adapters(resnet.adapter_shape))))
    references, queries = models.pictures(2, 64, seed=1), models.pictures(1, 64, seed=9)
    (plain,) = Detector.from_references(resnet, references).inspect(queries)
    (adapted,) = Detector.from_references(encoder, references).inspect(queries)
    assert adapted.score == plain.score
    assert np.array_equal(adapted.anomaly_map, plain.anomaly_map)


def test_a_bank_of_other_adapters_or_of_none_is_refused(tmp_path: Path, vit: Encoder, vit_files: Files) -> None:
    encoder = models.load(*vit_files, adapters=str(written(tmp_path, vit, random_adapters(vit))))
    (tmp_path / "other").mkdir()
    other = models.load(*vit_files, adapters=str(written(tmp_path / "other", vit, random_adapters(vit, 1))))
    Detector.from_references(encoder, models.pictures(2, 32, seed=1)).bank.save(tmp_path / "bank")

    assert len({vit.fingerprint, encoder.fingerprint, other.fingerprint}) == 3
    ResidualBank.load(tmp_path / "bank", encoder)
    for wrong in (vit, other):
        with pytest.raises(BankMismatchError):
            ResidualBank.load(tmp_path / "bank", wrong)


def test_adapters_come_back_bit_for_bit_with_their_manifest(tmp_path: Path, vit: Encoder) -> None:
    adapters = random_adapters(vit)
    path = written(tmp_path, vit, adapters)
    again = load_adapters(path, vit.adapter_shape, vit.tower_fingerprint)
    for name, value in adapters.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert read_manifest(path)["tower_fingerprint"] == vit.tower_fingerprint


def test_adapters_of_another_encoder_are_refused(tmp_path: Path, vit: Encoder, resnet: Encoder) -> None:
    path = written(tmp_path, resnet, random_adapters(resnet))
    with pytest.raises(EncoderMismatchError, match=r"made for the encoder small.*inspector adapt"):
        load_adapters(path, vit.adapter_shape, vit.tower_fingerprint)


def damaged(path: Path, how: str) -> None:
    data = path.read_bytes()
    state = load_file(path)
    manifest = {"inspector": json.dumps(read_manifest(path))}
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(data[:-9])
    elif how == "foreign":
        save_file(state, path)
    elif how == "changed":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif how == "not finite":
        state[next(iter(state))][0] = float("nan")
        save_file(state, path, manifest)
    else:
        state.pop(next(iter(state)))
        save_file(state, path, manifest)


@pytest.mark.parametrize("how", ["missing", "truncated", "foreign", "changed", "not finite", "a weight missing"])
def test_damaged_adapters_are_refused_in_a_sentence(tmp_path: Path, vit: Encoder, how: str) -> None:
    path = written(tmp_path, vit, random_adapters(vit))
    damaged(path, how)
    with pytest.raises(EncoderError, match=r"adapters\.safetensors: "):
        load_adapters(path, vit.adapter_shape, vit.tower_fingerprint)


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path, vit: Encoder) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EncoderError, match="cannot be written"):
        save_adapters(tmp_path / "file" / "a.safetensors", Adapters(vit.adapter_shape), {})


def test_adapters_serve_the_tower_in_any_precision_and_size(tmp_path: Path, vit: Encoder, vit_files: Files) -> None:
    path = written(tmp_path, vit, random_adapters(vit))
    for keys in ({"precision": "bf16"}, {"image_size": 48}):
        encoder = models.load(*vit_files, adapters=str(path), **keys)
        assert encoder.adapters is not None
        assert Detector.from_references(encoder, models.pictures(2, 48, seed=1)).threshold > 0
