"""The product's path against the judge: small ViT towers with random weights, several depths, sizes and K."""

import copy
import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import safetensors.torch
import torch

from inspector.config import EncoderConfig
from inspector.detection.detector import Detector
from inspector.detection.encoder import load_encoder
from inspector.errors import EncoderError
from tests.detection import judge

SIDE = 32


def write_vit(folder: Path, depth: int, *, text: bool = True) -> EncoderConfig:
    """A small ViT as open_clip configuration and checkpoint."""
    path = folder / f"tiny-vit-{depth}-{int(text)}.json"
    vision = {"image_size": SIDE, "layers": depth, "width": 32, "head_width": 16, "patch_size": 8}
    words = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    path.write_text(json.dumps({"embed_dim": 16, "quick_gelu": True, "vision_cfg": vision, "text_cfg": words}))
    open_clip.add_model_config(path)
    torch.manual_seed(depth)
    model = open_clip.create_model(path.stem, load_weights=False)
    with torch.no_grad():
        for value in model.visual.parameters():
            value.add_(0.15 * torch.randn_like(value))
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    if not text:
        state = {key: value for key, value in state.items() if key.startswith("visual.")}
    safetensors.torch.save_file(state, folder / f"{path.stem}.safetensors")
    return EncoderConfig(name=str(path), pretrained=str(folder / f"{path.stem}.safetensors"))


def pictures(count: int, side: int, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("depth", "size", "K"), [(4, 32, 1), (4, 48, 2), (8, 32, 3), (12, 32, 2), (8, 64, 1), (4, 32, 8)]
)
def test_maps_and_all_parts_agree_with_the_judge(tmp_path: Path, depth: int, size: int, K: int) -> None:
    config = write_vit(tmp_path, depth).model_copy(update={"image_size": size})
    encoder = load_encoder(config)
    images = pictures(K + 2, size)
    detector = Detector.from_references(encoder, images[:K])
    taps = list(encoder.taps)
    visual = copy.deepcopy(encoder._tower._visual)  # the judge looks at the same weights

    tokens = [judge.vit_tokens(visual, encoder.prepare([image]), taps) for image in images]
    assert encoder.text_residual is not None
    text = encoder.text_residual.double().numpy()

    for picture, found in zip(tokens[K:], detector.inspect(images[K:]), strict=True):
        wanted_map, wanted_score, wanted_parts = judge.judge(picture, tokens[:K], taps, text, size)
        scale = np.abs(wanted_map).max()
        assert np.abs(found.anomaly_map - wanted_map).max() <= 1e-4 * scale
        assert found.score == pytest.approx(wanted_score, rel=1e-4, abs=1e-5)
        for name, value in wanted_parts.items():
            assert getattr(found.parts, name) == pytest.approx(value, rel=1e-4, abs=1e-5), name


def test_a_picture_scores_the_same_alone_and_in_any_batch(tmp_path: Path) -> None:
    encoder = load_encoder(write_vit(tmp_path, 4))
    detector = Detector.from_references(encoder, pictures(3, 40))
    images = pictures(5, 50, seed=1)

    together = detector.inspect(images)
    backwards = detector.inspect(images[::-1])[::-1]
    alone = [detector.inspect([image])[0] for image in images]

    for one, two, three in zip(together, backwards, alone, strict=True):
        assert one.score == pytest.approx(three.score, rel=1e-5)
        assert two.score == pytest.approx(three.score, rel=1e-5)
        assert np.allclose(one.anomaly_map, three.anomaly_map, rtol=1e-4, atol=1e-5)


def test_without_a_text_tower_its_branches_are_off_and_said_to_be(tmp_path: Path) -> None:
    encoder = load_encoder(write_vit(tmp_path, 4, text=False))
    inspection = Detector.from_references(encoder, pictures(2, 32)).inspect(pictures(1, 32))[0]

    assert not encoder.has_text
    assert inspection.parts.branches == ("visual",)
    assert inspection.parts.text_map is inspection.parts.residual_cls is None
    assert inspection.score == inspection.parts.visual_map


def test_the_embedded_encoder_loads_scores_finitely_and_runs_the_visual_branch_alone() -> None:
    encoder = load_encoder(EncoderConfig())
    detector = Detector.from_references(encoder, pictures(2, 256))
    first, second = detector.inspect(pictures(2, 300, seed=4))

    assert encoder.name == "embedded"
    assert not encoder.has_text
    assert np.isfinite([first.score, second.score]).all()
    assert first.anomaly_map.shape == (256, 256)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pretrained": None}, "without weights"),
        ({"pretrained": "missing.safetensors"}, "no such checkpoint"),
        ({"name": "no-such-model", "pretrained": "x.pt"}, "knows no model"),
        ({"taps": [99]}, "taps"),
        ({"precision": "fp16", "device": "cpu"}, "fp16 needs a GPU"),
        ({"name": "ViT-B-32", "pretrained": "no_such_tag"}, "has the tags"),
    ],
)
def test_a_wrong_encoder_is_refused_in_a_sentence(tmp_path: Path, change: dict[str, object], words: str) -> None:
    config = write_vit(tmp_path, 4).model_copy(update=change)
    with pytest.raises(EncoderError, match=words):
        load_encoder(config)


def test_a_pickle_is_never_executed(tmp_path: Path) -> None:
    trap = tmp_path / "trap.pt"
    ran = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            import os

            return os.system, (f"touch {ran}",)

    torch.save({"state_dict": Bomb()}, trap)
    with pytest.raises(EncoderError, match="weights only"):
        load_encoder(write_vit(tmp_path, 4).model_copy(update={"pretrained": str(trap)}))
    assert not ran.exists()


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    other = write_vit(tmp_path, 8)
    with pytest.raises(EncoderError, match="not a checkpoint of this model"):
        load_encoder(other.model_copy(update={"pretrained": write_vit(tmp_path, 4).pretrained}))


def test_a_timm_trunk_in_an_open_clip_configuration_is_tapped_by_its_stages(tmp_path: Path) -> None:
    path = tmp_path / "tiny-trunk.json"
    vision = {
        "image_size": 64,
        "timm_model_name": "resnet10t",
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
    }
    words = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    path.write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": words}))
    open_clip.add_model_config(path)
    model = open_clip.create_model("tiny-trunk", load_weights=False)
    checkpoint = tmp_path / "tiny-trunk.pt"
    torch.save(model.state_dict(), checkpoint)

    encoder = load_encoder(EncoderConfig(name=str(path), pretrained=str(checkpoint)))
    detector = Detector.from_references(encoder, pictures(2, 64))

    assert len(set(encoder.grids)) == len(encoder.taps) == 3
    assert detector.inspect(pictures(1, 64, seed=9))[0].parts.branches == ("visual",)
