"""The judge of the adapted mode: section 5 with the adapters of section 6, in float64, a loop for every convolution."""

import math

import numpy as np

from inspector.detection.adapters import Adapters, MultiScaleConvAdapter, ResidualAdapter
from tests.detection.judge import Array, Judgement, Seen, enlarged, residuals, smooth, top, unit


def _weights(module: object) -> dict[str, Array]:
    return {name: value.detach().double().numpy() for name, value in module.state_dict().items()}  # type: ignore[attr-defined]


def _layer_norm(x: Array, scale: Array, shift: Array) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5) * scale + shift


def residual_adapter(module: ResidualAdapter, x: Array) -> Array:
    w = _weights(module)
    inner = _layer_norm(x, w["norm.weight"], w["norm.bias"]) @ w["down.weight"].T
    raised = inner * 0.5 * (1.0 + np.vectorize(math.erf)(inner / math.sqrt(2.0)))
    return x + raised @ w["up.weight"].T


def conv_adapter(module: MultiScaleConvAdapter, x: Array, grid: tuple[int, int]) -> Array:
    """`[N, D]`."""
    w = _weights(module)
    h = np.maximum(0.0, _layer_norm(x, w["norm.weight"], w["norm.bias"]) @ w["down.weight"].T + w["down.bias"])
    joined = [h]
    for name, step in (("near", 1), ("far", 2)):
        kernel, bias = w[f"{name}.weight"], w[f"{name}.bias"]
        out = np.zeros_like(h)
        for i in range(grid[0]):
            for j in range(grid[1]):
                total = bias.copy()
                for dy in (-1, 0, 1):
                    for dx in (-1, 0, 1):
                        y, z = i + dy * step, j + dx * step
                        if 0 <= y < grid[0] and 0 <= z < grid[1]:
                            total += kernel[:, 0, dy + 1, dx + 1] * h[y * grid[1] + z]
                out[i * grid[1] + j] = total
        joined.append(out)
    normed = _layer_norm(np.concatenate(joined, axis=1), w["joined_norm.weight"], w["joined_norm.bias"])
    mixed = np.maximum(0.0, normed @ w["mix.weight"].T + w["mix.bias"])
    return x + mixed @ w["up.weight"].T + w["up.bias"]


def judged(query: Seen, references: list[Seen], size: int, text: Array | None, adapters: Adapters) -> Judgement:
    """Section 5, adapted: λ = 0.1, residual branch over all taps."""
    lam = 0.1
    plain = [
        residuals(query.taps[tap], [reference.taps[tap] for reference in references], query.grids[tap])
        for tap in range(len(query.taps))
    ]
    maps = []
    for module, r, grid in zip(adapters.visual, plain, query.grids, strict=True):
        changed = conv_adapter(module, r, grid)  # type: ignore[arg-type]
        maps.append(enlarged(np.sqrt((changed * changed).sum(axis=1)), grid, size))
    visual = sum(maps[1:], maps[0]) / len(maps)
    parts = {"visual_map": top(visual)}
    if text is None:
        return Judgement(smooth(visual), parts["visual_map"], parts)
    assert query.global_feature is not None
    towards = unit(residual_adapter(adapters.text, text))
    towards_residual = unit(residual_adapter(adapters.residual_text, text))
    of_text = enlarged(query.taps[-1] @ towards, query.grids[-1], size)
    along = []
    for module, r, grid in zip(adapters.residual, plain, query.grids, strict=True):
        aligned = conv_adapter(module, r, grid) @ towards_residual  # type: ignore[arg-type]
        along.append(enlarged(np.maximum(0.0, aligned), grid, size))
    residual = sum(along[1:], along[0]) / len(along)
    mean_global = unit(np.mean([reference.global_feature for reference in references], axis=0))
    changed = residual_adapter(adapters.residual_cls, (query.global_feature - mean_global)[None])[0]
    parts["text_map"] = top(of_text)
    parts["text_cls"] = float(query.global_feature @ towards)
    parts["residual_map"] = top(residual)
    parts["residual_cls"] = max(0.0, float(changed @ towards_residual))
    score = (
        0.5 * parts["text_map"]
        + 0.5 * parts["text_cls"]
        + parts["visual_map"]
        + lam * (0.5 * parts["residual_map"] + 0.5 * parts["residual_cls"])
    )
    return Judgement(smooth(0.1 * of_text + visual + lam * residual), score, parts)
