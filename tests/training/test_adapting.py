"""Adapters learn from drawn pairs, go on where they stopped, and say what is wrong with their data."""

import json
import shutil
from math import isfinite
from pathlib import Path

import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file
from typer.testing import CliRunner

from inspector.cli import app
from inspector.config import EncoderConfig
from inspector.detection.adapters import read_manifest
from inspector.detection.encoder import Encoder, load_encoder
from inspector.errors import UsageError
from inspector.evaluation.datasets import read_categories
from inspector.evaluation.runner import Plan, evaluate_category
from inspector.training.adapting import Cache, Settings, Training
from inspector.training.draw import write_product
from inspector.training.pairs import drawn_source, folder_source, licence_of, warning_of
from tests.detection.conftest import resnet, resnet_files, vit, vit_files
from tests.evaluation import sets

__all__ = ["resnet", "resnet_files", "vit", "vit_files"]


def training(
    encoder: Encoder, folder: Path, *, products: int = 4, epochs: int = 3, seed: int = 0, text_rate: float = 1e-4
) -> Training:
    source = drawn_source(products, seed)
    cache = Cache(folder, source.count)
    cache.fill(encoder, lambda number: source.pair(number, encoder.image_size), lambda: None)
    return Training(encoder, cache, Settings(epochs=epochs, seed=seed, batch=4, text_rate=text_rate), "drawn")


def finished(run: Training) -> Training:
    while not run.is_done:
        assert all(isfinite(loss) for loss in run.run_epoch())
    return run


def test_drawn_pairs_alternate_good_and_bad_and_are_repeatable() -> None:
    source = drawn_source(2, seed=3)
    pairs = [source.pair(number, 64) for number in range(source.count)]
    assert [bool(pair.mask.any()) for pair in pairs] == [False, True, False, True]
    assert (source.pair(1, 64).query == pairs[1].query).all()
    assert (pairs[0].reference == pairs[1].reference).all()
    assert not (pairs[0].reference == pairs[2].reference).all()


def test_training_starts_from_the_identity_and_its_loss_falls(vit: Encoder, tmp_path: Path) -> None:
    run = training(vit, tmp_path, products=6, epochs=6, text_rate=5e-3)
    assert all(float(module.up.weight.detach().abs().max()) == 0.0 for module in run.adapters.visual)
    finished(run)
    assert run.history[-1]["visual"] < run.history[0]["visual"]
    assert run.history[-1]["text"] < run.history[0]["text"]
    assert {"visual", "text", "residual"} == run.history[0].keys()


def test_a_tower_without_text_learns_its_visual_adapters_alone(resnet: Encoder, tmp_path: Path) -> None:
    run = finished(training(resnet, tmp_path, epochs=2))
    assert run.history[0].keys() == {"visual"}
    assert not run.adapters.has_text


def test_in_even_epochs_the_residual_branchs_text_side_rests_and_in_odd_ones_its_visual_side(
    vit: Encoder, tmp_path: Path
) -> None:
    run = training(vit, tmp_path, epochs=4)
    for learns, rests in (("residual.", "residual_text"), ("residual_text", "residual.")):
        before = {name: value.clone() for name, value in run.adapters.state_dict().items()}
        for group in run._optimiser.param_groups:  # what Adam remembers would move a side that rests
            for parameter in group["params"]:
                run._optimiser.state.pop(parameter, None)
        list(run.run_epoch())
        moved = {name for name, value in run.adapters.state_dict().items() if not torch.equal(value, before[name])}
        assert any(name.startswith(learns) for name in moved)
        assert not any(name.startswith(rests) for name in moved)


def test_the_same_seed_gives_the_same_adapters_and_another_seed_others(resnet: Encoder, tmp_path: Path) -> None:
    one, two = (finished(training(resnet, tmp_path, epochs=2)) for _ in range(2))
    other = finished(training(resnet, tmp_path / "other", epochs=2, seed=1))
    assert one.adapters.digest == two.adapters.digest != other.adapters.digest


def test_a_broken_off_run_goes_on_to_the_same_adapters(resnet: Encoder, tmp_path: Path) -> None:
    whole = finished(training(resnet, tmp_path / "pairs"))
    first = training(resnet, tmp_path / "pairs")
    list(first.run_epoch())
    first.save(tmp_path / "state")
    second = training(resnet, tmp_path / "pairs")
    second.resume(tmp_path / "state")
    finished(second)

    assert second.adapters.digest == whole.adapters.digest
    assert second.history == whole.history
    with pytest.raises(UsageError, match="other data, encoder or settings"):
        training(resnet, tmp_path / "pairs", epochs=9).resume(tmp_path / "state")
    (tmp_path / "state").write_bytes(b"no state")
    with pytest.raises(UsageError, match="damaged state"):
        second.resume(tmp_path / "state")


def run_adapt(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["adapt", *map(str, arguments)])


def test_the_command_makes_adapters_with_a_manifest_and_clears_up(tmp_path: Path) -> None:
    out = tmp_path / "new" / "a.safetensors"
    data = sets.mvtec(tmp_path / "bracket_black")
    result = run_adapt(data, "drawn", "--drawn", "2", "--epochs", "1", "--out", out, "--json")

    assert result.exit_code == 0, result.output
    assert "must not be used commercially" in result.output
    manifest = read_manifest(out)
    assert [(entry["name"], entry["pairs"]) for entry in manifest["data"]] == [("bracket_black", 5), ("drawn", 4)]
    assert "non-commercial" in manifest["data"][0]["licence"]
    assert len(manifest["losses"]) == 1
    assert [path.name for path in out.parent.iterdir()] == ["a.safetensors"]
    encoder = load_encoder(EncoderConfig(adapters=str(out)))
    assert encoder.adapters is not None
    assert load_file(out).keys() == encoder.adapters.state_dict().keys()


def test_what_is_wrong_with_the_data_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    cases = {
        "no data set of the layout": tmp_path / "empty",
        "is not a folder": tmp_path / "missing",
        "no defect with a mask": sets.mvtec(tmp_path / "unmarked", masks=False),
    }
    for words, path in cases.items():
        result = run_adapt(path, "--out", tmp_path / "a.safetensors")
        assert isinstance(result.exception, UsageError)
        assert words in str(result.exception)
    whole = sets.mvtec(tmp_path / "good_only")
    shutil.rmtree(whole / "test" / "hole")
    with pytest.raises(UsageError, match="no defect with a mask"):
        folder_source(whole, None, 0)


def test_licences_are_told_by_layout_and_names_and_warned_of(tmp_path: Path) -> None:
    visa = folder_source(sets.visa(tmp_path / "v"), None, 0)
    assert (visa.licence, warning_of(visa)) == ("VisA: CC BY 4.0", "")
    own = folder_source(sets.mvtec(tmp_path / "our_part"), None, 0)
    assert "not known" in warning_of(own)
    assert warning_of(folder_source(tmp_path / "our_part", "ours", 0)) == ""
    sets.mvtec(tmp_path / "m" / "bottle")
    assert "MVTec" in licence_of(tmp_path / "m", read_categories(tmp_path / "m"))
    assert warning_of(drawn_source(1, 0)) == ""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_adapters_learn_from_drawn_pairs_and_lose_nothing_on_held_out_products(tmp_path: Path) -> None:
    """The embedded tower was itself trained on such drawings, so that adapters from them add nothing to it (README); they
    must not lose more than chance either, which is one percent with ten good and ten bad pictures of eight products."""
    for index in range(8):
        write_product(tmp_path / "held" / f"p{index:02d}", index, references=4, queries=10)
    result = run_adapt("drawn", "--drawn", "100", "--epochs", "8", "--out", tmp_path / "a.safetensors", "--json")
    assert result.exit_code == 0, result.output
    losses = json.loads(result.stdout.splitlines()[-1])["losses"]
    assert losses[-1]["visual"] < 0.98 * losses[0]["visual"]
    found: dict[str, list[float]] = {"image_auroc": [], "pixel_auroc": [], "aupro": []}
    for adapters in (None, str(tmp_path / "a.safetensors")):
        encoder = load_encoder(EncoderConfig(adapters=adapters))
        rows = []
        for category in read_categories(tmp_path / "held"):
            rows += evaluate_category(encoder, category, Plan([1, 4], [0]), lambda _step, _what: None).results
        for metric, values in found.items():
            values.append(sum(row[metric] for row in rows) / len(rows))
    for metric, (plain, adapted) in found.items():
        assert adapted > plain - 0.01, metric
        assert adapted != plain, metric  # they do change what is seen
