"""A bank comes back bit for bit, or not at all."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

from inspector.detection import bank as bank_module
from inspector.detection.bank import GOLDEN, MANIFEST, TENSORS, ResidualBank
from inspector.detection.detector import Detector
from inspector.detection.encoder import Encoder
from inspector.errors import BankCorruptError, BankError, BankMismatchError, CalibrationError
from tests.detection import models


@pytest.fixture(scope="module")
def detector(vit: Encoder) -> Detector:
    return Detector.from_references(vit, models.pictures(3, 40, seed=0), names=["a.png", "b.png", "c.png"])


def rewritten(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the manifest and make its hash right again, as a forger would."""
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    manifest["sha256"] = bank_module._hash_of(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def with_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Change the tensors and make all hashes right again."""
    tensors = load_file(folder / TENSORS)
    change(tensors)
    data = save(tensors)
    (folder / TENSORS).write_bytes(data)
    rewritten(folder, lambda manifest: manifest.update(tensors_sha256=bank_module.hashlib.sha256(data).hexdigest()))


def test_a_saved_bank_comes_back_bit_for_bit(tmp_path: Path, detector: Detector, vit: Encoder) -> None:
    sha256 = detector.bank.save(tmp_path / "7" / "1")
    loaded = ResidualBank.load(tmp_path / "7" / "1", vit, sha256=sha256)

    for before, after in zip(detector.bank.taps, loaded.taps, strict=True):
        assert torch.equal(before, after)
    assert detector.bank.global_tokens is not None
    assert loaded.global_tokens is not None
    assert torch.equal(detector.bank.global_tokens, loaded.global_tokens)
    assert (loaded.calibration, loaded.pixel_threshold) == (detector.calibration, detector.pixel_threshold)
    assert (loaded.references, loaded.made_by) == (detector.bank.references, detector.bank.made_by)
    assert loaded.created_at == detector.bank.created_at
    before, after = detector.bank.golden, loaded.golden
    assert before is not None
    assert after is not None
    assert (before.score, before.peak) == (after.score, after.peak)
    assert (before.image == after.image).all()


def test_a_bank_knows_the_sizes_of_its_references(tmp_path: Path, vit: Encoder) -> None:
    images = [*models.pictures(2, 40, seed=0), models.pictures(1, 60, seed=1)[0][:48]]
    built = Detector.from_references(vit, images)
    built.bank.save(tmp_path / "bank")
    loaded = Detector(vit, ResidualBank.load(tmp_path / "bank", vit))

    assert loaded.bank.sizes_px == loaded.looks.sizes_px == ((40, 40), (40, 40), (60, 48))
    assert loaded.without(0).looks.sizes_px == ((40, 40), (60, 48))


def test_a_bank_of_before_sizes_were_kept_goes_on_without_them(
    tmp_path: Path, detector: Detector, vit: Encoder
) -> None:
    detector.bank.save(tmp_path / "bank")
    rewritten(tmp_path / "bank", lambda manifest: manifest.pop("sizes_px"))
    loaded = Detector(vit, ResidualBank.load(tmp_path / "bank", vit))

    assert loaded.looks.misfit(1, 1000) == ""
    assert loaded.without(0).bank.sizes_px == ()


def test_a_loaded_bank_gives_exactly_the_same_scores(tmp_path: Path, detector: Detector, vit: Encoder) -> None:
    detector.bank.save(tmp_path / "bank")
    images = models.pictures(2, 40, seed=9)

    again = Detector(vit, ResidualBank.load(tmp_path / "bank", vit)).inspect(images)

    assert [inspection.score for inspection in again] == [inspection.score for inspection in detector.inspect(images)]


def test_the_manifest_says_where_the_bank_comes_from(tmp_path: Path, detector: Detector, vit: Encoder) -> None:
    detector.bank.save(tmp_path / "bank")
    manifest = json.loads((tmp_path / "bank" / MANIFEST).read_text())

    assert manifest["encoder"]["fingerprint"] == vit.fingerprint
    assert manifest["encoder"]["image_size"] == 32
    assert manifest["encoder"]["taps"] == [1, 2, 3, 4]
    assert manifest["encoder"]["grids"] == [[4, 4]] * 4
    assert manifest["encoder"]["matching"]["kind"] == "sparsemax"
    assert [reference["name"] for reference in manifest["references"]] == ["a.png", "b.png", "c.png"]
    assert manifest["calibration"]["n"] == 3
    assert manifest["calibration"]["threshold"] == detector.threshold


def test_saving_again_replaces_the_bank_and_leaves_nothing_behind(
    tmp_path: Path, detector: Detector, vit: Encoder
) -> None:
    detector.bank.save(tmp_path / "bank")
    other = Detector.from_references(vit, models.pictures(1, 40, seed=5))
    other.bank.save(tmp_path / "bank")

    assert [path.name for path in tmp_path.iterdir()] == ["bank"]
    assert len(ResidualBank.load(tmp_path / "bank", vit).references) == 1


def test_a_write_that_fails_leaves_the_old_bank(
    tmp_path: Path, detector: Detector, vit: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = detector.bank.save(tmp_path / "bank")

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bank_module, "_write", full)
    with pytest.raises(BankError, match="No space left"):
        Detector.from_references(vit, models.pictures(1, 40, seed=5)).bank.save(tmp_path / "bank")

    assert [path.name for path in tmp_path.iterdir()] == ["bank"]
    assert len(ResidualBank.load(tmp_path / "bank", vit, sha256=sha256).references) == 3


def test_a_bank_of_another_encoder_is_refused(tmp_path: Path, detector: Detector, resnet: Encoder) -> None:
    detector.bank.save(tmp_path / "bank")

    with pytest.raises(BankMismatchError, match="Build the product again"):
        ResidualBank.load(tmp_path / "bank", resnet)
    with pytest.raises(BankMismatchError, match="build the product again"):
        Detector(resnet, detector.bank)


def test_a_bank_at_another_image_size_is_refused(
    tmp_path: Path, detector: Detector, vit_files: tuple[Path, Path]
) -> None:
    detector.bank.save(tmp_path / "bank")

    with pytest.raises(BankMismatchError):
        ResidualBank.load(tmp_path / "bank", models.load(*vit_files, image_size=40))


def test_a_bank_that_the_caller_does_not_expect_is_refused(tmp_path: Path, detector: Detector, vit: Encoder) -> None:
    detector.bank.save(tmp_path / "bank")

    with pytest.raises(BankCorruptError, match="not the bank that was built here"):
        ResidualBank.load(tmp_path / "bank", vit, sha256="0" * 64)


def test_a_missing_folder_is_no_bank(tmp_path: Path, vit: Encoder) -> None:
    with pytest.raises(BankCorruptError, match="no bank"):
        ResidualBank.load(tmp_path / "nothing", vit)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "tensors cut": lambda folder: (folder / TENSORS).write_bytes((folder / TENSORS).read_bytes()[:-1]),
    "one bit flipped": lambda folder: (folder / TENSORS).write_bytes(
        (folder / TENSORS).read_bytes()[:-1] + bytes([(folder / TENSORS).read_bytes()[-1] ^ 1])
    ),
    "golden picture changed": lambda folder: (folder / GOLDEN).write_bytes((folder / GOLDEN).read_bytes() + b"\0"),
    "golden picture missing": lambda folder: (folder / GOLDEN).unlink(),
    "golden picture of no numbers": lambda folder: rewritten(folder, lambda manifest: manifest.pop("golden")),
    "tensors missing": lambda folder: (folder / TENSORS).unlink(),
    "manifest cut": lambda folder: (folder / MANIFEST).write_text((folder / MANIFEST).read_text()[:-9]),
    "manifest not an object": lambda folder: (folder / MANIFEST).write_text("[]"),
    "manifest not text": lambda folder: (folder / MANIFEST).write_bytes(b"\xff\xfe\x00"),
    "threshold edited": lambda folder: (folder / MANIFEST).write_text(
        (folder / MANIFEST).read_text().replace('"threshold": ', '"threshold": 9')
    ),
    "format of the future": lambda folder: rewritten(folder, lambda manifest: manifest.update(format=99)),
    "no calibration": lambda folder: rewritten(folder, lambda manifest: manifest.update(calibration=None)),
    "threshold not finite": lambda folder: rewritten(
        folder, lambda manifest: manifest["calibration"].update(threshold=float("nan"))
    ),
    "pixel threshold not finite": lambda folder: rewritten(
        folder, lambda manifest: manifest.update(pixel_threshold=float("inf"))
    ),
    "a reference too few": lambda folder: rewritten(folder, lambda manifest: manifest["references"].pop()),
    "a size too few": lambda folder: rewritten(folder, lambda manifest: manifest["sizes_px"].pop()),
    "a size of nothing": lambda folder: rewritten(folder, lambda manifest: manifest.update(sizes_px=[[0, 40]] * 3)),
    "an unknown key": lambda folder: rewritten(folder, lambda manifest: manifest["encoder"].update(colour="red")),
    "a tap missing": lambda folder: with_tensors(folder, lambda tensors: tensors.pop("tap0")),
    "a tap of another grid": lambda folder: with_tensors(
        folder, lambda tensors: tensors.update(tap0=tensors["tap0"][:, :-1].contiguous())
    ),
    "tokens not finite": lambda folder: with_tensors(
        folder, lambda tensors: tensors["tap0"].__setitem__((0, 0, 0), float("nan"))
    ),
    "foreign tensors": lambda folder: with_tensors(folder, lambda tensors: tensors.clear()),
    "tensors that are no safetensors": lambda folder: (
        (folder / TENSORS).write_bytes(b"PK\x03\x04 not this"),
        rewritten(
            folder,
            lambda manifest: manifest.update(
                tensors_sha256=bank_module.hashlib.sha256(b"PK\x03\x04 not this").hexdigest()
            ),
        ),
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_forged_bank_is_refused(tmp_path: Path, detector: Detector, vit: Encoder, damage: str) -> None:
    detector.bank.save(tmp_path / "bank")
    DAMAGES[damage](tmp_path / "bank")

    with pytest.raises(BankCorruptError, match="Build the product again from its references"):
        ResidualBank.load(tmp_path / "bank", vit)


def test_an_uncalibrated_bank_gives_no_verdict_and_is_not_saved(tmp_path: Path, vit: Encoder) -> None:
    bank = ResidualBank.build(vit, models.pictures(1, 40, seed=0))

    with pytest.raises(BankError, match="uncalibrated"):
        bank.save(tmp_path / "bank")
    with pytest.raises(CalibrationError, match="no calibration"):
        Detector(vit, bank)


def test_a_bank_without_references_is_refused(vit: Encoder) -> None:
    with pytest.raises(BankError, match="at least one reference"):
        ResidualBank.build(vit, [])


def test_names_must_be_as_many_as_references(vit: Encoder) -> None:
    with pytest.raises(BankError, match="2 references, but 1 names"):
        ResidualBank.build(vit, models.pictures(2, 40, seed=0), ["only"])


def test_leaving_one_out_keeps_the_others_as_they_are(detector: Detector) -> None:
    rest = detector.bank.without(1)

    assert [reference.name for reference in rest.references] == ["a.png", "c.png"]
    assert torch.equal(rest.taps[2], detector.bank.taps[2][[0, 2]])
