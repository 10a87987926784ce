"""Load a frozen image tower, prepare pictures, encode them to tokens; only this module and `hub` import open_clip.

Weights are read from safetensors, or from `.pt` as weights only; never by unpickling. A tower without weights is
refused: a verdict from random numbers must not exist.
"""

import hashlib
import json
import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import safetensors.torch
import torch
from open_clip.model import convert_to_custom_text_state_dict
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn
from torch.nn import functional as fn

import inspector.detection.embedded_tower  # noqa: F401  makes our tower known to timm
from inspector.config import EncoderConfig
from inspector.detection import checkpoints, prompts
from inspector.detection.adapters import Adapters, Shape, load_adapters
from inspector.detection.matching import Matching
from inspector.detection.memory import BatchLimit
from inspector.detection.scoring import Canvas
from inspector.detection.towers import ConvTower, Tokens, Tower, VitTower
from inspector.errors import EncoderError
from inspector.types import ImageArray, check_image

WEIGHTS = Path(__file__).with_name("weights")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

log = logging.getLogger(__name__)


class TowerSettings(BaseModel):
    """What open_clip's configuration does not say; stands beside it as `NAME.inspector.json`.

    `matching` suits the tower, `taps`, `grid_side` and `image_size` are its defaults, `text_tower` false says that its
    text tower was never trained.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    matching: Matching = Matching()
    taps: tuple[int, ...] | None = None
    grid_side: int | None = Field(None, ge=2)
    text_tower: bool = True
    image_size: int | None = Field(None, ge=32)


@dataclass(frozen=True)
class Source:
    """Where a tower comes from: open_clip's name of the model, its weights, our settings, and whose name people see.

    `preprocess` are open_clip's preprocessing keys of a model configuration that brings its own.
    """

    shown: str
    model_name: str
    pretrained: str
    settings: TowerSettings
    preprocess: dict[str, Any]


@dataclass(frozen=True)
class Identity:
    """What an encoder's numbers depend on besides its tower; `fingerprint` is the SHA-256 over all of it.

    `tower_fingerprint` leaves out precision and image size: adapters are made on one machine and used on another.
    """

    name: str
    fingerprint: str
    tower_fingerprint: str
    image_size: int
    matching: Matching
    device: torch.device
    precision: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Encoder:
    """A frozen image tower with everything that belongs to its numbers; made by `load_encoder`."""

    def __init__(self, tower: Tower, identity: Identity, text_residual: Tensor | None) -> None:
        self.name = identity.name
        self.fingerprint = identity.fingerprint
        self.tower_fingerprint = identity.tower_fingerprint
        self.image_size = identity.image_size
        self.canvas = Canvas.square(identity.image_size)
        self.matching = identity.matching
        self.device = identity.device
        self.precision = identity.precision
        self.taps = tower.taps
        self.grids = tower.grids
        self.text_residual = text_residual
        self.adapters: Adapters | None = None
        self.limit = BatchLimit()
        self.dtype = DTYPES[identity.precision]
        self.tower = tower
        self._mean = torch.tensor(identity.mean, device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(identity.std, device=self.device).view(1, 3, 1, 1)

    @property
    def adapter_shape(self) -> Shape:
        """What adapters of this encoder must fit; encodes a blank picture to see the widths."""
        tokens = self.tokens(torch.zeros(1, 3, self.image_size, self.image_size, device=self.device))
        widths = tuple(tap.shape[2] for tap in tokens.taps)
        return Shape(widths, self.grids, widths[-1] if self.has_text else None)

    @property
    def has_text(self) -> bool:
        """Whether the text and residual branches are on."""
        return self.text_residual is not None

    def prepare(self, images: Sequence[ImageArray]) -> Tensor:
        """RGB pictures of any size to normalised float32 `[B, 3, S, S]`; one of S×S is not resampled.

        Each picture is resized alone, in uint8 on the CPU, so it looks the same in any batch and on any device.
        """
        pixels = torch.cat([self._resized(image) for image in images])
        if self.device.type == "cuda":
            pixels = pixels.pin_memory().to(self.device, non_blocking=True)
        return (pixels.float() / 255.0 - self._mean) / self._std

    def encode(self, images: Sequence[ImageArray]) -> Tokens:
        """Encode RGB uint8 pictures of any size; all taps in one pass."""
        with torch.inference_mode():
            return self.tokens(self.prepare(images))

    def tokens(self, pixels: Tensor) -> Tokens:
        """Encode what `prepare` gave."""
        with torch.inference_mode():
            return self.tower(pixels.to(self.dtype))

    def _resized(self, image: ImageArray) -> Tensor:
        """uint8 `[1, 3, S, S]`, bicubic with antialias, no crop."""
        check_image(image)
        S = self.image_size
        planes = (
            torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1).unsqueeze(0)
        )  # [1, 3, H, W]
        if image.shape[:2] == (S, S):
            return planes
        return fn.interpolate(planes, size=(S, S), mode="bicubic", align_corners=False, antialias=True)


def load_encoder(config: EncoderConfig) -> Encoder:
    """Build the image tower that the configuration names, with its weights.

    Raises:
        EncoderError: unknown model, missing or unfit weights, or a device or precision that is not there.
    """
    if config.threads:
        torch.set_num_threads(config.threads)  # of the whole process: it runs one encoder
    device = _device(config.device)
    precision = _precision(config.precision, device)
    source = _source(config)
    model, model_keys, text_is_loaded = _build(source)
    visual, settings = model.visual, source.settings
    is_vit = hasattr(visual, "transformer")
    with_text = settings.text_tower and text_is_loaded and is_vit
    text_residual = _text_residual(model, source) if with_text else None
    if is_vit and not with_text:
        log.warning("%s: no trained text tower; only the visual branch scores", source.shown)
    preprocess = open_clip.get_model_preprocess_cfg(model) | source.preprocess
    weights = _digest(visual.state_dict())
    # The weights and not R_t: two processors compute it differently in the last bit, and are one encoder all the same.
    text_weights = _digest(_without_visual(model.state_dict())) if with_text else None
    del model  # the text tower is not needed again
    visual = visual.requires_grad_(False).eval().to(device=device, dtype=DTYPES[precision])
    image_size = config.image_size or settings.image_size or _side(visual.image_size)
    taps = tuple(config.taps) if config.taps else settings.taps
    tower: Tower = (
        VitTower(visual, image_size, taps, with_joint=with_text)
        if is_vit
        else ConvTower(visual, image_size, taps, settings.grid_side)
    )
    of_tower = {
        "model": model_keys,
        "weights": weights,
        "text": text_weights,
        "taps": tower.taps,
        "matching": asdict(settings.matching),
        "mean": preprocess["mean"],
        "std": preprocess["std"],
    }
    of_use = {"grids": tower.grids, "image_size": image_size, "precision": precision}
    identity = Identity(
        name=source.shown,
        fingerprint=_fingerprint(of_tower | of_use),
        tower_fingerprint=_fingerprint(of_tower),
        image_size=image_size,
        matching=settings.matching,
        device=device,
        precision=precision,
        mean=tuple(preprocess["mean"]),
        std=tuple(preprocess["std"]),
    )
    encoder = Encoder(tower, identity, None if text_residual is None else text_residual.to(device))
    return encoder if config.adapters is None else _adapted(encoder, Path(config.adapters))


def _adapted(encoder: Encoder, path: Path) -> Encoder:
    """The encoder with adapters; what it scores depends on them, so its fingerprint does too."""
    encoder.adapters = load_adapters(path, encoder.adapter_shape, encoder.tower_fingerprint).to(encoder.device)
    both = f"{encoder.fingerprint}+{encoder.adapters.digest}"
    encoder.fingerprint = hashlib.sha256(both.encode()).hexdigest()
    return encoder


def write_random_checkpoint(name: str, path: Path) -> None:
    """Weights that say nothing, in half precision, for measuring time; `name` as in `encoder.name`.

    Raises:
        EncoderError: unknown model, or the file cannot be written.
    """
    source = _source(EncoderConfig(name=name, pretrained=str(path)))
    torch.manual_seed(0)
    model = build_unloaded(source.model_name, source.shown)
    state = {key: value.half() if value.is_floating_point() else value for key, value in model.state_dict().items()}
    try:
        safetensors.torch.save_file({key: value.contiguous() for key, value in state.items()}, path)
    except OSError as error:
        raise EncoderError(f"{path}: cannot be written: {error.strerror}") from error


def untrained_model(model_path: Path) -> nn.Module:
    """open_clip's model of a configuration file as it is before training, fp32; nothing scores with it.

    Raises:
        EncoderError: not a model configuration, or one that open_clip cannot build.
    """
    model: nn.Module = build_unloaded(_registered(model_path)[0], model_path.stem)
    return model


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise EncoderError(f"encoder.device is {name!r}; expected auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise EncoderError(f"encoder.device is {name!r}; expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise EncoderError(
            f"encoder.device is {name!r}, but torch sees {torch.cuda.device_count()} GPUs; set it to auto or cpu"
        )
    return device


def _precision(name: str, device: torch.device) -> str:
    """auto is fp16 on a GPU, and bf16 on a CPU that multiplies it itself; elsewhere bf16 is slower than fp32."""
    if name == "auto":
        if device.type == "cuda":
            return "fp16"
        able: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # an older torch does not say
        return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "fp32"
    if name == "fp16" and device.type != "cuda":
        raise EncoderError("encoder.precision fp16 needs a GPU; on a CPU take auto, fp32 or bf16")
    return name


def _source(config: EncoderConfig) -> Source:
    """Find model, weights and settings; a model configuration file becomes known to open_clip here."""
    if config.name == "embedded":
        path = WEIGHTS / "embedded.json"
        pretrained = config.pretrained or str(WEIGHTS / "embedded.safetensors")
        name, preprocess = _registered(path)
        return Source("embedded", name, pretrained, _settings(path), preprocess)
    if config.pretrained is None:
        raise EncoderError(
            f"encoder.name is {config.name!r}, but encoder.pretrained is missing; name an open_clip tag or a "
            "checkpoint file. A tower without weights gives no verdicts."
        )
    shown = f"{Path(config.name).stem}:{Path(config.pretrained).name}"
    if config.name.endswith(".json"):
        name, preprocess = _registered(Path(config.name))
        return Source(shown, name, config.pretrained, _settings(Path(config.name)), preprocess)
    if config.name not in open_clip.list_models():
        raise EncoderError(
            f"open_clip knows no model {config.name!r}; see open_clip.list_models(), or give the path of a "
            "model configuration that ends in .json"
        )
    return Source(shown, config.name, config.pretrained, TowerSettings(), {})


def _settings(model_path: Path) -> TowerSettings:
    path = model_path.with_suffix(".inspector.json")
    if not path.exists():
        return TowerSettings()
    try:
        return TowerSettings.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise EncoderError(f"{path}: not valid settings of a tower: {error}") from error


def _registered(path: Path) -> tuple[str, dict[str, Any]]:
    """Make a model configuration known to open_clip; its name there, and its own preprocessing keys.

    The file is open_clip's: a model configuration, or the `open_clip_config.json` of a hub folder, which holds one. The
    name comes from the content, for two files of one name must not become one model.
    """
    try:
        keys = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(f"{path}: cannot be read as an open_clip model configuration: {error}") from error
    model_keys = keys.get("model_cfg", keys) if isinstance(keys, dict) else None
    if not isinstance(model_keys, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= model_keys.keys():
        raise EncoderError(f"{path}: an open_clip model configuration has embed_dim, vision_cfg and text_cfg")
    text = json.dumps(model_keys, sort_keys=True)
    name = f"inspector-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    if name not in open_clip.list_models():
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / f"{name}.json"
            copy.write_text(text, encoding="utf-8")
            open_clip.add_model_config(copy)
    preprocess = keys.get("preprocess_cfg", {})
    return name, {key: preprocess[key] for key in ("mean", "std") if key in preprocess}


def _build(source: Source) -> tuple[Any, dict[str, Any], bool]:
    """The open_clip model with its weights, its configuration, and whether its text tower has weights."""
    keys: dict[str, Any] = open_clip.get_model_config(source.model_name)
    if not source.pretrained.endswith(checkpoints.SUFFIXES):
        return _from_hub(source, keys), keys, True
    path = Path(source.pretrained)
    state = checkpoints.read_checkpoint(path)
    model = build_unloaded(source.model_name, source.shown)
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)  # older checkpoints have the text tower at the top
    return model, keys, checkpoints.load_checkpoint(model, state, path)


def build_unloaded(model_name: str, shown: str, device: str = "cpu") -> Any:
    """open_clip's model without weights; `embedded_tower`, imported above, has made its tower known to timm.

    Raises:
        EncoderError: open_clip cannot build it; `shown` is whose name people see.
    """
    try:
        with _without_warning_of_random_weights():
            return open_clip.create_model(model_name, load_weights=False, pretrained_text=False, device=device)
    except Exception as error:  # open_clip raises many kinds for a bad configuration, all mean the same here
        raise EncoderError(f"{shown}: open_clip cannot build this model: {error}") from error


def _from_hub(source: Source, keys: dict[str, Any]) -> Any:
    name, tag = source.model_name, source.pretrained
    known = open_clip.list_pretrained_tags_by_model(name)
    if tag not in known:
        raise EncoderError(
            f"encoder.pretrained is {tag!r}; {name} has the tags {', '.join(known) or 'none'}. A checkpoint file ends "
            "in .safetensors or .pt."
        )
    quick = bool((open_clip.get_pretrained_cfg(name, tag) or {}).get("quick_gelu", False))
    keys["quick_gelu"] = quick  # the activation is the weights' own, whatever the model's name says
    try:
        return open_clip.create_model(name, pretrained=tag, force_quick_gelu=quick, weights_only=True)
    except Exception as error:  # the hub client raises many kinds; the user needs to know one thing
        raise EncoderError(
            f"the weights {tag!r} of {name} cannot be fetched: {error}. On a machine without internet, copy the "
            "checkpoint and set encoder.pretrained to its path."
        ) from error


@contextmanager
def _without_warning_of_random_weights() -> Iterator[None]:
    """open_clip warns that the model is random; it is for a moment, and its weights follow or loading fails."""

    def keep(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("No pretrained weights loaded")

    root = logging.getLogger()
    root.addFilter(keep)
    try:
        yield
    finally:
        root.removeFilter(keep)


def _text_residual(model: Any, source: Source) -> Tensor:
    """R_t = normalize(t_a − t_n), `[D]`, from the text tower, once."""
    try:
        tokenizer = open_clip.get_tokenizer(source.model_name)
    except Exception as error:  # tokenizers of the hub raise many kinds; the user needs to know one thing
        raise EncoderError(f"the tokenizer of {source.shown} cannot be loaded: {error}") from error
    model.eval()
    means = []
    with torch.inference_mode():
        for phrases in (prompts.ANOMALOUS, prompts.NORMAL):
            embedded = fn.normalize(model.encode_text(tokenizer(prompts.sentences(phrases))).float(), dim=-1)
            means.append(fn.normalize(embedded.mean(dim=0), dim=-1))
    return fn.normalize(means[0] - means[1], dim=-1)


def _side(image_size: Any) -> int:
    sides = set(image_size) if isinstance(image_size, tuple | list) else {image_size}
    if len(sides) != 1:
        raise EncoderError(f"the model's input is {tuple(image_size)} px; only square inputs are supported")
    return int(sides.pop())


def _without_visual(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not key.startswith(checkpoints.IMAGE_PREFIX)}


def _fingerprint(matters: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(matters, sort_keys=True).encode()).hexdigest()


def _digest(state: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
