"""Small open_clip models with random weights, written as files, for tests of the encoder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file

from inspector.config import EncoderConfig
from inspector.detection.encoder import Encoder, load_encoder
from inspector.types import ImageArray

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}


def vit_keys(depth: int = 4, *, quick_gelu: bool = False, **vision: Any) -> dict[str, Any]:
    """A ViT of 32 px with patches of 8 px, so 4×4 of them."""
    tower = {"image_size": 32, "layers": depth, "width": 32, "head_width": 16, "patch_size": 8}
    return {"embed_dim": 24, "quick_gelu": quick_gelu, "vision_cfg": tower | vision, "text_cfg": TEXT}


def resnet_keys() -> dict[str, Any]:
    """open_clip's ModifiedResNet, one block a stage."""
    tower = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16, "patch_size": None}
    return {"embed_dim": 24, "vision_cfg": tower, "text_cfg": TEXT}


def timm_keys() -> dict[str, Any]:
    """A timm trunk, its smallest ResNet."""
    tower = {"timm_model_name": "test_resnet", "timm_pool": "avg", "timm_proj": "linear", "image_size": 64}
    return {"embed_dim": 24, "vision_cfg": tower, "text_cfg": TEXT}


def write_model(folder: Path, keys: dict[str, Any], *, seed: int = 0, name: str = "small") -> tuple[Path, Path]:
    """Configuration and checkpoint of a model whose weights are all random, also those that open_clip starts at 0 or 1."""
    config = folder / f"{name}.json"
    config.write_text(json.dumps(keys))
    torch.manual_seed(seed)
    unique = f"{folder.name}-{name}"
    copy = folder / f"{unique}.json"
    copy.write_text(json.dumps(keys))
    open_clip.add_model_config(copy)
    model = open_clip.create_model(unique, load_weights=False)
    state = {}
    for key, value in model.state_dict().items():
        if not value.is_floating_point():
            state[key] = value
            continue
        spread = 0.1 if value.ndim < 2 else 0.3 * float(value.std().nan_to_num())
        state[key] = value + spread * torch.randn(value.shape)
        if key.endswith("running_var"):
            state[key] = state[key].abs() + 0.5
    checkpoint = folder / f"{name}.safetensors"
    save_file({key: value.contiguous() for key, value in state.items()}, checkpoint)
    return config, checkpoint


def write_settings(config: Path, **settings: Any) -> None:
    """Our own settings of a tower, beside its configuration."""
    config.with_suffix(".inspector.json").write_text(json.dumps(settings))


def load(config: Path, checkpoint: Path, **keys: Any) -> Encoder:
    """In float32 on the CPU, unless `keys` say otherwise."""
    values: dict[str, Any] = {"device": "cpu", "precision": "fp32"} | keys
    return load_encoder(EncoderConfig(name=str(config), pretrained=str(checkpoint), **values))


def pictures(count: int, size_px: int, *, seed: int) -> list[ImageArray]:
    """Smooth random pictures `[S, S, 3]`: neighbouring patches look alike, as in a photograph."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, 6, 6)))
        fine = torch.nn.functional.interpolate(coarse, size=(size_px, size_px), mode="bilinear", align_corners=False)
        noisy = fine[0].permute(1, 2, 0).numpy() + rng.normal(0, 8, (size_px, size_px, 3))
        found.append(np.clip(noisy, 0, 255).astype(np.uint8))
    return found
