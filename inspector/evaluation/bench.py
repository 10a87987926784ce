"""Measures what a picture costs: milliseconds per stage, pictures per second, memory, and how much faster than plain.

Everything is measured in one run on one machine; ratios of two runs say more about the machines than about the code.
"""

import ctypes
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as fn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from inspector.detection import scoring
from inspector.detection.bank import ResidualBank
from inspector.detection.detector import Detector
from inspector.detection.encoder import Encoder
from inspector.detection.matching import matched_residuals, prepared
from inspector.detection.plain import plain_score
from inspector.detection.towers import Tokens
from inspector.images import decode_image, encode_jpeg
from inspector.types import Calibration, ImageArray, Step

CAMERA_HW = (960, 1280)
MIN_TIME_S = 0.6
MIN_REPEATS, MAX_REPEATS = 3, 30
SLOW_S = 3.0
"""What takes longer than this is measured twice, and the shorter time counts."""
MEMORY_SHOTS = (1, 2, 4, 8, 16, 32, 64)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """One (shots, batch): milliseconds per picture and stage, against the plain path with the same references."""

    shots: int
    batch: int
    ms: dict[str, float]
    images_per_s: float
    plain_ms: float | None
    ratio: float | None


@dataclass(frozen=True)
class Memory:
    """What a bank of `shots` references takes: tokens of one, its copy for the search, and the peak while matching."""

    shots: int
    bytes_per_reference: int
    search_bytes_per_reference: int
    peak_bytes: int | None


@dataclass(frozen=True)
class Bench:
    """All figures of one run."""

    device: str
    processor: str
    torch: str
    threads: int
    encoder: str
    precision: str
    image_size: int
    matching: str
    matrix_peak_gflop_s: float
    tower_gflop: float
    tower_share_of_peak: dict[int, float] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def bench(encoder: Encoder, plain: Encoder | None, shots: Sequence[int], batches: Sequence[int], say: Say) -> Bench:
    """Measure `encoder`; `plain` is the same tower in fp32 for the plain path, or None to leave it out."""
    say("matrix product")
    found = Bench(
        device=_device_name(encoder.device),
        processor=_processor(),
        torch=torch.__version__,
        threads=torch.get_num_threads(),
        encoder=encoder.name,
        precision=encoder.precision,
        image_size=encoder.image_size,
        matching=encoder.matching.kind,
        matrix_peak_gflop_s=round(matrix_peak(encoder) / 1e9, 1),
        tower_gflop=round(_tower_flop(encoder) / 1e9, 3),
    )
    pictures = _pictures(max(batches))
    for count in shots:
        say(f"K = {count}: bank")
        detector = _detector(encoder, count)
        plain_ms = None
        if plain is not None:
            say(f"K = {count}: plain path")
            bank = _bank(plain, count)
            file = encode_jpeg(pictures[0])
            plain_ms = _ms(lambda bank=bank, file=file: plain_score(plain, bank, decode_image(file)), plain)  # type: ignore[misc]
        for batch in batches:
            say(f"K = {count}, batch of {batch}")
            ms = {name: value / batch for name, value in _stages(detector, pictures[:batch])}
            total = ms["total"]
            ratio = None if plain_ms is None else round(plain_ms / total, 2)
            rounded = {name: round(value, 3) for name, value in ms.items()}
            found.runs.append(
                Run(count, batch, rounded, round(1000 / total, 2), plain_ms and round(plain_ms, 2), ratio)
            )
            share = found.tower_gflop / (ms["tower"] / 1000) / found.matrix_peak_gflop_s
            found.tower_share_of_peak[batch] = round(share, 3)
    for count in MEMORY_SHOTS:
        say(f"memory at K = {count}")
        found.memory.append(_memory(encoder, count))
    return found


def _stages(detector: Detector, pictures: Sequence[ImageArray]) -> Iterator[tuple[str, float]]:
    """Milliseconds of each stage for the whole batch."""
    encoder, bank = detector.encoder, detector.bank
    files = [encode_jpeg(picture) for picture in pictures]
    pixels = encoder.prepare(pictures)
    tokens = encoder.tokens(pixels)
    laid_out = [prepared(r, g, encoder.matching, encoder.dtype) for r, g in zip(bank.taps, encoder.grids, strict=True)]

    def match() -> tuple[Tensor, ...]:
        return tuple(matched_residuals(q, r) for q, r in zip(tokens.taps, laid_out, strict=True))

    with torch.inference_mode():
        residuals = match()
    sizes = [(picture.shape[0], picture.shape[1]) for picture in pictures]
    evidence = scoring.Evidence(residuals, encoder.grids)
    if encoder.has_text and tokens.global_token is not None and bank.mean_global is not None:
        difference = tokens.global_token - bank.mean_global
        evidence = replace(evidence, tokens=tokens.joint, global_token=tokens.global_token, global_residual=difference)

    def maps() -> object:
        return scoring.score(evidence, encoder.text_residual, encoder.canvas, encoder.adapters)

    yield "decode", _ms(lambda: [decode_image(file) for file in files], encoder)
    yield "prepare", _ms(lambda: encoder.prepare(pictures), encoder)
    yield "tower", _ms(lambda: encoder.tokens(pixels), encoder)
    matching_ms, maps_ms = _ms(match, encoder), _ms(maps, encoder)
    yield "matching", matching_ms
    yield "maps", maps_ms
    yield "verdict", max(0.0, _ms(lambda: detector.judge(tokens, sizes), encoder) - matching_ms - maps_ms)
    yield "total", _ms(lambda: detector.inspect([decode_image(file) for file in files]), encoder)


def _ms(work: Callable[[], object], encoder: Encoder) -> float:
    """Median milliseconds of `work`, after one run that is not counted (unless it is slow)."""

    def once() -> float:
        _wait_for(encoder)
        started = time.perf_counter()
        with torch.inference_mode():
            work()
        _wait_for(encoder)
        return time.perf_counter() - started

    first = once()
    if first > SLOW_S:
        return min(first, once()) * 1000
    times = [once() for _ in range(min(MAX_REPEATS, max(MIN_REPEATS, int(MIN_TIME_S / max(first, 1e-4)))))]
    return statistics.median(times) * 1000


def _wait_for(encoder: Encoder) -> None:
    if encoder.device.type == "cuda":
        torch.cuda.synchronize(encoder.device)


def matrix_peak(encoder: Encoder) -> float:
    """Operations a second of the largest matrix products that this device does in the encoder's precision."""
    side = 8192 if encoder.device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=encoder.device).to(encoder.dtype) for _ in range(2))
    best = min(_ms(lambda: a @ b, encoder) for _ in range(3))
    return float(2 * side**3 / (best / 1000))


def tower_ms(encoder: Encoder) -> float:
    """Milliseconds of one prepared picture through the tower."""
    pixels = torch.zeros(1, 3, encoder.image_size, encoder.image_size, device=encoder.device)
    return _ms(lambda: encoder.tokens(pixels), encoder)


def _tower_flop(encoder: Encoder) -> float:
    """Floating-point operations of one picture through the tower."""
    pixels = torch.zeros(1, 3, encoder.image_size, encoder.image_size, device=encoder.device)
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):
        encoder.tokens(pixels)
    return float(counter.get_total_flops())


def _pictures(count: int) -> list[ImageArray]:
    """Smooth noise of a camera's size: textures cost decoding and resizing what photographs cost."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, 60, 80)))
        fine = fn.interpolate(coarse, size=CAMERA_HW, mode="bicubic", align_corners=False)[0].permute(1, 2, 0)
        found.append(np.clip(fine.numpy() + rng.normal(0, 4, (*CAMERA_HW, 3)), 0, 255).astype(np.uint8))
    return found


def _bank(encoder: Encoder, count: int) -> ResidualBank:
    """A bank of `count` references; one is encoded, the others are it with noise, for the tower's time is not asked."""
    one = ResidualBank.build(encoder, _pictures(1))
    generator = torch.Generator().manual_seed(0)

    def many(tokens: Tensor) -> Tensor:
        """`[1, …, D]` to `[K, …, D]`, unit rows."""
        noise = torch.randn((count, *tokens.shape[1:]), generator=generator).to(tokens)
        return fn.normalize(tokens + 0.5 * noise / tokens.shape[-1] ** 0.5, dim=-1)

    return replace(
        one,
        taps=tuple(map(many, one.taps)),
        global_tokens=None if one.global_tokens is None else many(one.global_tokens),
        references=one.references * count,
    )


def _detector(encoder: Encoder, count: int) -> Detector:
    """A detector with a threshold that rejects, so that regions are a part of the time."""
    strict = Calibration(Step.PROVISIONAL, count, -1e6, (0.0,))
    return Detector(encoder, replace(_bank(encoder, count), calibration=strict, pixel_threshold=0.0))


def _memory(encoder: Encoder, count: int) -> Memory:
    bank = _bank(encoder, count)
    tokens = encoder.encode(_pictures(1))
    search: list[int] = []

    def work(tokens: Tokens = tokens) -> None:
        with torch.inference_mode():
            for query, references, grid in zip(tokens.taps, bank.taps, encoder.grids, strict=True):
                laid_out = prepared(references, grid, encoder.matching, encoder.dtype)
                search.append(0 if laid_out.search.dtype == torch.float32 else laid_out.search.nbytes // count)
                matched_residuals(query, laid_out)

    peak = _peak_bytes(work, encoder)
    return Memory(count, bank.bytes_per_reference, sum(search), peak)


def _peak_bytes(work: Callable[[], object], encoder: Encoder) -> int | None:
    """Memory that `work` takes at its worst, beyond what was taken before; None where the system does not say."""
    if encoder.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(encoder.device)
        before = torch.cuda.memory_allocated(encoder.device)
        work()
        return int(torch.cuda.max_memory_allocated(encoder.device)) - before
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    with suppress(OSError, AttributeError, TypeError):  # glibc keeps freed memory, which would hide what is taken again
        ctypes.CDLL(None).malloc_trim(0)
    try:
        reset.write_text("5")  # forget the highest resident size so far
        before = _status_bytes(status, "VmRSS")
        work()
        return max(0, _status_bytes(status, "VmHWM") - before)
    except OSError:  # not Linux, or a container that does not allow it
        work()
        return None


def _status_bytes(status: Path, key: str) -> int:
    line = next(line for line in status.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def _processor() -> str:
    able: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return str(able.get("cpu_name") or platform.processor())


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
