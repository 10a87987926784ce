"""Export an encoder's image tower as ONNX, and compare it with torch before it is called done."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from inspector.detection.encoder import Encoder
from inspector.errors import EncoderError, UsageError

MAX_RELATIVE_ERROR = 1e-3
CHECK_BATCHES = (1, 3)


class _Taps(nn.Module):
    """The tower as one graph: normalised RGB `[B, 3, S, S]` to its taps `[B, N_l, D_l]`, unit rows."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.visual: nn.Module = encoder.tower.visual
        self._tower = encoder.tower

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        found = self._tower(pixels)
        joint = () if found.global_token is None else (found.global_token,)
        return (*found.taps, *joint)


def export_onnx(encoder: Encoder, path: Path) -> float:
    """Write the image tower with a free batch size; the largest relative error against torch that was seen.

    The input is what `Encoder.prepare` gives, the outputs are the taps, and the global feature where the encoder has text.

    Raises:
        EncoderError: the encoder is not fp32, or ONNX's answer is not torch's.
        UsageError: the packages are missing, or the file cannot be written.
    """
    if encoder.precision != "fp32":
        raise EncoderError(f"an ONNX export is made and compared in fp32, but the encoder is in {encoder.precision}")
    try:
        import onnxruntime  # type: ignore[import-not-found, import-untyped, unused-ignore]
        import onnxscript  # type: ignore[import-not-found, import-untyped, unused-ignore]  # noqa: F401
    except ImportError as error:
        raise UsageError("ONNX needs more packages: pip install 'inspector[onnx]'") from error
    taps = _Taps(encoder).eval()
    pixels = _checked_with(encoder, 2)
    names = [f"tap{tap}" for tap in encoder.taps] + (["global"] if encoder.has_text else [])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with torch.inference_mode():
            torch.onnx.export(
                taps,
                (pixels,),
                path,
                input_names=["pixels"],
                output_names=names,
                dynamic_shapes={"pixels": {0: torch.export.Dim("batch", min=1, max=1024)}},
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from error
    session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for count in CHECK_BATCHES:
        shown = _checked_with(encoder, count)
        with torch.inference_mode():
            expected = taps(shown)
        for mine, theirs in zip(expected, session.run(names, {"pixels": shown.numpy()}), strict=True):
            difference = np.abs(mine.numpy() - theirs).max() / np.abs(mine.numpy()).max()
            worst = max(worst, float(difference))
    if not worst <= MAX_RELATIVE_ERROR:
        path.unlink()
        raise EncoderError(
            f"{path}: ONNX differs from torch by {worst:.1e}, more than {MAX_RELATIVE_ERROR:.0e}; removed"
        )
    return worst


def _checked_with(encoder: Encoder, count: int) -> Tensor:
    """Pictures of noise with edges, as `prepare` gives them."""
    rng = np.random.default_rng(count)
    side = encoder.image_size
    coarse = rng.integers(0, 256, (count, 9, 9, 3), np.uint8)
    large = [np.kron(one, np.ones((side // 9 + 1, side // 9 + 1, 1), np.uint8))[:side, :side] for one in coarse]
    return encoder.prepare([np.ascontiguousarray(picture, np.uint8) for picture in large])
