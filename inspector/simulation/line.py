"""What comes by at which trigger, and its picture: the part on the belt, under a lamp, before a noisy sensor.

May import numpy, cv2, the parts and the defects. Three random streams that never meet: truth, pictures of the
line, references. The truth has its own, so that it is known without drawing, and so that a good and a bad
picture of one trigger differ by the defect alone.
"""

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from inspector.simulation.defects import DEFECTS, put_defect
from inspector.simulation.parts import MODELS
from inspector.simulation.relief import HEIGHT_PX, WIDTH_PX
from inspector.types import ImageArray

MaskArray = npt.NDArray[np.bool_]
"""`[H, W]` bool: True where the defect is."""

KINDS: tuple[str, ...] = tuple(MODELS)
"""Names of the kinds of parts, usable as names of products."""

_TRUTH, _LINE, _REFERENCES = 1, 2, 3
_SPARE_PX = 160
_SIZE = (WIDTH_PX, HEIGHT_PX)


def truth(seed: int, trigger: int, defect_rate: float) -> str | None:
    """The defect of the part at `trigger` (one of `DEFECTS`), or None for a good part; nothing is drawn.

    A part that is bad at one rate is bad, with the same defect, at each higher rate.
    """
    rng = _stream(_TRUTH, seed, trigger)
    chance, which = rng.random(), int(rng.integers(len(DEFECTS)))
    return DEFECTS[which] if chance < defect_rate else None


def kind_at(trigger: int, kinds: tuple[str, ...], parts_per_product: int) -> str:
    """The kind on the belt at `trigger` (counted from 1) when the line changes kinds in turn; 0 = never."""
    turn = (trigger - 1) // parts_per_product if parts_per_product else 0
    return kinds[turn % len(kinds)]


def draw_part(kind: str, seed: int, trigger: int, defect_rate: float) -> tuple[ImageArray, MaskArray | None]:
    """The picture `[480, 640, 3]` of the part at `trigger`, and where its defect is; None for a good part."""
    defect = truth(seed, trigger, defect_rate)
    return _picture(kind, defect, _stream(_LINE, seed, trigger, _number(kind)))


def draw_references(kind: str, n: int, seed: int = 0) -> list[ImageArray]:
    """`n` pictures of good parts, none of which the line shows under any seed."""
    return [_picture(kind, None, _stream(_REFERENCES, seed, k, _number(kind)))[0] for k in range(n)]


def _number(kind: str) -> int:
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, but got {kind!r}")
    return KINDS.index(kind)


def _stream(*numbers: int) -> np.random.Generator:
    return np.random.default_rng([number & 0xFFFF_FFFF_FFFF_FFFF for number in numbers])


def _picture(kind: str, defect: str | None, rng: np.random.Generator) -> tuple[ImageArray, MaskArray | None]:
    """Lay the part on the belt, light it, expose it."""
    part = MODELS[kind]()
    pose = cv2.getRotationMatrix2D((WIDTH_PX / 2, HEIGHT_PX / 2), rng.uniform(-4, 4), rng.uniform(0.99, 1.01))
    pose[:, 2] = pose[:, 2] + rng.uniform((-14, -9), (14, 9))
    belt, light, noise = (_cut(plate, rng) for plate in (_belt(), _light(), _noise()))
    gain, tint = rng.uniform(0.94, 1.05), rng.normal(0, 0.008, 3)
    layer, mask = (part.whole, None) if defect is None else put_defect(defect, part, rng)
    laid = cv2.warpAffine(layer, pose, _SIZE, flags=cv2.INTER_LINEAR, borderValue=(0, 0, 0, 255))
    through = cv2.cvtColor(laid[..., 3], cv2.COLOR_GRAY2RGB)
    scene = cv2.add(cv2.cvtColor(laid, cv2.COLOR_RGBA2RGB), cv2.multiply(belt, through, scale=1 / 255))
    scene = cv2.multiply(scene, light, scale=1 / 200)
    scale = np.clip(np.arange(256) * (gain * (1 + tint))[:, None], 0, 255)  # 3×256
    scene = cv2.LUT(scene, np.rint(scale).T.reshape(1, 256, 3).astype(np.uint8))
    image = cv2.addWeighted(scene, 1.0, noise, 1.0, -128.0)
    if mask is None:
        return np.asarray(image, dtype=np.uint8), None
    return np.asarray(image, dtype=np.uint8), cv2.warpAffine(mask, pose, _SIZE, flags=cv2.INTER_LINEAR) > 127


def _cut(plate: ImageArray, rng: np.random.Generator) -> ImageArray:
    """A piece of the picture's size from a larger plate."""
    x, y = rng.integers(0, _SPARE_PX, 2)
    return plate[y : y + HEIGHT_PX, x : x + WIDTH_PX]


@lru_cache(maxsize=1)
def _belt() -> ImageArray:
    """A woven conveyor belt, dark, with wear along its run."""
    height, width = HEIGHT_PX + _SPARE_PX, WIDTH_PX + _SPARE_PX
    rng = np.random.default_rng(41)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    weave = np.cos(x * 2 * np.pi / 7) * np.cos(y * 2 * np.pi / 7)
    speck = cv2.GaussianBlur(rng.standard_normal((height, width)).astype(np.float32), (0, 0), 0.8)
    wear = cv2.GaussianBlur(rng.standard_normal((height, width)).astype(np.float32), (0, 0), 60, sigmaY=6)
    shade = 1.0 + 0.055 * weave + 0.10 * speck / speck.std() * 0.6 + 0.05 * wear / wear.std()
    return np.asarray(np.clip(shade[..., None] * np.array([52, 66, 72]), 0, 255), dtype=np.uint8)


@lru_cache(maxsize=1)
def _light() -> ImageArray:
    """The lamp's field times 200: brightest at the upper left, falling towards the corners."""
    height, width = HEIGHT_PX + _SPARE_PX, WIDTH_PX + _SPARE_PX
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    away = np.hypot((x - 0.46 * width) / width, (y - 0.44 * height) / width)
    field = 1.07 - 0.55 * away**2 - 0.08 * away
    return np.asarray(np.rint(200 * field[..., None] * np.array([1.0, 0.995, 0.985])), dtype=np.uint8)


@lru_cache(maxsize=1)
def _noise() -> ImageArray:
    """Noise of the sensor around 128."""
    shape = (HEIGHT_PX + _SPARE_PX, WIDTH_PX + _SPARE_PX, 3)
    noise = np.random.default_rng(43).normal(0, 2.2, shape)
    return np.asarray(np.rint(128 + noise), dtype=np.uint8)
