"""Read a checkpoint file without executing anything in it, and load it into a model that it really fits.

torch and safetensors only. A checkpoint that fits by accident gives plausible, wrong numbers: every key of the image
tower must be there, no other one may be, and every value must be finite.
"""

from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from inspector.errors import EncoderError

SUFFIXES = (".safetensors", ".pt")
IMAGE_PREFIX = "visual."
UNUSED_KEYS = frozenset({"logit_scale", "logit_bias", "attn_mask"})
"""Keys of open_clip's models that neither tower uses when it encodes."""


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Tensors of a `.safetensors` file, or of a `.pt` file read as weights only.

    Raises:
        EncoderError: missing, truncated, or anything but a dictionary of tensors.
    """
    if not path.is_file():
        raise EncoderError(f"{path}: no such checkpoint; set encoder.pretrained to a .safetensors or .pt file")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError) as error:
        raise EncoderError(f"{path}: truncated, or not a safetensors file: {error}") from error
    except Exception as error:  # torch.load has no error class of its own; whatever it is, nothing was executed
        raise EncoderError(
            f"{path}: cannot be read as weights only ({type(error).__name__}); save its state_dict as .safetensors"
        ) from error
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise EncoderError(f"{path}: expected a dictionary of tensors; save the model's state_dict as .safetensors")
    return {str(key).removeprefix("module."): value for key, value in loaded.items()}


def load_checkpoint(model: nn.Module, state: dict[str, Tensor], path: Path) -> bool:
    """Load `state` into an open_clip model; whether its text tower was among the tensors.

    Raises:
        EncoderError: a checkpoint of another model, with half a text tower, or with values that are not finite.
    """
    wanted = model.state_dict()
    faults = [f"{key} is missing" for key in _needed(wanted) if key not in state and key.startswith(IMAGE_PREFIX)]
    faults += [f"{key} is unknown" for key in state if key not in wanted and key.startswith(IMAGE_PREFIX)]
    faults += [
        f"{key} has shape {tuple(value.shape)} instead of {tuple(wanted[key].shape)}"
        for key, value in state.items()
        if key in wanted and value.shape != wanted[key].shape
    ]
    text = [key for key in _needed(wanted) if not key.startswith(IMAGE_PREFIX)]
    absent = [key for key in text if key not in state]
    if absent and len(absent) < len(text):
        faults.append(f"{absent[0]} of the text tower is missing")
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise EncoderError(f"{path}: not a checkpoint of this model: {faults[0]}{more}")
    bad = [key for key, value in state.items() if value.is_floating_point() and not bool(torch.isfinite(value).all())]
    if bad:
        raise EncoderError(f"{path}: {bad[0]} holds values that are not finite; fetch the checkpoint again")
    model.load_state_dict({key: value for key, value in state.items() if key in wanted}, strict=False)
    return bool(text) and not absent


def _needed(keys: dict[str, Tensor]) -> list[str]:
    return [key for key in keys if key not in UNUSED_KEYS and not key.endswith("num_batches_tracked")]
