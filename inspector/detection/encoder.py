"""The only module that imports open_clip: load a frozen image tower, prepare pictures, encode them to tokens.

Weights are read from safetensors, or from `.pt` as weights only; never by unpickling. A tower without weights is refused:
a verdict from random numbers must not exist.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import open_clip
import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional as fn

from inspector.config import EncoderConfig
from inspector.detection import prompts
from inspector.detection.matching import Matching
from inspector.detection.towers import ConvTower, Tokens, Tower, VitTower
from inspector.errors import EncoderError
from inspector.types import ImageArray, check_image

WEIGHTS = Path(__file__).with_name("weights")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TowerSettings(BaseModel):
    """What open_clip's configuration does not say; stands beside it as `NAME.inspector.json`.

    `matching` suits the tower, `taps` and `grid_side` are its defaults, `text_tower` false says that its text tower was
    never trained.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    matching: Matching = Matching()
    taps: tuple[int, ...] | None = None
    grid_side: int | None = None
    text_tower: bool = True
    image_size: int | None = None


class Encoder:
    """A frozen image tower with everything that belongs to its numbers; made by `load_encoder`."""

    def __init__(self, name: str, tower: Tower, *, image_size: int, settings: dict[str, Any]) -> None:
        self.name = name
        self.image_size = image_size
        self.taps = tower.taps
        self.grids = tower.grids
        self.matching: Matching = settings["matching"]
        self.text_residual: Tensor | None = settings["text_residual"]
        self.fingerprint: str = settings["fingerprint"]
        self.device: torch.device = settings["device"]
        self.precision: str = settings["precision"]
        self._tower = tower
        self._dtype = DTYPES[self.precision]
        self._mean = torch.tensor(settings["mean"], device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(settings["std"], device=self.device).view(1, 3, 1, 1)

    @property
    def has_text(self) -> bool:
        """Whether the text and residual branches are on."""
        return self.text_residual is not None

    def prepare(self, images: Sequence[ImageArray]) -> Tensor:
        """RGB pictures of any size to `[B, 3, S, S]` in 0 … 1 and normalised; one of S×S is not resampled."""
        return (torch.cat([self._resized(image) for image in images]) - self._mean) / self._std

    def encode(self, images: Sequence[ImageArray]) -> Tokens:
        """Encode RGB uint8 pictures of any size; all taps in one pass."""
        with torch.inference_mode():
            return self._tower(self.prepare(images).to(self._dtype))

    def _resized(self, image: ImageArray) -> Tensor:
        check_image(image)
        S = self.image_size
        pixels = torch.from_numpy(np.ascontiguousarray(image)).to(self.device)
        planes = pixels.permute(2, 0, 1).unsqueeze(0).float()  # [1, 3, H, W]
        if image.shape[:2] != (S, S):
            planes = fn.interpolate(planes, size=(S, S), mode="bicubic", align_corners=False, antialias=True)
        return planes.clamp(0.0, 255.0) / 255.0


def load_encoder(config: EncoderConfig) -> Encoder:
    """Build the image tower that the configuration names, with its weights.

    Raises:
        EncoderError: unknown model, missing or unfit weights, or a device or precision that is not there.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    device, precision = _device(config), _precision(config)
    model_name, settings, pretrained = _resolve(config)
    model, text_is_loaded = _build(model_name, pretrained)
    visual = model.visual
    size = config.image_size or settings.image_size or _side(visual.image_size)
    preprocess = open_clip.get_model_preprocess_cfg(model)
    mean, std = list(preprocess["mean"]), list(preprocess["std"])
    taps = tuple(config.taps) if config.taps else settings.taps
    is_vit = hasattr(visual, "transformer")
    use_text = settings.text_tower and text_is_loaded and is_vit
    text_residual = _text_residual(model, model_name).to(device) if use_text else None
    fingerprint_of = {
        "weights": _digest(visual.state_dict()),
        "text": None if text_residual is None else _digest({"R_t": text_residual.cpu()}),
        "image_size": size,
        "precision": precision,
        "matching": asdict(settings.matching),
        "grid_side": settings.grid_side,
        "mean": mean,
        "std": std,
    }
    del model  # the text tower is not needed again
    visual = visual.requires_grad_(False).eval().to(device=device, dtype=DTYPES[precision])
    tower = VitTower(visual, size, taps) if is_vit else ConvTower(visual, size, taps, settings.grid_side)
    fingerprint_of["taps"] = list(tower.taps)
    return Encoder(
        config.name if config.name == "embedded" else f"{Path(model_name).stem}:{Path(pretrained).name}",
        tower,
        image_size=size,
        settings={
            "matching": settings.matching,
            "text_residual": text_residual,
            "fingerprint": hashlib.sha256(json.dumps(fingerprint_of, sort_keys=True).encode()).hexdigest(),
            "device": device,
            "precision": precision,
            "mean": mean,
            "std": std,
        },
    )


def _device(config: EncoderConfig) -> torch.device:
    name = config.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise EncoderError(f"encoder.device is {name!r}; expected auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise EncoderError("encoder.device asks for a GPU, but torch sees none; set it to auto or cpu")
    return device


def _precision(config: EncoderConfig) -> str:
    on_gpu = _device(config).type == "cuda"
    if config.precision == "auto":
        return "fp16" if on_gpu else "fp32"
    if config.precision == "fp16" and not on_gpu:
        raise EncoderError("encoder.precision fp16 needs a GPU; on a CPU take auto, fp32 or bf16")
    return config.precision


def _resolve(config: EncoderConfig) -> tuple[str, TowerSettings, str]:
    """Model name or configuration path, our own settings of it, and the weights."""
    if config.name == "embedded":
        path, pretrained = WEIGHTS / "embedded.json", config.pretrained or str(WEIGHTS / "embedded.safetensors")
        return str(path), _settings(path), pretrained
    path = Path(config.name)
    if config.pretrained is None:
        raise EncoderError(
            f"encoder.name is {config.name!r}, but encoder.pretrained is missing; name an open_clip tag or a checkpoint "
            "file. A tower without weights gives no verdicts."
        )
    settings = _settings(path) if path.suffix == ".json" else TowerSettings()
    return config.name, settings, config.pretrained


def _settings(model_path: Path) -> TowerSettings:
    path = model_path.with_suffix(".inspector.json")
    if not path.exists():
        return TowerSettings()
    try:
        return TowerSettings.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise EncoderError(f"{path}: not valid settings of a tower: {error}") from error


def _build(model_name: str, pretrained: str) -> tuple[Any, bool]:
    """The open_clip model with its weights, and whether its text tower was among them."""
    name = model_name
    if model_name.endswith(".json"):
        name = _registered(Path(model_name))
    elif model_name not in open_clip.list_models():
        raise EncoderError(
            f"open_clip knows no model {model_name!r}; see open_clip.list_models(), or give the path of a "
            "model configuration that ends in .json"
        )
    if not pretrained.endswith((".safetensors", ".pt")):
        return _from_hub(name, pretrained), True
    try:
        with _quiet():
            model = open_clip.create_model(name, load_weights=False)
    except Exception as error:  # open_clip raises many kinds for a bad configuration, all mean the same here
        raise EncoderError(f"{model_name}: open_clip cannot build this model: {error}") from error
    return model, _load_file(model, Path(pretrained))


@contextmanager
def _quiet() -> Iterator[None]:
    """open_clip warns of random weights while a model is built; the weights are loaded, and checked, right after."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _registered(path: Path) -> str:
    """Make a model configuration known to open_clip; its name there is the file's stem."""
    try:
        keys = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(f"{path}: cannot be read as an open_clip model configuration: {error}") from error
    if not isinstance(keys, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= keys.keys():
        raise EncoderError(f"{path}: an open_clip model configuration has embed_dim, vision_cfg and text_cfg")
    open_clip.add_model_config(path)
    return path.stem


def _from_hub(name: str, tag: str) -> Any:
    known = open_clip.list_pretrained_tags_by_model(name)
    if tag not in known:
        raise EncoderError(
            f"encoder.pretrained is {tag!r}; {name} has the tags {', '.join(known) or 'none'}. A checkpoint file ends in "
            ".safetensors or .pt."
        )
    quick = bool((open_clip.get_pretrained_cfg(name, tag) or {}).get("quick_gelu", False))
    try:
        return open_clip.create_model(name, pretrained=tag, force_quick_gelu=quick, weights_only=True)
    except Exception as error:  # the hub client raises many kinds; the user needs to know one thing
        raise EncoderError(
            f"the weights {tag!r} of {name} cannot be fetched: {error}. On a machine without internet, copy the checkpoint "
            "and set encoder.pretrained to its path."
        ) from error


def _load_file(model: Any, path: Path) -> bool:
    """Load a checkpoint; whether it has a text tower is the answer.

    Raises:
        EncoderError: missing, not a checkpoint, or one of another model.
    """
    state = _read_checkpoint(path)
    wanted = model.state_dict()
    off_size = [key for key, value in state.items() if key in wanted and value.shape != wanted[key].shape]
    missing = [key for key in wanted if key not in state]
    visual_missing = [key for key in missing if key.startswith("visual.") and not key.endswith("num_batches_tracked")]
    if off_size or visual_missing:
        faults = [f"{key} has another shape" for key in off_size] + [f"{key} is missing" for key in visual_missing]
        raise EncoderError(f"{path}: not a checkpoint of this model: {faults[0]} (and {len(faults) - 1} more)")
    bad = [key for key, value in state.items() if value.is_floating_point() and not bool(torch.isfinite(value).all())]
    if bad:
        raise EncoderError(f"{path}: {bad[0]} holds values that are not finite; fetch the checkpoint again")
    model.load_state_dict(
        {key: value.float() if value.is_floating_point() else value for key, value in state.items()}, strict=False
    )
    return all(key.startswith("visual.") or key in ("logit_scale", "logit_bias", "attn_mask") for key in missing)


def _read_checkpoint(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise EncoderError(f"{path}: no such checkpoint; set encoder.pretrained to a .safetensors or .pt file")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise EncoderError(f"{path}: truncated, or not a safetensors file: {error}") from error
    except Exception as error:  # torch.load has no error class of its own; whatever it is, nothing was executed
        raise EncoderError(f"{path}: cannot be read as weights only: {error}") from error
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        _refuse(path)
    return {key.removeprefix("module."): value for key, value in loaded.items()}


def _refuse(path: Path) -> NoReturn:
    raise EncoderError(f"{path}: expected a dictionary of tensors")


def _text_residual(model: Any, model_name: str) -> Tensor:
    """R_t = normalize(t_a − t_n), `[D]`, from the text tower, once."""
    try:
        tokenizer = open_clip.get_tokenizer(Path(model_name).stem if model_name.endswith(".json") else model_name)
    except Exception as error:  # tokenizers of the hub raise many kinds; the user needs to know one thing
        raise EncoderError(f"the tokenizer of {model_name} cannot be loaded: {error}") from error
    means = []
    with torch.inference_mode():
        for phrases in (prompts.ANOMALOUS, prompts.NORMAL):
            embedded = fn.normalize(model.encode_text(tokenizer(prompts.sentences(phrases))).float(), dim=-1)
            means.append(fn.normalize(embedded.mean(dim=0), dim=-1))
    return fn.normalize(means[0] - means[1], dim=-1)


def _side(image_size: Any) -> int:
    return int(image_size[0] if isinstance(image_size, tuple | list) else image_size)


def _digest(state: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
