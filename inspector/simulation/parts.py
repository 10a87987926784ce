"""The three kinds of parts: a machined flange, a blister pack and a moulded gear.

Each is described by heights, colours and gloss and rendered once per process; may import numpy, cv2 and the
relief only.
"""

from functools import lru_cache

import cv2
import numpy as np

from inspector.simulation.relief import (
    HEIGHT_PX,
    WIDTH_PX,
    Colour,
    Layer,
    PartModel,
    Plane,
    canvas,
    f32,
    finish,
    grain,
    inside,
    lit,
    printed,
    rounded_box,
    step,
    surface_points,
)


def _ring_points(count: int, radius_px: float, first_rad: float = 0.0) -> list[tuple[float, float]]:
    """`count` points around the centre, in px of the picture."""
    angles = [first_rad + 2 * np.pi * k / count for k in range(count)]
    return [(WIDTH_PX / 2 + radius_px * np.cos(a), HEIGHT_PX / 2 + radius_px * np.sin(a)) for a in angles]


def _tint(rgb: tuple[float, float, float], shade: Plane) -> Colour:
    return f32(shade[..., None] * np.array(rgb, np.float32))


def _inked(light: Colour, ink: Plane, rgb: tuple[float, float, float], strength: float) -> Colour:
    share = (ink * strength)[..., None]
    return f32(light * (1 - share) + np.array(rgb, np.float32) * share)


def _belt_below(layer: Layer) -> Layer:
    """What is seen where the part has broken off: the belt, as light as close beside the part."""
    part = (layer[..., :3].max(axis=2) > 0).astype(np.uint8)
    beside = 1.0 - f32(cv2.dilate(part, np.ones((3, 3), np.uint8)))
    light = cv2.GaussianBlur(layer[..., 3] * beside, (0, 0), 9) / (cv2.GaussianBlur(beside, (0, 0), 9) + 1e-3)
    gone = np.zeros_like(layer)
    gone[..., 3] = np.where(beside > 0, layer[..., 3], np.clip(light, 0, 255).astype(np.uint8))
    return gone


@lru_cache(maxsize=1)
def flange() -> PartModel:
    """A turned steel flange: six bolt holes, a raised sealing face with grooves, a bore, a laser mark."""
    x, y = canvas()
    r, angle = np.hypot(x, y), np.arctan2(y, x)
    bolts = [(142 * np.cos(a), 142 * np.sin(a)) for a in np.arange(6) * np.pi / 3]
    bolt_distance = f32(np.min([np.hypot(x - bx, y - by) for bx, by in bolts], axis=0))
    rings = f32(np.interp(r, np.arange(0, 420, 0.5), np.random.default_rng(11).standard_normal(840)))
    height = 5.0 * (1 - step(r, 100, 104)) - 7.0 * step(r, 178, 187) - 6.0 * (1 - step(r, 52, 58)) + 0.05 * rings
    height -= 1.6 * (0.5 + 0.5 * np.cos((r - 66) * 2 * np.pi / 9)) * step(r, 64, 66) * (1 - step(r, 93, 95))
    # Turning marks mirror light where they run across it: the bow tie that each lathe leaves on a face.
    lathe = np.abs(np.cos(angle - np.deg2rad(-38.0))) ** 5 + 0.45 * np.abs(np.cos(angle - np.deg2rad(24.0))) ** 16
    shade = 0.50 + 0.030 * rings + 0.27 * lathe + 0.012 * grain(12, 1.0) + 0.016 * grain(13, 18.0)
    ink = printed((("DN 50", 0, 139, 15), ("PN 16", 0, 161, 15)))
    steel, dark = (0.97, 0.985, 1.0), (0.17, 0.17, 0.19)

    def render(holes: bool, mark: bool) -> Layer:
        depth = height - 9.0 * (1 - step(bolt_distance, 16, 22)) if holes else height
        light = lit(f32(depth), _tint(steel, f32(shade)), 0.10, 40)
        bore = inside(r - 52)
        opening = np.maximum(bore, inside(bolt_distance - 17)) if holes else bore
        # The wall of a hole is seen a little on the side that faces the lamp.
        wall = 0.10 + 0.22 * step(x + y, -20, 60) * bore
        light = light * (1 - opening[..., None]) + _tint(steel, f32(wall * opening))
        if mark:
            light = _inked(light, ink, dark, 0.86)
        through = np.maximum(inside(np.hypot(x + 3, y + 4) - 46), inside(bolt_distance - 13) * float(holes)) * 0.30
        return finish(f32(light), inside(r - 187), f32(through))

    whole = render(holes=True, mark=True)
    return PartModel(
        whole=whole,
        bare=render(holes=False, mark=True),
        unprinted=render(holes=True, mark=False),
        broken=_belt_below(whole),
        features=tuple((px, py, 25.0) for px, py in _ring_points(6, 142)),
        edges=tuple(_ring_points(90, 186)),
        print_box=(320 - 42, 240 + 118, 84, 50),
        scratch_rgb=(250, 251, 255),
        stain_rgb=(0.52, 0.40, 0.24),
        fracture_rgb=(214, 214, 220),
        surface=surface_points(whole, 9),
    )


@lru_cache(maxsize=1)
def blister() -> PartModel:
    """A blister pack: embossed foil, ten coated tablets under clear domes, print along the upper edge."""
    x, y = canvas()
    pills = [(72.0 * (k % 5 - 2), -26.0 + 82.0 * (k // 5)) for k in range(10)]
    pill_distance = f32(np.min([np.hypot(x - px, y - py) for px, py in pills], axis=0))
    edge = rounded_box(x, y, 206, 128, 20)
    emboss = np.cos((x + y) * 2 * np.pi / 9) * np.cos((x - y) * 2 * np.pi / 9)
    flat = step(pill_distance, 36, 39) * step(-edge, 5, 8)
    foil_height = 0.30 * emboss * flat + 2.2 * (1 - step(pill_distance, 34, 39)) - 1.5 * (1 - step(-edge, 0, 3))
    foil_shade = 0.70 + 0.035 * grain(21, 14.0) + 0.012 * grain(22, 0.8) + 0.10 * step(-x - y, -260, 260)
    foil_shade -= 0.16 * inside(np.abs(y - 15.0) - 0.8) * (np.mod(x, 10) < 5) * flat  # tear line
    foil = lit(f32(foil_height), _tint((0.97, 0.985, 1.0), f32(foil_shade)), 0.20, 30)
    dome = f32(np.sqrt(np.clip(1 - (pill_distance / 36) ** 2, 0, 1)))
    tablet = inside(pill_distance - 27)
    tablet_height = 11 * np.sqrt(np.clip(1 - (pill_distance / 28.5) ** 2, 0, 1))
    score_line = np.min([np.abs(x - px) for px, _ in pills], axis=0)
    tablet_height -= 1.8 * (1 - step(f32(score_line), 0.6, 2.6)) * step(-pill_distance, -23, -20)
    coat = f32(0.90 + 0.012 * grain(23, 1.2))
    coated = lit(f32(tablet_height), _tint((0.93, 0.50, 0.38), coat), 0.10, 25)
    # A clear dome shows as its window-like highlight and a dark rim.
    glint = np.max([np.exp(-(((x - px + 13) / 6.5) ** 2 + ((y - py + 15) / 4.5) ** 2)) for px, py in pills], axis=0)
    rim = np.exp(-(((pill_distance - 35) / 1.8) ** 2))
    ink = printed((("CALMEDOR 500 mg", -84, -86, 17), ("LOT 4C217  EXP 08/28", 104, -87, 11)))

    def render(filled: bool, mark: bool) -> Layer:
        light = foil * (1 - 0.22 * (dome > 0) * dome)[..., None]
        if mark:
            light = _inked(f32(light), ink, (0.10, 0.17, 0.42), 0.92)
        if filled:
            fall = np.exp(-((np.clip(pill_distance - 26, 0, 20) / 5.0) ** 2)) * 0.35
            light = light * (1 - fall * (1 - tablet))[..., None]
            light = light * (1 - tablet[..., None]) + coated * tablet[..., None]
        light = light * (1 - 0.30 * rim)[..., None] + (0.42 * glint)[..., None]
        return finish(f32(light), inside(edge), np.zeros_like(x))

    whole, bare = render(filled=True, mark=True), render(filled=False, mark=True)
    rims = [
        (WIDTH_PX / 2 + px + 25 * np.cos(a), HEIGHT_PX / 2 + py + 25 * np.sin(a))
        for px, py in pills
        for a in np.arange(8) * np.pi / 4
    ]
    return PartModel(
        whole=whole,
        bare=bare,
        unprinted=render(filled=True, mark=False),
        broken=bare,
        features=tuple((WIDTH_PX / 2 + px, HEIGHT_PX / 2 + py, 36.0) for px, py in pills),
        edges=tuple(rims),
        print_box=(320 - 186, 240 - 112, 372, 34),
        scratch_rgb=(58, 60, 66),
        stain_rgb=(0.48, 0.36, 0.20),
        fracture_rgb=(248, 240, 230),
        surface=surface_points(whole, 9),
    )


@lru_cache(maxsize=1)
def gear() -> PartModel:
    """A moulded gear of orange plastic: 24 teeth, ribs, a hub with a keyway, a stamped mark."""
    x, y = canvas()
    r, angle = np.hypot(x, y), np.arctan2(y, x)
    wave = np.clip(1.9 * np.cos(24 * angle), -1, 1)
    ribs = f32(np.min([np.abs(-x * np.sin(a) + y * np.cos(a)) for a in np.arange(3) * np.pi / 3], axis=0))
    web = step(r, 64, 69) * (1 - step(r, 131, 136))
    height = -8.0 * web * step(ribs, 7, 11) + 3.0 * (1 - step(r, 60, 64))
    pins = f32(np.min([np.hypot(x - px, y - py) for px, py in _centred(6, 100, np.pi / 6)], axis=0))
    upper = np.hypot(x, y + 100)
    height -= 0.9 * np.exp(-(((pins - 11) / 1.1) ** 2)) * (y < 20) + 1.4 * (1 - step(f32(upper), 2, 5))
    shade = 0.90 + 0.012 * grain(31, 0.9) + 0.020 * grain(32, 10.0) + 0.05 * step(f32(-x - y), -220, 220)
    key = np.maximum(np.abs(x) - 7, np.abs(y + 26) - 9)
    bore = inside(f32(np.minimum(r - 24, key)))
    ink = printed((("Z24", 0, 98, 15), ("M 2.5", 0, 120, 14)))

    def render(teeth: bool, mark: bool) -> Layer:
        edge = f32(r - (171.0 + 13.0 * wave) if teeth else r - 158.0)
        body = height - 4.0 * (1 - step(-edge, 0, 5))
        light = lit(f32(body), _tint((0.96, 0.55, 0.14), f32(shade)), 0.13, 22)
        inner = (0.16 + 0.30 * step(f32(x + y), -10, 34)) * bore
        light = light * (1 - bore[..., None]) + _tint((0.8, 0.42, 0.10), f32(inner))
        if mark:
            light = _inked(f32(light), ink, (0.25, 0.10, 0.03), 0.85)
        through = inside(f32(np.minimum(np.hypot(x + 2, y + 3) - 20, key + 4))) * 0.34
        return finish(f32(light), inside(edge), f32(through))

    whole = render(teeth=True, mark=True)
    return PartModel(
        whole=whole,
        bare=render(teeth=False, mark=True),
        unprinted=render(teeth=True, mark=False),
        broken=_belt_below(whole),
        features=tuple((px, py, 24.0) for px, py in _ring_points(24, 178)),
        edges=tuple(_ring_points(24, 182)),
        print_box=(320 - 36, 240 + 78, 72, 48),
        scratch_rgb=(255, 222, 178),
        stain_rgb=(0.34, 0.26, 0.20),
        fracture_rgb=(255, 206, 138),
        surface=surface_points(whole, 9),
    )


def _centred(count: int, radius_px: float, first_rad: float) -> list[tuple[float, float]]:
    """`_ring_points` with the origin in the centre of the part."""
    return [(px - WIDTH_PX / 2, py - HEIGHT_PX / 2) for px, py in _ring_points(count, radius_px, first_rad)]


MODELS = {"flange": flange, "blister": blister, "gear": gear}
"""The kinds, in the order in which the line brings them."""
