"""Training the embedded encoder: it learns, repeats, resumes, and ships weights that open_clip takes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from typer.testing import CliRunner

from inspector.training.embedded import (
    CONFIG_PATH,
    WEIGHTS_FOLDER,
    Settings,
    Training,
    app,
    create_tower,
    export,
    load_tower,
    run,
    stage_features,
)
from inspector.training.episodes import HELD_OUT_FROM, DrawnEpisodes, held_out_product

TINY = Settings(
    seed=3,
    episodes=16,
    size_px=64,
    episodes_per_batch=2,
    workers=0,
    report_every_s=1e9,
    held_out=1,
    held_out_size_px=64,
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def quiet() -> Console:
    return Console(file=io.StringIO())


def test_episodes_are_a_function_of_seed_and_index() -> None:
    one, other = (DrawnEpisodes(1, 64, 2, 10)[4] for _ in range(2))
    for first, again in zip(vars(one).values(), vars(other).values(), strict=True):
        assert torch.equal(first, again)
    assert not torch.equal(DrawnEpisodes(2, 64, 2, 10)[4].normal, one.normal)
    assert one.mask.flatten(1).any(1).all()


def test_held_out_products_are_beyond_the_seeds_of_training() -> None:
    product = held_out_product(0, 64, references=2, queries=1)
    assert product.references.shape == (2, 3, 64, 64)
    assert product.masks.any()
    assert np.random.default_rng(0).integers(HELD_OUT_FROM, size=1000).max() < HELD_OUT_FROM


def test_training_lowers_the_loss_on_the_episodes_it_sees() -> None:
    training = Training(TINY)
    batches = [DrawnEpisodes(0, 64, 2, 4)[index] for index in range(2)]
    seen = [training.step(batches[index % 2]) for index in range(24)]
    assert np.mean(seen[-4:]) < 0.85 * np.mean(seen[:4])


def test_two_runs_from_one_seed_are_the_same_run(tmp_path: Path) -> None:
    first = run(Training(TINY), tmp_path / "a", quiet())
    again = run(Training(TINY), tmp_path / "b", quiet())
    assert first == again
    assert len(first) == 8


def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path: Path) -> None:
    whole = Training(TINY)
    expected = run(whole, tmp_path / "whole", quiet())
    broken = Training(TINY)
    for batch, _ in zip(broken.batches(), range(3), strict=False):
        broken.step(batch)
    broken.save(tmp_path / "checkpoint.pt")
    resumed = Training.resumed(tmp_path / "checkpoint.pt")
    assert run(resumed, tmp_path / "rest", quiet()) == pytest.approx(expected[3:], rel=1e-4)
    for name, tensor in whole.average.state_dict().items():
        torch.testing.assert_close(resumed.average.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)


def test_only_the_first_three_stages_learn() -> None:
    training = Training(TINY)
    before = {name: tensor.clone() for name, tensor in training.model.state_dict().items()}
    for batch, _ in zip(training.batches(), range(2), strict=False):
        training.step(batch)
    moved = {name for name, tensor in training.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert any(name.startswith("visual.layer3") for name in moved)
    assert not any(name.startswith(("visual.layer4", "visual.attnpool", "transformer", "token")) for name in moved)


def test_an_exported_tower_comes_back_within_half_precision(tmp_path: Path) -> None:
    training = Training(TINY)
    export(training.average, tmp_path)
    pictures = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before, after = (
            stage_features(training.average, pictures),
            stage_features(load_tower(tmp_path), pictures),
        )
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.02)


def test_the_command_trains_reports_and_exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "inspector.training.embedded.drawn_quality",
        lambda *_: type("Q", (), {"image_auroc": 0.5, "pixel_auroc": 0.5}),
    )
    result = CliRunner().invoke(app, ["--out", str(tmp_path), "--episodes", "4", "--size-px", "64", "--threads", "1"])
    assert result.exit_code == 0, result.output
    for name in ("checkpoint.pt", "embedded.safetensors", "embedded.json", "embedded.inspector.json"):
        assert (tmp_path / name).is_file()


def test_the_shipped_weights_load_strictly_and_give_finite_features() -> None:
    tower = load_tower(WEIGHTS_FOLDER)
    with torch.inference_mode():
        taps = stage_features(tower, torch.rand(2, 3, 256, 256))
    assert [tuple(tap.shape) for tap in taps] == [(2, 128, 64, 64), (2, 256, 32, 32), (2, 512, 16, 16)]
    assert all(torch.isfinite(tap).all() for tap in taps)
    assert all(tap.std() > 0.0 for tap in taps)


def test_open_clip_takes_the_shipped_weights_as_a_checkpoint_of_its_own() -> None:
    import open_clip

    open_clip.add_model_config(str(CONFIG_PATH))
    weights = str(WEIGHTS_FOLDER / "embedded.safetensors")
    model, _, preprocess = open_clip.create_model_and_transforms("embedded", pretrained=weights)
    assert model.visual.image_size == 256
    assert next(model.parameters()).dtype == torch.float32
    words = open_clip.get_tokenizer("embedded")(["a photo of a flawless object."])
    with torch.inference_mode():
        assert torch.isfinite(model.encode_text(words)).all()
        assert torch.isfinite(model.encode_image(torch.rand(1, 3, 256, 256))).all()
    assert preprocess is not None


def test_the_shipped_weights_are_trained_and_small() -> None:
    path = WEIGHTS_FOLDER / "embedded.safetensors"
    assert path.stat().st_size <= 25_000_000
    weights = load_file(path)
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
    torch.manual_seed(0)
    untouched = create_tower(CONFIG_PATH).state_dict()
    assert set(weights) == set(untouched)
    assert weights["visual.layer1.0.bn3.weight"].float().abs().max() > 0.05


def test_the_sidecar_says_how_the_tower_is_to_be_used() -> None:
    sidecar = json.loads((WEIGHTS_FOLDER / "embedded.inspector.json").read_text(encoding="utf-8"))
    assert sidecar["text_tower"] is False
    assert sidecar["image_size"] == 256
    assert set(sidecar["taps"]) <= {1, 2, 3}
    assert (WEIGHTS_FOLDER / "MODEL_CARD.md").is_file()
