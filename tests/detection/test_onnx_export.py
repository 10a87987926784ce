"""ONNX export: the same numbers as torch, in any batch, or no file."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import pytest

from inspector.config import EncoderConfig
from inspector.detection import onnx_export
from inspector.detection.encoder import Encoder, load_encoder
from inspector.detection.onnx_export import export_onnx
from inspector.errors import EncoderError
from inspector.simulation import draw_references
from tests.detection.models import load, vit_keys, write_model


@pytest.fixture(scope="module")
def embedded() -> Encoder:
    return load_encoder(EncoderConfig(precision="fp32", device="cpu"))


def answers(path: Path, pixels: Any) -> list[Any]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: list[Any] = session.run(None, {"pixels": pixels})
    return found


def test_the_exported_tower_sees_pictures_as_torch_does(embedded: Encoder, tmp_path: Path) -> None:
    worst = export_onnx(embedded, tmp_path / "tower.onnx")
    assert 0.0 <= worst < 1e-4
    pixels = embedded.prepare(draw_references("gear", 2))
    for mine, theirs in zip(
        embedded.tokens(pixels).taps, answers(tmp_path / "tower.onnx", pixels.numpy()), strict=True
    ):
        np.testing.assert_allclose(theirs, mine.numpy(), atol=1e-4)


def test_a_vit_with_text_exports_its_global_feature_too(tmp_path: Path) -> None:
    encoder = load(*write_model(tmp_path, vit_keys()))
    assert encoder.has_text
    export_onnx(encoder, tmp_path / "vit.onnx")
    pixels = encoder.prepare(draw_references("gear", 3))
    expected = encoder.tokens(pixels)
    *taps, joint = answers(tmp_path / "vit.onnx", pixels.numpy())
    assert len(taps) == len(encoder.taps)
    assert expected.global_token is not None
    np.testing.assert_allclose(joint, expected.global_token.numpy(), atol=1e-4)


def test_another_precision_is_refused(tmp_path: Path) -> None:
    encoder = load_encoder(EncoderConfig(precision="bf16", device="cpu"))
    with pytest.raises(EncoderError, match="fp32"):
        export_onnx(encoder, tmp_path / "tower.onnx")


def test_an_export_that_differs_is_removed(embedded: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "MAX_RELATIVE_ERROR", -1.0)
    with pytest.raises(EncoderError, match="differs from torch"):
        export_onnx(embedded, tmp_path / "tower.onnx")
    assert not (tmp_path / "tower.onnx").exists()
