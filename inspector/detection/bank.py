"""The residual bank of a product: reference tokens, calibration and their origin, as safetensors and a manifest.

A bank that is truncated, foreign, not finite or of another encoder is refused; nothing is unpickled.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional as fn

from inspector.detection.encoder import Encoder
from inspector.detection.fixture import Fixture
from inspector.detection.golden import Golden
from inspector.detection.lessons import Lesson, Subject
from inspector.detection.novelty import among, features
from inspector.detection.tiling import tiled
from inspector.drift import Looks, Measures, thumbnail
from inspector.errors import BankCorruptError, BankError, BankMismatchError, ImageError
from inspector.images import decode_image, encode_png
from inspector.types import Align, Calibration, ImageArray, Placement, Roi, Tiles, align_of, roi_of

FORMAT = 5
TENSORS, MANIFEST, GOLDEN = "bank.safetensors", "manifest.json", "golden.png"
GLOBAL = "global"
USUAL = "usual"
TEMPLATE = "template"
ENCODE_BATCH = 8
ADVICE = "Build the product again from its references."

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Reference:
    """A normal picture of the bank: its name, and the SHA-256 of its pixels."""

    name: str
    sha256: str


@dataclass(frozen=True)
class MadeBy:
    """The encoder of a bank; `fingerprint` decides whether it fits, the rest is for people who ask why not."""

    name: str
    fingerprint: str
    image_size: int
    taps: tuple[int, ...]
    grids: tuple[tuple[int, int], ...]
    matching: dict[str, Any]

    @classmethod
    def of(cls, encoder: Encoder) -> "MadeBy":
        """What a bank has to remember of `encoder`."""
        matching = asdict(encoder.matching)
        return cls(encoder.name, encoder.fingerprint, encoder.image_size, encoder.taps, encoder.grids, matching)


@dataclass(frozen=True, eq=False)
class ResidualBank:
    """Tokens of K references: one `[K, N_l, D_l]` per tap, and `global_tokens` `[K, D]` or None without text.

    `pixel_threshold` is the raw level of the anomaly map that normal pictures stay below; `golden` the picture that
    must score the same on the line. `measures` are those of the references' pictures, `usual` `[128, 128]` is the mean of
    their thumbnails, `sizes_px` are width and height of each (empty in a bank of before they were kept). `roi_scales` is
    what normal parts usually show in each inspected one of `rois`. With a `fixture` the tokens are those of aligned
    pictures, and `places` is where each reference lies.
    """

    taps: tuple[Tensor, ...]
    global_tokens: Tensor | None
    references: tuple[Reference, ...]
    made_by: MadeBy
    created_at: datetime
    measures: tuple[Measures, ...]
    usual: Tensor
    calibration: Calibration | None = None
    pixel_threshold: float | None = None
    golden: Golden | None = None
    lessons: tuple[Lesson, ...] = ()
    rois: tuple[Roi, ...] = ()
    roi_scales: tuple[float, ...] = ()
    fixture: Fixture | None = None
    places: tuple[Placement, ...] = ()
    tiles: Tiles | None = None
    sizes_px: tuple[tuple[int, int], ...] = ()

    @property
    def looks(self) -> Looks:
        """What the references look like, for drift and for pictures in which nothing can be seen."""
        return Looks(self.measures, among(features(self.taps)), self.sizes_px)

    @property
    def bytes_per_reference(self) -> int:
        """Memory of one reference's tokens, in the file and loaded."""
        tensors = [*self.taps, *([] if self.global_tokens is None else [self.global_tokens])]
        return sum(tensor[0].nbytes for tensor in tensors)

    @property
    def encoder_name(self) -> str:
        """Name of the encoder that made the tokens."""
        return self.made_by.name

    @property
    def encoder_fingerprint(self) -> str:
        """Fingerprint of the encoder that made the tokens."""
        return self.made_by.fingerprint

    @classmethod
    def build(
        cls,
        encoder: Encoder,
        images: Sequence[ImageArray],
        names: Sequence[str] | None = None,
        *,
        align: Align | None = None,
        progress: Progress | None = None,
    ) -> "ResidualBank":
        """Encode K ≥ 1 normal pictures, each once, aligned if that is wished.

        Raises:
            BankError: no picture, not one name for each, or tokens that are not finite.
            CalibrationError: they cannot be aligned.
        """
        if not images:
            raise BankError("a bank needs at least one reference; give a normal picture of the product")
        names = names or [f"reference {number}" for number in range(1, len(images) + 1)]
        if len(names) != len(images):
            raise BankError(f"{len(images)} references, but {len(names)} names")
        fixture, places = (None, ()) if align is None else Fixture.learn(align, images, names)
        views = images
        if fixture is not None:
            views = [fixture.aligned(image, place) for image, place in zip(images, places, strict=True)]
        parts = []
        for start in range(0, len(images), ENCODE_BATCH):
            if progress is not None:
                progress(start / len(images), "encoding the references")
            parts.append(encoder.encode(views[start : start + ENCODE_BATCH]))
        taps = tuple(torch.cat([part.taps[tap] for part in parts]) for tap in range(len(encoder.taps)))
        if not all(bool(torch.isfinite(tap).all()) for tap in taps):
            raise BankError("the encoder gives values that are not finite for these references; try precision fp32")
        glob = [part.global_token for part in parts if part.global_token is not None] if encoder.has_text else []
        hashes = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
        return cls(
            taps=taps,
            global_tokens=torch.cat(glob) if glob else None,
            references=tuple(Reference(name, sha) for name, sha in zip(names, hashes, strict=True)),
            made_by=MadeBy.of(encoder),
            created_at=datetime.now(UTC),
            measures=tuple(Measures.of(image) for image in images),
            usual=torch.from_numpy(np.mean([thumbnail(image) for image in images], axis=0, dtype=np.float32)),
            fixture=fixture,
            places=places,
            sizes_px=tuple((image.shape[1], image.shape[0]) for image in images),
        )

    def without(self, index: int) -> "ResidualBank":
        """The bank of all references but one (for leave-one-out)."""
        return self.only([number for number in range(len(self.references)) if number != index])

    def only(self, keep: Sequence[int]) -> "ResidualBank":
        """The bank of some of the references, in the order given."""
        keep = list(keep)
        return replace(
            self,
            taps=tuple(tap[keep] for tap in self.taps),
            global_tokens=None if self.global_tokens is None else self.global_tokens[keep],
            references=tuple(self.references[number] for number in keep),
            measures=tuple(self.measures[number] for number in keep),
            places=tuple(self.places[number] for number in keep) if self.places else (),
            sizes_px=tuple(self.sizes_px[number] for number in keep) if self.sizes_px else (),
        )

    @property
    def mean_global(self) -> Tensor | None:
        """ḡ `[D]`."""
        return None if self.global_tokens is None else fn.normalize(self.global_tokens.mean(dim=0), dim=-1)

    def save(self, folder: Path) -> str:
        """Write the bank beside `folder` and then put it in place; gives the SHA-256 over manifest and tensors.

        A crash leaves no half-written bank: the files are complete on disk before they get their name.

        Raises:
            BankError: not calibrated, or the folder cannot be written.
        """
        if self.calibration is None or self.pixel_threshold is None or self.golden is None:
            raise BankError("an uncalibrated bank must not be saved: it could not give a verdict")
        tensors = {f"tap{number}": tap.cpu().contiguous() for number, tap in enumerate(self.taps)}
        if self.global_tokens is not None:
            tensors[GLOBAL] = self.global_tokens.cpu().contiguous()
        tensors[USUAL] = self.usual
        if self.fixture is not None:
            tensors[TEMPLATE] = torch.from_numpy(self.fixture.template)
        for number, lesson in enumerate(self.lessons):
            for tap, direction in enumerate(lesson.directions):
                tensors[f"lesson{number}.{tap}"] = direction.cpu().contiguous()
        data = safetensors.torch.save(tensors)
        golden = encode_png(self.golden.image)
        manifest = self._manifest(hashlib.sha256(data).hexdigest()) | {
            "golden_sha256": hashlib.sha256(golden).hexdigest(),
            "golden": {"score": self.golden.score, "peak": self.golden.peak},
        }
        manifest["sha256"] = _hash_of(manifest)
        fresh = folder.with_name(f".{folder.name}.{os.getpid()}.new")
        old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
        try:
            shutil.rmtree(fresh, ignore_errors=True)  # of a build that this process broke off
            fresh.mkdir(parents=True)
            _write(fresh / TENSORS, data)
            _write(fresh / GOLDEN, golden)
            _write(fresh / MANIFEST, json.dumps(manifest, indent=1).encode())
            if folder.exists():
                folder.replace(old)
            fresh.replace(folder)
            _sync_folder(folder.parent)
        except OSError as error:
            shutil.rmtree(fresh, ignore_errors=True)
            if old.exists() and not folder.exists():
                old.replace(folder)
            raise BankError(f"{folder}: the bank cannot be written: {error.strerror}") from error
        shutil.rmtree(old, ignore_errors=True)
        return str(manifest["sha256"])

    def _manifest(self, tensors_sha256: str) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "tensors_sha256": tensors_sha256,
            "encoder": asdict(self.made_by),
            "references": [asdict(reference) for reference in self.references],
            "created_at": self.created_at.isoformat(),
            "calibration": None if self.calibration is None else asdict(self.calibration),
            "pixel_threshold": self.pixel_threshold,
            "rois": [asdict(roi) for roi in self.rois],
            "roi_scales": list(self.roi_scales),
            "tiles": None if self.tiles is None else asdict(self.tiles),
            "align": None if self.fixture is None else asdict(self.fixture.align) | {"limit": self.fixture.limit},
            "places": [asdict(place) for place in self.places],
            "measures": [asdict(one) for one in self.measures],
            "sizes_px": [list(size) for size in self.sizes_px],
            "lessons": [
                {"label": one.label, "subject": one.subject, "region": one.region}
                | {"floors": one.floors, "fulls": one.fulls}
                for one in self.lessons
            ],
        }

    @classmethod
    def load(cls, folder: Path, encoder: Encoder, *, sha256: str | None = None) -> "ResidualBank":
        """Read a bank, bit-exactly as it was saved, onto the encoder's device.

        Args:
            folder: where `save` wrote it.
            encoder: must be the one that built it.
            sha256: what `save` gave, if the caller knows it.

        Raises:
            BankCorruptError: missing, truncated, changed, foreign or not finite.
            BankMismatchError: built by another encoder, taps, image size or precision.
        """
        manifest, tensors, golden = _read(folder)
        if sha256 is not None and sha256 != manifest["sha256"]:
            raise BankCorruptError(f"{folder}: not the bank that was built here (SHA-256 differs). {ADVICE}")
        try:
            bank = _from_manifest(manifest, tensors, golden)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BankCorruptError(f"{folder}: the manifest does not fit the tensors: {error}. {ADVICE}") from error
        if bank.made_by != MadeBy.of(tiled(encoder, bank.tiles)):
            raise BankMismatchError(
                f"{folder}: built by encoder {bank.encoder_name} ({bank.encoder_fingerprint[:12]}), but {encoder.name} "
                f"({encoder.fingerprint[:12]}) is loaded. {ADVICE}"
            )
        return replace(
            bank,
            taps=tuple(tap.to(encoder.device) for tap in bank.taps),
            global_tokens=None if bank.global_tokens is None else bank.global_tokens.to(encoder.device),
        )

    @staticmethod
    def load_calibration(folder: Path) -> Calibration:
        """Only the calibration of a saved bank, checked as `load` does.

        Raises:
            BankCorruptError: as in `load`.
        """
        manifest, _, _ = _read(folder)
        try:
            return _calibration_of(manifest)
        except (KeyError, TypeError, ValueError) as error:
            raise BankCorruptError(f"{folder}: the manifest has no calibration: {error}. {ADVICE}") from error


def _lessons(rows: list[dict[str, Any]], tensors: dict[str, Tensor], taps: int) -> tuple[Lesson, ...]:
    found = []
    for number, row in enumerate(rows):
        left, top, width, height = row["region"]
        directions = tuple(tensors[f"lesson{number}.{tap}"] for tap in range(taps))
        found.append(
            Lesson(
                row["label"],
                Subject(row["subject"]),
                (left, top, width, height),
                directions,
                tuple(row["floors"]),
                tuple(row["fulls"]),
            )
        )
    return tuple(found)


def _fixture_of(record: dict[str, Any] | None, tensors: dict[str, Tensor]) -> Fixture | None:
    align = align_of(record)
    if record is None or align is None:
        return None
    return Fixture(align, np.asarray(tensors[TEMPLATE].numpy(), np.float32), float(record["limit"]))


def _sizes_of(manifest: dict[str, Any], references: int) -> tuple[tuple[int, int], ...]:
    """Of each reference, or of none: a bank of before they were kept goes on."""
    sizes = tuple((int(width_px), int(height_px)) for width_px, height_px in manifest.get("sizes_px", []))
    if len(sizes) not in (0, references) or any(min(size) < 1 for size in sizes):
        raise ValueError(f"sizes_px must be {references} sizes of pictures, or none, but is {manifest['sizes_px']}")
    return sizes


def _calibration_of(manifest: dict[str, Any]) -> Calibration:
    keys = manifest["calibration"]
    return Calibration(**keys | {"scores": tuple(keys["scores"])})


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor], ImageArray]:
    """Manifest, tensors and golden picture whose hashes are right and whose values are finite."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        data, golden = (folder / TENSORS).read_bytes(), (folder / GOLDEN).read_bytes()
    except (OSError, ValueError) as error:
        raise BankCorruptError(f"{folder}: no bank, or a damaged one: {error}. {ADVICE}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BankCorruptError(f"{folder}: not a bank of format {FORMAT}. {ADVICE}")
    if manifest.get("sha256") != _hash_of(manifest):
        raise BankCorruptError(f"{folder}: the manifest was changed (SHA-256 differs). {ADVICE}")
    if hashlib.sha256(data).hexdigest() != manifest.get("tensors_sha256"):
        raise BankCorruptError(f"{folder}: the tensors are truncated or changed (SHA-256 differs). {ADVICE}")
    if hashlib.sha256(golden).hexdigest() != manifest.get("golden_sha256"):
        raise BankCorruptError(f"{folder}: the golden picture was changed (SHA-256 differs). {ADVICE}")
    try:
        tensors, picture = safetensors.torch.load(data), decode_image(golden, GOLDEN)
    except (SafetensorError, ImageError) as error:
        raise BankCorruptError(
            f"{folder}: the tensors or the golden picture cannot be read: {error}. {ADVICE}"
        ) from error
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise BankCorruptError(f"{folder}: the bank holds values that are not finite. {ADVICE}")
    return manifest, tensors, picture


def _from_manifest(manifest: dict[str, Any], tensors: dict[str, Tensor], golden: ImageArray) -> ResidualBank:
    keys = manifest["encoder"]
    made_by = MadeBy(**keys | {"taps": tuple(keys["taps"]), "grids": tuple((gh, gw) for gh, gw in keys["grids"])})
    references = tuple(Reference(**reference) for reference in manifest["references"])
    taps = tuple(tensors[f"tap{number}"] for number in range(len(made_by.taps)))
    for tap, (gh, gw) in zip(taps, made_by.grids, strict=True):
        if tap.ndim != 3 or tap.shape[:2] != (len(references), gh * gw):
            raise ValueError(f"tokens must have shape ({len(references)}, {gh * gw}, _), but got {tuple(tap.shape)}")
    pixel_threshold = float(manifest["pixel_threshold"])
    if not isfinite(pixel_threshold):
        raise ValueError(f"pixel_threshold must be finite, but is {pixel_threshold}")
    return ResidualBank(
        taps=taps,
        global_tokens=tensors.get(GLOBAL),
        references=references,
        made_by=made_by,
        created_at=datetime.fromisoformat(manifest["created_at"]),
        measures=tuple(Measures(**one) for one in manifest["measures"]),
        sizes_px=_sizes_of(manifest, len(references)),
        usual=tensors[USUAL],
        calibration=_calibration_of(manifest),
        pixel_threshold=pixel_threshold,
        lessons=_lessons(manifest.get("lessons", []), tensors, len(made_by.taps)),
        rois=tuple(roi_of(roi) for roi in manifest["rois"]),
        roi_scales=tuple(float(scale) for scale in manifest["roi_scales"]),
        tiles=None if manifest["tiles"] is None else Tiles(**manifest["tiles"]),
        fixture=_fixture_of(manifest["align"], tensors),
        places=tuple(Placement(**place) for place in manifest["places"]),
        golden=Golden(golden, float(manifest["golden"]["score"]), float(manifest["golden"]["peak"])),
    )


def _hash_of(manifest: dict[str, Any]) -> str:
    """SHA-256 of a manifest without its own hash."""
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut; only POSIX lets a folder be synced."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
