"""From a height map to a lit surface: the few optics that make a drawn part look like a photographed one.

Pure functions on float32 arrays of the supersampled canvas; may import numpy and cv2 only. Coordinates are
pixels of the finished 640×480 picture with the origin in its centre: a part is described once, whatever the
supersampling.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

WIDTH_PX, HEIGHT_PX = 640, 480
SUPERSAMPLING = 2

Plane = npt.NDArray[np.float32]
"""`[H·2, W·2]` float32: a height in px, a coverage 0..1, or a distance in px."""
Colour = npt.NDArray[np.float32]
"""`[H·2, W·2, 3]` float32: RGB, 0..1."""
Layer = npt.NDArray[np.uint8]
"""`[H, W, 4]` uint8: light of the part (RGB times its coverage), and how much of the belt is seen."""


@dataclass(frozen=True, eq=False)
class PartModel:
    """One kind of part as it lies under the camera, with all that a defect needs to know of it.

    `whole` is the good part, `bare` the same without its countable features, `unprinted` without its print,
    `broken` what is seen where it broke. All in px: `features` (x, y, radius), `edges` (x, y) where material
    can break, `print_box` (x, y, width, height), `surface` (x, y) where dirt and scratches may lie.
    """

    whole: Layer
    bare: Layer
    unprinted: Layer
    broken: Layer
    features: tuple[tuple[float, float, float], ...]
    edges: tuple[tuple[float, float], ...]
    print_box: tuple[int, int, int, int]
    scratch_rgb: tuple[int, int, int]
    stain_rgb: tuple[float, float, float]
    fracture_rgb: tuple[int, int, int]
    surface: npt.NDArray[np.int32] = field(repr=False)


def f32(values: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """The values as float32: half the memory and time of what mixed arithmetic gives."""
    return np.asarray(values, dtype=np.float32)


def canvas() -> tuple[Plane, Plane]:
    """x and y of each supersampled pixel, in px from the centre of the picture."""
    xs = (np.arange(WIDTH_PX * SUPERSAMPLING, dtype=np.float32) + 0.5) / SUPERSAMPLING - WIDTH_PX / 2
    ys = (np.arange(HEIGHT_PX * SUPERSAMPLING, dtype=np.float32) + 0.5) / SUPERSAMPLING - HEIGHT_PX / 2
    x, y = np.meshgrid(xs, ys)
    return f32(x), f32(y)


def inside(distance_px: Plane) -> Plane:
    """Coverage 0..1 of a shape from its signed distance, negative inside, with an edge of one px."""
    return f32(np.clip(0.5 - distance_px, 0.0, 1.0))


def step(value: Plane, start: float, end: float) -> Plane:
    """Smooth step from 0 at `start` to 1 at `end`."""
    t = np.clip((value - start) / (end - start), 0.0, 1.0)
    return f32(t * t * (3.0 - 2.0 * t))


def rounded_box(x: Plane, y: Plane, half_width_px: float, half_height_px: float, radius_px: float) -> Plane:
    """Signed distance to a rectangle with round corners around the origin."""
    dx, dy = np.abs(x) - (half_width_px - radius_px), np.abs(y) - (half_height_px - radius_px)
    outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
    return f32(outside + np.minimum(np.maximum(dx, dy), 0) - radius_px)


def grain(seed: int, sigma_px: float) -> Plane:
    """Smooth noise of mean 0 and deviation 1 with spots of about `sigma_px`."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((HEIGHT_PX * SUPERSAMPLING, WIDTH_PX * SUPERSAMPLING), dtype=np.float32)
    if sigma_px > 0:
        noise = f32(cv2.GaussianBlur(noise, (0, 0), sigma_px * SUPERSAMPLING))
    return f32(noise / noise.std())


def lit(height_px: Plane, albedo: Colour, gloss: float, shininess: float) -> Colour:
    """Light `[H·2, W·2, 3]` from a surface under a soft lamp at the upper left (Lambert and Blinn-Phong).

    Cavities are darkened by the difference to their surroundings, a cheap ambient occlusion.
    """
    slope_x = cv2.Sobel(height_px, cv2.CV_32F, 1, 0, ksize=3, scale=SUPERSAMPLING / 8)
    slope_y = cv2.Sobel(height_px, cv2.CV_32F, 0, 1, ksize=3, scale=SUPERSAMPLING / 8)
    length = np.sqrt(slope_x**2 + slope_y**2 + 1.0)
    lamp = np.array([-0.42, -0.52, 0.74]) / np.linalg.norm([-0.42, -0.52, 0.74])
    half = lamp + np.array([0.0, 0.0, 1.0])  # between the lamp and the camera, which looks straight down
    half = half / np.linalg.norm(half)
    diffuse = np.clip((-slope_x * lamp[0] - slope_y * lamp[1] + lamp[2]) / length, 0, 1)
    mirror = np.clip((-slope_x * half[0] - slope_y * half[1] + half[2]) / length, 0, 1) ** shininess
    wide = cv2.GaussianBlur(height_px, (0, 0), 7.0 * SUPERSAMPLING)
    open_sky = np.clip(1.0 + 0.05 * (height_px - wide), 0.55, 1.12)
    light = (0.34 + 0.84 * diffuse) * open_sky
    return f32(albedo * light[..., None] + gloss * mirror[..., None])


def printed(lines: tuple[tuple[str, float, float, float], ...]) -> Plane:
    """Coverage of printed text; a line is (text, x of its middle, y of its base, letter height), in px."""
    ink = np.zeros((HEIGHT_PX * SUPERSAMPLING, WIDTH_PX * SUPERSAMPLING), np.uint8)
    for text, middle_px, base_px, letter_px in lines:
        scale = letter_px * SUPERSAMPLING / 22.0  # Hershey capitals are about 22 px high at scale 1
        (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 2)
        where = (
            int((middle_px + WIDTH_PX / 2) * SUPERSAMPLING - width / 2),
            int((base_px + HEIGHT_PX / 2) * SUPERSAMPLING),
        )
        cv2.putText(ink, text, where, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, 3, cv2.LINE_AA)
    return f32(ink / 255)


def finish(light: Colour, coverage: Plane, through: Plane) -> Layer:
    """The finished layer of a part: scaled down, times its coverage, with its soft shadow on the belt.

    `through` is the share 0..1 of the belt that is seen inside a hole of the part.
    """
    shadow = cv2.GaussianBlur(coverage, (0, 0), 9.0 * SUPERSAMPLING)
    move = np.array([[1, 0, 7 * SUPERSAMPLING], [0, 1, 9 * SUPERSAMPLING]], np.float32)
    shadow = cv2.warpAffine(shadow, move, (shadow.shape[1], shadow.shape[0]))
    belt = (1.0 - coverage) * (1.0 - 0.62 * shadow) + coverage * through
    part = np.clip(light, 0, 1) * (coverage * (1.0 - through))[..., None]
    layer = np.dstack([part, belt]).astype(np.float32)
    small = cv2.resize(layer, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(np.rint(np.clip(small, 0, 1) * 255), dtype=np.uint8)


def surface_points(layer: Layer, margin_px: int) -> npt.NDArray[np.int32]:
    """Points (x, y) `[n, 2]` of the part that are at least `margin_px` from its edges and holes."""
    solid = (layer[..., 3] < 8).astype(np.uint8)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin_px + 1, 2 * margin_px + 1))
    ys, xs = np.nonzero(cv2.erode(solid, disc))
    return np.column_stack([xs, ys]).astype(np.int32)
