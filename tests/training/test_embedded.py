"""Training the embedded encoder: it learns, repeats, resumes, and ships weights that open_clip takes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from inspector.config import EncoderConfig
from inspector.detection.encoder import WEIGHTS, load_encoder
from inspector.errors import UsageError
from inspector.training.assess import drawn_quality
from inspector.training.embedded import (
    SETTINGS_PATH,
    Training,
    app,
    export,
    load_exported,
    read_settings,
    run,
    taps_of,
)
from inspector.training.episodes import HELD_OUT_FROM, DrawnEpisodes, held_out_product
from inspector.training.objectives import patches

TINY = read_settings(SETTINGS_PATH).model_copy(
    update={
        "seed": 3,
        "episodes": 16,
        "sizes_px": {64: 0.7, 80: 0.3},
        "reference_counts": {1: 0.5, 2: 0.5},
        "episodes_per_batch": 2,
        "report_every": 10_000,
        "held_out": 1,
        "held_out_size_px": 64,
    }
)


def drawn(seed: int, batches: int) -> DrawnEpisodes:
    return DrawnEpisodes(seed, TINY.sizes_px, TINY.reference_counts, 2, batches)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def quiet() -> Console:
    return Console(file=io.StringIO())


def test_episodes_are_a_function_of_seed_and_index() -> None:
    one, other = (drawn(1, 10)[4] for _ in range(2))
    for first, again in zip(vars(one).values(), vars(other).values(), strict=True):
        assert torch.equal(first, again)
    assert drawn(2, 10)[4].normal.float().mean() != one.normal.float().mean()
    assert one.mask.flatten(1).any(1).all()


def test_held_out_products_are_beyond_the_seeds_of_training() -> None:
    product = held_out_product(0, 64, references=2, queries=1)
    assert product.references.shape == (2, 3, 64, 64)
    assert product.masks.any()
    assert np.random.default_rng(0).integers(HELD_OUT_FROM, size=1000).max() < HELD_OUT_FROM


def test_training_lowers_the_loss_on_the_episodes_it_sees() -> None:
    training = Training(TINY.model_copy(update={"episodes": 400}))
    batches = [drawn(0, 4)[index] for index in range(2)]
    seen = [training.step(batches[index % 2]) for index in range(24)]
    assert np.mean(seen[-4:]) < 0.6 * np.mean(seen[:4])


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
    resumed = Training.resumed(tmp_path / "checkpoint.pt", TINY)
    assert run(resumed, tmp_path / "rest", quiet()) == pytest.approx(expected[3:], rel=1e-4)
    for name, tensor in whole.average.state_dict().items():
        torch.testing.assert_close(resumed.average.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)


def test_a_run_can_be_made_longer_before_its_rate_falls_and_not_after(tmp_path: Path) -> None:
    training = Training(TINY)
    for batch, _ in zip(training.batches(), range(3), strict=False):
        training.step(batch)
    training.save(tmp_path / "checkpoint.pt")
    longer = TINY.model_copy(update={"episodes": 32})
    assert Training.resumed(tmp_path / "checkpoint.pt", longer).rate() == training.rate()
    training.progressed.step = 7
    training.save(tmp_path / "checkpoint.pt")
    with pytest.raises(UsageError, match="begun to fall"):
        Training.resumed(tmp_path / "checkpoint.pt", longer)
    with pytest.raises(UsageError, match="other settings"):
        Training.resumed(tmp_path / "checkpoint.pt", TINY.model_copy(update={"learning_rate": 0.5}))


def test_the_rate_rises_stays_and_falls_to_nothing() -> None:
    training = Training(TINY.model_copy(update={"episodes": 2000}))
    rates = []
    for step in (0, 100, 699, 850, 999):
        training.progressed.step = step
        rates.append(training.rate() / TINY.learning_rate)
    assert rates == pytest.approx([0.02, 1.0, 1.0, 0.5, 1 / 300], abs=1e-6)


def test_the_image_tower_learns_and_the_text_tower_does_not() -> None:
    training = Training(TINY)
    before = {name: tensor.clone() for name, tensor in training.model.state_dict().items()}
    for batch, _ in zip(training.batches(), range(2), strict=False):
        training.step(batch)
    moved = {name for name, tensor in training.model.state_dict().items() if not torch.equal(tensor, before[name])}
    for part in ("stem", "stages.0", "stages.2", "heads.0", "heads.2", "descriptors.projection"):
        assert any(name.startswith(f"visual.trunk.{part}") for name in moved), part
    assert all(name.startswith("visual.") for name in moved)


def test_an_exported_tower_comes_back_within_half_precision(tmp_path: Path) -> None:
    training = Training(TINY)
    export(training.average, tmp_path)
    pictures = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before, after = (
            taps_of(training.average, pictures),
            taps_of(load_exported(tmp_path), pictures),
        )
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.02)


def test_the_command_trains_reports_and_exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "inspector.training.embedded.drawn_quality",
        lambda *_: type("Q", (), {"image_auroc": 0.5, "pixel_auroc": 0.5}),
    )
    config = tmp_path / "tiny.yaml"
    config.write_text(json.dumps(TINY.model_dump()), encoding="utf-8")
    options = ["--out", str(tmp_path), "--config", str(config), "--workers", "0"]
    result = CliRunner().invoke(app, [*options, "--episodes", "4"])
    assert result.exit_code == 0, result.output
    again = CliRunner().invoke(app, [*options, "--episodes", "4"])
    assert again.exit_code == 0
    assert "goes on after 4 episodes" in again.output
    assert len(json.loads((tmp_path / "history.json").read_text())) == 1
    refused = CliRunner().invoke(app, [*options, "--episodes", "4", "--seed", "5"])
    assert refused.exit_code == 2
    assert "other settings" in refused.output
    for name in ("checkpoint.pt", "embedded.safetensors", "embedded.json", "embedded.inspector.json"):
        assert (tmp_path / name).is_file()


def test_the_shipped_weights_load_strictly_and_give_finite_features() -> None:
    model = load_exported(WEIGHTS)
    with torch.inference_mode():
        taps = taps_of(model, torch.rand(2, 3, 256, 256))
    assert [tuple(tap.shape) for tap in taps] == [(2, 64, 64, 64), (2, 128, 32, 32), (2, 128, 16, 16), (2, 96, 32, 32)]
    assert all(torch.isfinite(tap).all() for tap in taps)
    assert all(tap.std() > 0.0 for tap in taps)


def test_the_product_encodes_as_the_training_does() -> None:
    encoder, model = load_encoder(EncoderConfig(precision="fp32")), load_exported(WEIGHTS)
    pixels = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = [patches(tap, encoder.grids[1][0]) for tap in taps_of(model, pixels)]
    for tokens, rows in zip(encoder.tokens(pixels).taps, expected, strict=True):
        torch.testing.assert_close(tokens, rows, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_small_run_of_the_recipe_learns_to_find_faults(tmp_path: Path) -> None:
    small = TINY.model_copy(
        update={
            "seed": 0, "episodes": 600, "episodes_per_batch": 4, "sizes_px": {96: 1.0}, "report_every": 10,
            "held_out": 12, "held_out_size_px": 128,
        }
    )  # fmt: skip
    training = Training(small)
    before = drawn_quality(lambda x: taps_of(training.average, x), small.held_out, small.held_out_size_px)
    seen = run(training, tmp_path, quiet())
    after = drawn_quality(lambda x: taps_of(training.average, x), small.held_out, small.held_out_size_px)
    assert np.mean(seen[-30:]) < 0.95 * np.mean(seen[:30])
    assert after.pixel_auroc > before.pixel_auroc + 0.02
    assert after.image_auroc > before.image_auroc + 0.02
