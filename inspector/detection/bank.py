"""The residual bank of a product: reference tokens, calibration and where they come from, as safetensors and a manifest.

A bank that is truncated, foreign, not finite or of another encoder is refused; nothing is unpickled.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional as fn

from inspector.detection.encoder import Encoder
from inspector.errors import BankCorruptError, BankError, BankMismatchError
from inspector.types import Calibration, ImageArray

FORMAT = 1
TENSORS, MANIFEST = "bank.safetensors", "manifest.json"
ENCODE_BATCH = 8
ADVICE = "Build the product again from its references."


@dataclass(frozen=True)
class Reference:
    """A normal picture of the bank: its name, and the SHA-256 of its pixels."""

    name: str
    sha256: str


@dataclass(frozen=True, eq=False)
class ResidualBank:
    """Tokens of K references: one `[K, N_l, D_l]` per tap, and `global_tokens` `[K, D]` or None without text."""

    taps: tuple[Tensor, ...]
    global_tokens: Tensor | None
    references: tuple[Reference, ...]
    encoder_fingerprint: str
    encoder_name: str
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    calibration: Calibration | None = None
    pixel_threshold: float | None = None

    @classmethod
    def build(
        cls, encoder: Encoder, images: Sequence[ImageArray], names: Sequence[str] | None = None
    ) -> "ResidualBank":
        """Encode K ≥ 1 normal pictures.

        Raises:
            BankError: no picture, or tokens that are not finite.
        """
        if not images:
            raise BankError("a bank needs at least one reference; give a normal picture of the product")
        parts = [encoder.encode(images[i : i + ENCODE_BATCH]) for i in range(0, len(images), ENCODE_BATCH)]
        taps = tuple(torch.cat([part.taps[tap] for part in parts]) for tap in range(len(encoder.taps)))
        if not all(bool(torch.isfinite(tap).all()) for tap in taps):
            raise BankError(
                "the encoder gives values that are not finite for these references; try encoder.precision fp32"
            )
        glob = [part.global_token for part in parts if part.global_token is not None] if encoder.has_text else []
        names = names or [f"reference {number}" for number in range(1, len(images) + 1)]
        hashes = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
        return cls(
            taps=taps,
            global_tokens=torch.cat(glob) if glob else None,
            references=tuple(Reference(name, sha) for name, sha in zip(names, hashes, strict=True)),
            encoder_fingerprint=encoder.fingerprint,
            encoder_name=encoder.name,
        )

    def without(self, index: int) -> "ResidualBank":
        """The bank of all references but one (for leave-one-out)."""
        keep = [number for number in range(len(self.references)) if number != index]
        return replace(
            self,
            taps=tuple(tap[keep] for tap in self.taps),
            global_tokens=None if self.global_tokens is None else self.global_tokens[keep],
            references=tuple(self.references[number] for number in keep),
        )

    @property
    def mean_global(self) -> Tensor | None:
        """ḡ `[D]`."""
        return None if self.global_tokens is None else fn.normalize(self.global_tokens.mean(dim=0), dim=-1)

    def save(self, folder: Path) -> str:
        """Write the bank so that a crash leaves the old folder or the new one; gives the SHA-256 of its tensors.

        Raises:
            BankError: not calibrated, or the folder cannot be written.
        """
        if self.calibration is None or self.pixel_threshold is None:
            raise BankError("an uncalibrated bank must not be saved: it could not give a verdict")
        tensors = {f"tap{number}": tap.cpu().contiguous() for number, tap in enumerate(self.taps)}
        if self.global_tokens is not None:
            tensors["global"] = self.global_tokens.cpu().contiguous()
        data = safetensors.torch.save(tensors)
        sha256 = hashlib.sha256(data).hexdigest()
        fresh = folder.with_name(f".{folder.name}.{os.getpid()}")
        try:
            fresh.mkdir(parents=True)
            _write(fresh / TENSORS, data)
            _write(fresh / MANIFEST, json.dumps(self._manifest(sha256), indent=1).encode())
            if folder.exists():
                shutil.rmtree(folder)
            fresh.replace(folder)
        except OSError as error:
            shutil.rmtree(fresh, ignore_errors=True)
            raise BankError(f"{folder}: the bank cannot be written: {error.strerror}") from error
        return sha256

    def _manifest(self, sha256: str) -> dict[str, Any]:
        calibration = self.calibration
        return {
            "format": FORMAT,
            "sha256": sha256,
            "encoder": {"name": self.encoder_name, "fingerprint": self.encoder_fingerprint},
            "taps": [list(tap.shape) for tap in self.taps],
            "references": [{"name": reference.name, "sha256": reference.sha256} for reference in self.references],
            "created_at": self.created_at.isoformat(),
            "pixel_threshold": self.pixel_threshold,
            "calibration": None
            if calibration is None
            else {
                "kind": calibration.kind,
                "n": calibration.n,
                "threshold": calibration.threshold,
                "scores": calibration.scores,
            },
        }

    @classmethod
    def load(cls, folder: Path, encoder: Encoder) -> "ResidualBank":
        """Read a bank, bit-exactly as it was saved.

        Raises:
            BankCorruptError: missing, truncated, changed, foreign or not finite.
            BankMismatchError: built by another encoder, taps, image size or precision.
        """
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            data = (folder / TENSORS).read_bytes()
        except (OSError, ValueError) as error:
            raise BankCorruptError(f"{folder}: no bank, or a damaged one: {error}. {ADVICE}") from error
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise BankCorruptError(f"{folder}: not a bank of format {FORMAT}. {ADVICE}")
        if hashlib.sha256(data).hexdigest() != manifest.get("sha256"):
            raise BankCorruptError(f"{folder}: the tensors are truncated or changed (SHA-256 differs). {ADVICE}")
        try:
            tensors = safetensors.torch.load(data)
            bank = _from_manifest(cls, manifest, tensors)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise BankCorruptError(f"{folder}: the manifest does not fit the tensors: {error}. {ADVICE}") from error
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
            raise BankCorruptError(f"{folder}: the bank holds values that are not finite. {ADVICE}")
        if bank.encoder_fingerprint != encoder.fingerprint:
            raise BankMismatchError(
                f"{folder}: built by encoder {bank.encoder_name} ({bank.encoder_fingerprint[:12]}), but {encoder.name} "
                f"({encoder.fingerprint[:12]}) is loaded. {ADVICE}"
            )
        return replace(
            bank,
            taps=tuple(tap.to(encoder.device) for tap in bank.taps),
            global_tokens=None if bank.global_tokens is None else bank.global_tokens.to(encoder.device),
        )


def _from_manifest(cls: type[ResidualBank], manifest: dict[str, Any], tensors: dict[str, Tensor]) -> ResidualBank:
    calibration = manifest["calibration"]
    taps = tuple(tensors[f"tap{number}"] for number in range(len(manifest["taps"])))
    if [list(tap.shape) for tap in taps] != manifest["taps"]:
        raise ValueError("shapes differ")
    return cls(
        taps=taps,
        global_tokens=tensors.get("global"),
        references=tuple(Reference(**reference) for reference in manifest["references"]),
        encoder_fingerprint=manifest["encoder"]["fingerprint"],
        encoder_name=manifest["encoder"]["name"],
        created_at=datetime.fromisoformat(manifest["created_at"]),
        pixel_threshold=float(manifest["pixel_threshold"]),
        calibration=Calibration(
            calibration["kind"], calibration["n"], calibration["threshold"], tuple(calibration["scores"])
        ),
    )


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
