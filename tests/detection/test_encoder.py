"""Which towers and weights are taken, which are refused, and what a picture becomes."""

import json
import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from inspector.config import EncoderConfig
from inspector.detection import encoder as encoder_module
from inspector.detection import towers
from inspector.detection.encoder import Encoder, load_encoder
from inspector.errors import EncoderError
from tests.detection import models

Files = tuple[Path, Path]


class Trap:
    """Unpickling it would write a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.target, "executed")


def changed(files: Files, folder: Path, change: Any) -> Path:
    """A copy of the checkpoint whose tensors `change` has touched."""
    state = load_file(files[1])
    change(state)
    path = folder / "changed.safetensors"
    save_file({key: value.contiguous() for key, value in state.items()}, path)
    return path


def test_the_embedded_encoder_loads_from_an_empty_configuration() -> None:
    encoder = load_encoder(EncoderConfig(device="cpu"))

    assert encoder.name == "embedded"
    assert not encoder.has_text
    assert len(encoder.fingerprint) == 64
    tokens = encoder.encode(models.pictures(1, 100, seed=0))
    assert [tap.shape[1] for tap in tokens.taps] == [gh * gw for gh, gw in encoder.grids]


def test_missing_embedded_weights_are_an_error_and_never_random_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = (encoder_module.WEIGHTS / "embedded.json").read_text()
    (tmp_path / "embedded.json").write_text(keys)
    monkeypatch.setattr(encoder_module, "WEIGHTS", tmp_path)

    with pytest.raises(EncoderError, match="no such checkpoint"):
        load_encoder(EncoderConfig(device="cpu"))


@pytest.mark.parametrize("name", ["ViT-B-32", "model.json"])
def test_a_model_without_weights_is_refused(name: str) -> None:
    with pytest.raises(EncoderError, match=r"encoder\.pretrained is missing"):
        load_encoder(EncoderConfig(name=name, device="cpu"))


def test_an_unknown_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="'ViT-Z-99'"):
        load_encoder(EncoderConfig(name="ViT-Z-99", pretrained=str(tmp_path / "w.safetensors"), device="cpu"))


def test_an_unknown_tag_lists_those_that_exist() -> None:
    with pytest.raises(EncoderError, match=r"'openay'.*openai"):
        load_encoder(EncoderConfig(name="ViT-B-32", pretrained="openay", device="cpu"))


def test_a_tag_that_cannot_be_fetched_says_what_to_do_without_internet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def unreachable(*_: Any, **__: Any) -> str:
        raise OSError("network is unreachable")

    monkeypatch.setattr("open_clip.factory.download_pretrained", unreachable)
    with pytest.raises(EncoderError, match=r"cannot be fetched.*copy the checkpoint"):
        load_encoder(EncoderConfig(name="ViT-B-32", pretrained="laion2b_s34b_b79k", device="cpu"))


def test_weights_of_a_tag_bring_their_own_activation_and_mean(
    tmp_path: Path, vit: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenAI's weights need QuickGELU, also where the model's name does not say so."""
    _, checkpoint = models.write_model(tmp_path, models.vit_keys(4))
    name = f"{tmp_path.name}-small"
    tag = {"url": "somewhere", "quick_gelu": True, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, name, {"tagged": tag})
    monkeypatch.setattr("open_clip.factory.download_pretrained", lambda *_, **__: str(checkpoint))

    encoder = load_encoder(EncoderConfig(name=name, pretrained="tagged", device="cpu", precision="fp32"))

    quick = models.load(*models.write_model(tmp_path, models.vit_keys(4, quick_gelu=True), name="quick"))
    white, grey = np.full((32, 32, 3), 255, np.uint8), models.pictures(1, 32, seed=0)[0]
    assert encoder.name == f"{name}:tagged"
    assert torch.equal(encoder.prepare([white]), torch.ones(1, 3, 32, 32))
    ours, theirs, plain = ((each.tower(quick.prepare([grey])).taps[-1]) for each in (encoder, quick, vit))
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, plain)


def test_a_pickled_checkpoint_is_refused_and_nothing_in_it_runs(tmp_path: Path, vit_files: Files) -> None:
    witness, checkpoint = tmp_path / "witness", tmp_path / "evil.pt"
    checkpoint.write_bytes(pickle.dumps({"visual.proj": Trap(witness)}, protocol=2))
    through_torch = tmp_path / "evil2.pt"
    torch.save({"visual.proj": Trap(witness)}, through_torch)

    for path in (checkpoint, through_torch):
        with pytest.raises(EncoderError, match="weights only"):
            models.load(vit_files[0], path)
    assert not witness.exists()


def test_a_pt_file_of_tensors_gives_the_same_encoder_as_safetensors(
    tmp_path: Path, vit: Encoder, vit_files: Files
) -> None:
    path = tmp_path / "plain.pt"
    torch.save({"state_dict": {f"module.{key}": value for key, value in load_file(vit_files[1]).items()}}, path)

    assert models.load(vit_files[0], path).fingerprint == vit.fingerprint


@pytest.mark.parametrize("kept_bytes", [0, 7, 5000])
def test_a_truncated_checkpoint_is_refused(tmp_path: Path, vit_files: Files, kept_bytes: int) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(vit_files[1].read_bytes()[:kept_bytes])

    with pytest.raises(EncoderError, match="truncated"):
        models.load(vit_files[0], path)


def test_a_checkpoint_of_a_deeper_tower_is_refused(tmp_path: Path, vit_files: Files) -> None:
    (tmp_path / "deep").mkdir()
    _, deeper = models.write_model(tmp_path / "deep", models.vit_keys(5))

    with pytest.raises(EncoderError, match="is unknown"):
        models.load(vit_files[0], deeper)


def test_a_checkpoint_of_a_wider_tower_is_refused(tmp_path: Path, vit_files: Files) -> None:
    (tmp_path / "wide").mkdir()
    _, wider = models.write_model(tmp_path / "wide", models.vit_keys(4, width=48))

    with pytest.raises(EncoderError, match="instead of"):
        models.load(vit_files[0], wider)


def test_a_checkpoint_that_lacks_a_weight_of_the_image_tower_is_refused(tmp_path: Path, vit_files: Files) -> None:
    path = changed(vit_files, tmp_path, lambda state: state.pop("visual.ln_post.bias"))

    with pytest.raises(EncoderError, match=r"visual\.ln_post\.bias is missing"):
        models.load(vit_files[0], path)


def test_half_a_text_tower_is_refused(tmp_path: Path, vit_files: Files) -> None:
    path = changed(vit_files, tmp_path, lambda state: state.pop("ln_final.weight"))

    with pytest.raises(EncoderError, match=r"ln_final\.weight of the text tower is missing"):
        models.load(vit_files[0], path)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path, vit_files: Files) -> None:
    path = changed(vit_files, tmp_path, lambda state: state["visual.proj"].__setitem__((0, 0), float("nan")))

    with pytest.raises(EncoderError, match=r"visual\.proj holds values that are not finite"):
        models.load(vit_files[0], path)


def test_without_a_text_tower_the_text_branches_are_off(tmp_path: Path, vit: Encoder, vit_files: Files) -> None:
    def without_text(state: dict[str, torch.Tensor]) -> None:
        for key in [key for key in state if not key.startswith("visual.")]:
            del state[key]

    encoder = models.load(vit_files[0], changed(vit_files, tmp_path, without_text))

    assert not encoder.has_text
    assert encoder.encode(models.pictures(1, 32, seed=0)).global_token is None
    assert encoder.fingerprint != vit.fingerprint


def test_a_text_tower_that_was_never_trained_is_not_used(tmp_path: Path, vit_files: Files) -> None:
    config = tmp_path / "silent.json"
    config.write_bytes(vit_files[0].read_bytes())
    models.write_settings(config, text_tower=False, matching={"kind": "topk", "k": 2}, taps=[1, 2], image_size=40)

    encoder = models.load(config, vit_files[1])

    assert not encoder.has_text
    assert (encoder.taps, encoder.image_size, encoder.matching.kind) == ((1, 2), 40, "topk")


def test_settings_with_an_unknown_key_are_refused(tmp_path: Path, vit_files: Files) -> None:
    config = tmp_path / "odd.json"
    config.write_bytes(vit_files[0].read_bytes())
    models.write_settings(config, tabs=[1])

    with pytest.raises(EncoderError, match="tabs"):
        models.load(config, vit_files[1])


def test_a_hub_folders_configuration_brings_its_own_mean(tmp_path: Path, vit: Encoder, vit_files: Files) -> None:
    config = tmp_path / "open_clip_config.json"
    halves = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    config.write_text(json.dumps({"model_cfg": json.loads(vit_files[0].read_text()), "preprocess_cfg": halves}))

    encoder = models.load(config, vit_files[1])

    white = np.full((32, 32, 3), 255, np.uint8)
    assert torch.equal(encoder.prepare([white]), torch.ones(1, 3, 32, 32))
    assert encoder.fingerprint != vit.fingerprint


def test_two_configurations_of_one_file_name_stay_two_models(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    shallow = models.write_model(tmp_path / "a", models.vit_keys(4))
    deep = models.write_model(tmp_path / "b", models.vit_keys(8))

    assert models.load(*shallow).taps == (1, 2, 3, 4)
    assert models.load(*deep).taps == (2, 4, 6, 8)
    assert models.load(*shallow).taps == (1, 2, 3, 4)


def test_loading_says_nothing_of_random_weights(vit_files: Files, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        models.load(*vit_files)

    assert caplog.text == ""


@pytest.mark.parametrize("taps", [[0], [5], [2, 1], [4, 4]])
def test_taps_that_do_not_exist_or_do_not_rise_are_refused(vit_files: Files, taps: list[int]) -> None:
    config = EncoderConfig.model_construct(
        name=str(vit_files[0]),
        pretrained=str(vit_files[1]),
        taps=taps,
        device="cpu",
        precision="fp32",
        threads=0,
        image_size=None,
    )
    with pytest.raises(EncoderError, match=r"encoder\.taps"):
        load_encoder(config)


def test_the_text_branch_insists_on_the_last_block(vit_files: Files) -> None:
    with pytest.raises(EncoderError, match="need the last block, 4"):
        models.load(*vit_files, taps=[1, 2])


def test_a_size_that_would_leave_a_border_unseen_is_refused(vit_files: Files) -> None:
    with pytest.raises(EncoderError, match=r"multiple of the patch of 8 px, for example 48"):
        models.load(*vit_files, image_size=47)


@pytest.mark.parametrize("vision", [{"pool_type": "avg"}, {"attentional_pool": True}, {"qk_norm": True}])
def test_a_vit_that_the_method_does_not_fit_is_refused(tmp_path: Path, vision: dict[str, Any]) -> None:
    files = models.write_model(tmp_path, models.vit_keys(4, **vision))

    with pytest.raises(EncoderError, match="this ViT"):
        models.load(*files)


def test_fp16_is_refused_on_a_cpu(vit_files: Files) -> None:
    with pytest.raises(EncoderError, match="fp16 needs a GPU"):
        models.load(*vit_files, precision="fp16")


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "meta"])
def test_a_device_that_is_not_there_is_refused(vit_files: Files, device: str) -> None:
    with pytest.raises(EncoderError, match=r"encoder\.device"):
        load_encoder(EncoderConfig(name=str(vit_files[0]), pretrained=str(vit_files[1]), device=device))


def test_bf16_has_another_fingerprint_and_gives_tokens_in_float32(vit: Encoder, vit_files: Files) -> None:
    coarse = models.load(*vit_files, precision="bf16")

    assert coarse.fingerprint != vit.fingerprint
    assert {tap.dtype for tap in coarse.encode(models.pictures(2, 32, seed=3)).taps} == {torch.float32}


@pytest.mark.parametrize(
    ("able", "precision"),
    [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx512_bf16": False}, "fp32"), ({}, "fp32")],
)
def test_auto_is_bf16_only_where_the_processor_multiplies_it(
    vit_files: Files, monkeypatch: pytest.MonkeyPatch, able: dict[str, bool], precision: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)

    assert models.load(*vit_files, precision="auto").precision == precision


def test_the_fingerprint_follows_everything_that_changes_numbers(
    tmp_path: Path, vit: Encoder, vit_files: Files
) -> None:
    keys = json.loads(vit_files[0].read_text())
    quick, heads = tmp_path / "quick.json", tmp_path / "heads.json"
    quick.write_text(json.dumps(keys | {"quick_gelu": True}))
    heads.write_text(json.dumps(keys | {"vision_cfg": keys["vision_cfg"] | {"head_width": 8}}))
    other_matching = tmp_path / "matching.json"
    other_matching.write_text(json.dumps(keys))
    models.write_settings(other_matching, matching={"kind": "nearest"})

    others = [
        models.load(quick, vit_files[1]),
        models.load(heads, vit_files[1]),
        models.load(other_matching, vit_files[1]),
        models.load(*vit_files, taps=[2, 4]),
        models.load(*vit_files, image_size=40),
    ]

    assert len({encoder.fingerprint for encoder in [vit, *others]}) == 6
    assert models.load(*vit_files).fingerprint == vit.fingerprint


def test_tokens_are_unit_rows_of_the_announced_shape(vit: Encoder, resnet: Encoder) -> None:
    for encoder in (vit, resnet):
        tokens = encoder.encode(models.pictures(2, 50, seed=1))
        for tap, (gh, gw) in zip(tokens.taps, encoder.grids, strict=True):
            assert tap.shape[:2] == (2, gh * gw)
            assert tap.dtype == torch.float32
            torch.testing.assert_close(tap.norm(dim=-1), torch.ones(tap.shape[:2]))


def test_a_picture_gives_the_same_tokens_alone_and_in_a_batch(vit: Encoder, resnet: Encoder) -> None:
    """Within 2e-5: a batch is another shape of matrix product, whose sums run in another order."""
    images = models.pictures(3, 70, seed=2)
    for encoder in (vit, resnet):
        together = encoder.encode(images)
        for number, image in enumerate(images):
            alone = encoder.encode([image])
            for one, many in zip(alone.taps, together.taps, strict=True):
                torch.testing.assert_close(one[0], many[number], atol=2e-5, rtol=0)


def test_a_picture_of_the_towers_size_is_not_resampled(vit: Encoder) -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    back = vit.prepare([image]) * vit._std + vit._mean

    assert np.array_equal((back[0].permute(1, 2, 0) * 255).round().numpy(), image)


@pytest.mark.parametrize("size", [(480, 640), (33, 31), (16, 200)])
def test_resizing_agrees_with_pillow_to_one_grey_level(vit: Encoder, size: tuple[int, int]) -> None:
    image = np.asarray(Image.fromarray(models.pictures(1, 200, seed=4)[0]).resize(size[::-1]))
    wanted = np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC), np.float64)
    found = ((vit.prepare([image]) * vit._std + vit._mean)[0].permute(1, 2, 0) * 255).double().numpy()

    assert np.abs(found - wanted).max() < 1.01


def test_a_grid_side_averages_finer_stages_down_and_leaves_coarser_ones(tmp_path: Path, resnet_files: Files) -> None:
    config = tmp_path / "gridded.json"
    config.write_bytes(resnet_files[0].read_bytes())
    models.write_settings(config, grid_side=8, taps=[1, 2, 3], text_tower=False)

    encoder = models.load(config, resnet_files[1])

    assert encoder.grids == ((8, 8), (8, 8), (4, 4))


@pytest.mark.parametrize("rows", [1, 300])
def test_attention_head_by_head_is_that_of_torch(rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, 300, 16, generator=generator).bfloat16() for _ in range(3))
    exact = torch.nn.functional.scaled_dot_product_attention(q[:, :, :rows].float(), k.float(), v.float())

    found = towers._attend(q[:, :, :rows], k, v)

    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), exact, atol=0.02, rtol=0.02)
