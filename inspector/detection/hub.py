"""Encoders that open_clip can fetch: what they are, where their weights lie, how they reach a machine without internet.

A folder of encoders (the station's own, or a USB stick) holds for each one `NAME--TAG.json` (open_clip's configuration
with the preprocessing of these weights), its weights beside it, and `SHA256SUMS` as `sha256sum --check` reads it.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from huggingface_hub import try_to_load_from_cache
from open_clip.pretrained import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME, download_pretrained
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from inspector.detection.checkpoints import SUFFIXES, read_checkpoint
from inspector.detection.encoder import WEIGHTS, build_unloaded
from inspector.errors import EncoderError, UsageError

SUMS = "SHA256SUMS"
URL_CACHE = Path.home() / ".cache" / "clip"
"""Where open_clip keeps what it fetched by address."""
CHUNK_BYTES = 1 << 20
UNKNOWN_LICENCE = "not known here; see the publisher"

LICENCES: dict[str, str] = {
    "embedded": "Apache-2.0",
    "openai": "MIT",
    "laion": "MIT",
    "datacomp": "MIT",
    "commonpool": "MIT",
    "dfn": "Apple ML research licence (non-commercial)",
    "metaclip": "CC BY-NC 4.0 (non-commercial)",
    "webli": "Apache-2.0",
    "mobileclip": "Apple ML research licence (non-commercial)",
}
"""By the beginning of a tag: the licence under which its publisher released the weights."""

RECOMMENDED: tuple[tuple[str, str], ...] = (
    ("ViT-B-16", "openai"),
    ("ViT-L-14-336", "openai"),
    ("ViT-B-16", "laion2b_s34b_b88k"),
    ("ViT-L-14", "laion2b_s32b_b82k"),
    ("convnext_base_w", "laion2b_s13b_b82k"),
)
"""What `inspector encoder list` shows without `--all`; the second is that of the published figures."""


@dataclass(frozen=True)
class HubEncoder:
    """One set of weights. `image_tower_mb` in half precision, `gflop` of one picture at `image_size`.

    `cached` is the file that open_clip would load without asking the hub, None where it would have to fetch it.
    """

    name: str
    tag: str
    licence: str
    image_size: int
    image_tower_mb: float
    gflop: float
    source: str
    cached: Path | None

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self) | {"cached": self.cached and str(self.cached)}


def licence_of(tag: str) -> str:
    """The publisher's licence, or a sentence that it is not known here."""
    return next((licence for start, licence in LICENCES.items() if tag.startswith(start)), UNKNOWN_LICENCE)


def all_tags() -> list[tuple[str, str]]:
    """Every model and tag that this open_clip can fetch."""
    return [(str(name), str(tag)) for name, tag in open_clip.list_pretrained()]


def describe(name: str, tag: str) -> HubEncoder:
    """What can be said of weights without fetching them; the tower is built without memory.

    Raises:
        EncoderError: unknown model or tag.
    """
    known = _published(name, tag)
    size, parameters, flop = _tower_costs(name)
    return HubEncoder(
        name=name,
        tag=tag,
        licence=licence_of(tag),
        image_size=size,
        image_tower_mb=round(parameters * 2 / 1e6, 1),
        gflop=round(flop / 1e9, 1),
        source=known.get("hf_hub") or known.get("url") or "",
        cached=_cached(known),
    )


def fetch(name: str, tag: str, folder: Path, say: Callable[[str], None]) -> Path:
    """Fetch weights from their publisher into a folder of encoders; the path of the configuration for `encoder.name`.

    Raises:
        EncoderError: unknown model or tag, no connection, or not weights of this model.
        UsageError: the folder cannot be written.
    """
    known = _published(name, tag)
    say(f"fetching {name} {tag}")
    try:
        found = Path(download_pretrained(known))
    except Exception as error:  # the hub client raises many kinds; the user needs to know one thing
        raise EncoderError(
            f"{name} {tag} cannot be fetched: {str(error).rstrip('.')}. On a machine without internet, pull it elsewhere "
            "with --to DIR and bring the folder: `inspector encoder pull --from DIR`"
        ) from error
    read_checkpoint(found)  # before it is called an encoder: a sign-in page has been fetched as one
    suffix = ".safetensors" if found.suffix == ".safetensors" else ".pt"
    keys: dict[str, Any] = open_clip.get_model_config(name) | {"quick_gelu": bool(known.get("quick_gelu", False))}
    wrapped = {"model_cfg": keys, "preprocess_cfg": {key: known[key] for key in ("mean", "std") if key in known}}
    stem = f"{name.replace('/', '-')}--{tag}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        weights, config = folder / f"{stem}{suffix}", folder / f"{stem}.json"
        partial = weights.with_suffix(".partial")
        shutil.copyfile(found, partial)
        partial.replace(weights)
        config.write_text(json.dumps(wrapped, indent=2) + "\n", encoding="utf-8")
        write_sums(folder, [weights, config])
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written: {error.strerror}") from error
    return config


def bring(name: str, tag: str, source: Path, folder: Path) -> Path:
    """Copy an encoder from another folder (a USB stick), its checksums compared before and after; as `fetch`.

    Raises:
        EncoderError: it is not there, or a file is not what its checksum says.
        UsageError: the folder cannot be written.
    """
    stem = f"{name.replace('/', '-')}--{tag}"
    files = sorted(path for path in source.glob(f"{stem}.*") if path.suffix in (".json", *SUFFIXES))
    if len(files) < 2:
        there = sorted(path.stem.replace("--", " ") for path in source.glob("*--*.json"))
        raise EncoderError(f"{source} holds no {name} {tag}; it holds {', '.join(there) or 'no encoder'}")
    check_sums(source, files)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        copies = [Path(shutil.copyfile(path, folder / path.name)) for path in files]
        write_sums(folder, copies)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written: {error.strerror}") from error
    check_sums(source, copies)
    return folder / f"{stem}.json"


def check_sums(folder: Path, files: list[Path]) -> None:
    """Compare files with the SHA256SUMS of a folder, by their names.

    Raises:
        EncoderError: no such list, a file that is not on it, or one that is not what it says.
    """
    sums = _sums(folder)
    if not sums:
        raise EncoderError(f"{folder / SUMS} is missing or empty; pull the encoder again")
    for path in files:
        if path.name not in sums:
            raise EncoderError(f"{path.name} is not in {folder / SUMS}; pull the encoder again")
        if _sha256(path) != sums[path.name]:
            raise EncoderError(f"{path} is not what its checksum says; copy or pull it again")


def write_sums(folder: Path, files: list[Path]) -> None:
    """Put checksums of files into the SHA256SUMS of their folder; other lines stay."""
    sums = _sums(folder) | {path.name: _sha256(path) for path in files}
    (folder / SUMS).write_text("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)), encoding="utf-8")


def encoders_in(folder: Path) -> list[tuple[str, str]]:
    """Names and tags of the encoders of a folder."""
    found = (path.stem.split("--", 1) for path in sorted(folder.glob("*--*.json")))
    return [(name, tag) for name, tag in found]


def weights_beside(config: Path) -> Path:
    """The weights that belong to a configuration of a folder of encoders.

    Raises:
        EncoderError: there are none.
    """
    for suffix in SUFFIXES:
        if (path := config.with_suffix(suffix)).is_file():
            return path
    raise EncoderError(f"{config}: its weights are not beside it")


def check_embedded() -> None:
    """Compare the shipped weights with the checksums that were shipped with them.

    Raises:
        EncoderError: one was changed.
    """
    check_sums(WEIGHTS, sorted(WEIGHTS.glob("embedded.*")))


def _published(name: str, tag: str) -> dict[str, Any]:
    if name not in open_clip.list_models():
        raise EncoderError(f"open_clip knows no model {name!r}; `inspector encoder list --all` shows what it can fetch")
    known: dict[str, Any] = open_clip.get_pretrained_cfg(name, tag) or {}
    if not known:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise EncoderError(f"{name} has no weights {tag!r}; its tags: {tags}")
    return known


def _cached(known: dict[str, Any]) -> Path | None:
    model_id, _, filename = known.get("hf_hub", "").rpartition("/")
    for wanted in [filename] if filename else [HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME]:
        if model_id and isinstance(found := try_to_load_from_cache(model_id, wanted), str):
            return Path(found)
    by_url = URL_CACHE / Path(known.get("url", "") or "none").name
    return by_url if by_url.is_file() else None


def _tower_costs(name: str) -> tuple[int, int, float]:
    """Input side in px, parameters and operations of the image tower, which is built on torch's meta device."""
    with torch.device("meta"):
        visual: Any = build_unloaded(name, name, "meta").visual.requires_grad_(False).eval()
    side = visual.image_size[0] if isinstance(visual.image_size, tuple) else visual.image_size
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter, sdpa_kernel(SDPBackend.MATH):
        visual(torch.empty(1, 3, side, side, device="meta"))
    return int(side), sum(p.numel() for p in visual.parameters()), float(counter.get_total_flops())


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise EncoderError(f"{path}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def _sums(folder: Path) -> dict[str, str]:
    path = folder / SUMS
    if not path.is_file():
        return {}
    lines = (line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    return {name.lstrip("*").strip(): digest for digest, name in lines}
