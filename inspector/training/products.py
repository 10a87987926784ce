"""Random product families: what one camera over one line would see of one product, part after part.

``ProductFamily(seed)`` fixes a product: its parts, their places, the background, how steady camera and light are, and
what harmless dirt there is. ``draw`` gives a normal picture, ``draw_defective`` a faulty one, its mask and its twin.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.training.defects import MIN_VISIBLE_PX, add_defect, gap_mask, visible_mask
from inspector.training.pieces import Piece, PieceSpec
from inspector.training.textures import FloatImage, Rng, TextureSpec, blob_mask, value_noise

Picture = NDArray[np.uint8]
MARGIN = 1.15
KINDS = {"texture": 0.28, "single": 0.32, "assembly": 0.12, "loose": 0.1, "board": 0.09, "array": 0.09}


@dataclass(frozen=True)
class Camera:
    """How much pictures of one product differ: ranges; shift and zoom as fractions of the side."""

    shift: float
    turn_deg: float
    zoom: float
    light: float
    tint: float
    blur_px: float
    noise: float
    jpeg: bool
    tilt: float
    vignette: float
    spotlight: tuple[float, float, float]
    sharpen: float
    gamma: float
    resolution: float

    @classmethod
    def random(cls, rng: Rng, *, any_turn: bool) -> Camera:
        """A steady camera in most cases; ``any_turn`` lets parts lie in any direction sometimes."""
        free = any_turn and rng.random() < 0.25
        return cls(
            shift=float(rng.uniform(0.0, 0.045)),
            turn_deg=180.0 if free else float(rng.choice([0.0, rng.uniform(0.0, 5.0), rng.uniform(0.0, 20.0)])),
            zoom=float(rng.uniform(0.0, 0.05)),
            light=float(rng.uniform(0.02, 0.2)),
            tint=float(rng.uniform(0.0, 0.03)),
            blur_px=float(rng.uniform(0.0, 1.1)),
            noise=float(rng.choice([rng.uniform(0.0, 0.01), rng.uniform(0.0, 0.035)])),
            jpeg=bool(rng.random() < 0.6),
            tilt=float(rng.choice([0.0, rng.uniform(0.0, 0.06)])),
            vignette=float(rng.choice([0.0, rng.uniform(0.05, 0.5)])),
            spotlight=(float(rng.uniform(-1.0, 1.0)), float(rng.uniform(-1.0, 1.0)), float(rng.uniform(-0.3, 0.5))),
            sharpen=float(rng.choice([0.0, rng.uniform(0.2, 1.0)])),
            gamma=float(np.exp(rng.normal(0.0, 0.2))),
            resolution=float(rng.choice([1.0, rng.uniform(0.4, 1.0)])),
        )

    def pose(self, rng: Rng, canvas: int, size: int) -> NDArray[np.float64]:
        """Homography ``[3, 3]`` from the drawn canvas to a picture of ``size`` px."""
        middle = (canvas - 1) / 2.0
        turn, zoom = rng.uniform(-1.0, 1.0) * self.turn_deg, 1.0 + rng.uniform(-1.0, 1.0) * self.zoom
        matrix = np.asarray(cv2.getRotationMatrix2D((middle, middle), turn, zoom), np.float64)
        matrix[:, 2] += (size - 1) / 2.0 - middle + rng.uniform(-1.0, 1.0, 2) * self.shift * size
        lean = np.eye(3)
        lean[2, :2] = rng.uniform(-1.0, 1.0, 2) * self.tilt / size
        centre = np.array([[1.0, 0.0, (size - 1) / 2.0], [0.0, 1.0, (size - 1) / 2.0], [0.0, 0.0, 1.0]])
        return np.asarray(centre @ lean @ np.linalg.inv(centre) @ np.vstack([matrix, [0.0, 0.0, 1.0]]), np.float64)

    def expose(self, rng: Rng, image: FloatImage) -> Picture:
        """Light, lens, sensor and file format: RGB in 0..1 to uint8."""
        size = image.shape[0]
        gain = (1.0 + rng.uniform(-1.0, 1.0) * self.light) * (1.0 + rng.uniform(-1.0, 1.0, 3) * self.tint)
        slope = (rng.uniform(-0.5, 0.5, 2) * self.light).astype(np.float32)
        axis = np.linspace(-1.0, 1.0, size, dtype=np.float32)
        field = np.float32(1.0) + slope[0] * axis[:, None] + slope[1] * axis[None, :]
        radius = axis[:, None] ** 2 + axis[None, :] ** 2
        field *= np.float32(1.0) - np.float32(0.5 * self.vignette) * radius
        left, up, strength = self.spotlight
        away = (axis[None, :] - np.float32(left)) ** 2 + (axis[:, None] - np.float32(up)) ** 2
        field *= np.float32(1.0) + np.float32(strength) * np.exp(-np.float32(1.5) * away)
        lit = (image * (field[..., None] * gain.astype(np.float32))).clip(0.0) ** np.float32(self.gamma)
        sigma = self.blur_px * rng.uniform(0.7, 1.3)
        if sigma > 0.25:
            lit = cv2.GaussianBlur(lit, (0, 0), sigma).astype(np.float32)
        if self.resolution < 0.95:
            fewer = max(32, round(size * self.resolution))
            lit = cv2.resize(cv2.resize(lit, (fewer, fewer), interpolation=cv2.INTER_AREA), (size, size))
        if self.sharpen > 0.0:
            lit = lit + np.float32(self.sharpen) * (lit - cv2.GaussianBlur(lit, (0, 0), 1.2))
        lit = lit + np.float32(self.noise) * rng.standard_normal(lit.shape, dtype=np.float32)
        levels = lit.clip(0.0, 1.0) * np.float32(255.0) + np.float32(0.5)
        picture: Picture = np.asarray(levels, np.uint8)
        if self.jpeg:
            quality = int(rng.integers(60, 98))
            _, coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
            picture = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
        return picture


@dataclass(frozen=True)
class Place:
    """Where part number ``spec`` lies: centre and size as fractions of the canvas side."""

    spec: int
    x: float
    y: float
    span: float
    turn_deg: float


@dataclass(frozen=True)
class Defective:
    """A faulty picture, its mask (``[S, S]`` bool), the same picture without the fault, and the kind of its (first) fault."""

    image: Picture
    mask: NDArray[np.bool_]
    twin: Picture
    kind: str


class ProductFamily:
    """One product, fixed by ``seed``.

    Its kind is a texture, a single part, an assembly, loose (copies thrown on a belt), a board (many small parts) or an
    array (copies in rows, as in a tray or a blister).
    """

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.seed = seed
        self.kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
        textured = self.kind == "texture"
        self.background = TextureSpec.random(rng, contrast=None if textured else float(rng.uniform(0.02, 0.35)))
        self.fresh_background = textured or bool(rng.random() < 0.5)
        self.camera = Camera.random(rng, any_turn=self.kind == "single")
        self.shadow = float(rng.uniform(0.0, 0.6))
        self.wobble = float(rng.choice([0.0, rng.uniform(0.0, 0.012)]))
        self.bend = float(rng.uniform(0.005, 0.03)) if rng.random() < 0.2 else 0.0
        self.shade = float(rng.choice([0.0, rng.uniform(0.02, 0.12)]))
        self.dust = int(rng.integers(1, 12)) if rng.random() < 0.25 else 0
        self.specs, self.places = self._layout(rng)
        self._rigid: dict[tuple[int, int], Piece] = {}
        self._backdrop: dict[int, FloatImage] = {}

    def _layout(self, rng: Rng) -> tuple[list[PieceSpec], list[Place]]:
        if self.kind == "texture":
            return [], []
        if self.kind == "single":
            place = Place(0, 0.5, 0.5, float(rng.uniform(0.45, 0.85)), float(rng.choice([0.0, rng.uniform(0, 360)])))
            return [PieceSpec.random(rng)], [place]
        few = self.kind in ("loose", "array")
        specs = [PieceSpec.random(rng) for _ in range(1 if few else int(rng.integers(2, 7)))]
        if self.kind == "loose":
            span = float(rng.uniform(0.14, 0.3))
            return specs, [Place(0, 0.5, 0.5, span, 0.0)] * int(rng.integers(2, 8))
        if self.kind == "array":
            return specs, self._rows(rng)
        places = [Place(0, 0.5, 0.5, float(rng.uniform(0.75, 0.95)), 0.0)] if rng.random() < 0.6 else []
        if self.kind == "board":
            for x, y in self._spread(rng, int(rng.integers(10, 26)), 0.09):
                kind = int(rng.integers(0 if not places else 1, len(specs)))
                turn = float(rng.integers(0, 4) * 90)
                places.append(Place(kind, x, y, float(rng.uniform(0.05, 0.14)), turn))
            return specs, places
        for x, y in self._spread(rng, int(rng.integers(3, 11)), 0.12):
            spec = int(rng.integers(1, len(specs)))
            places.append(Place(spec, x, y, float(rng.uniform(0.1, 0.26)), float(rng.integers(0, 4) * 90)))
        return specs, places

    @staticmethod
    def _rows(rng: Rng) -> list[Place]:
        """Copies of one part in rows and columns."""
        columns, rows = int(rng.integers(2, 6)), int(rng.integers(1, 6))
        pitch, turn = 0.72 / max(columns, rows), float(rng.integers(0, 4) * 90)
        span = pitch * float(rng.uniform(0.7, 1.0))
        return [
            Place(0, 0.5 + pitch * (column - (columns - 1) / 2.0), 0.5 + pitch * (row - (rows - 1) / 2.0), span, turn)
            for column in range(columns)
            for row in range(rows)
        ]

    @staticmethod
    def _spread(rng: Rng, count: int, gap: float) -> list[tuple[float, float]]:
        """Up to ``count`` points in the middle of the canvas, at least ``gap`` apart."""
        found: list[tuple[float, float]] = []
        for x, y in rng.uniform(0.2, 0.8, (6 * count, 2)):
            if len(found) < count and all((x - a) ** 2 + (y - b) ** 2 > gap * gap for a, b in found):
                found.append((float(x), float(y)))
        return found

    def _placed(self, rng: Rng) -> list[Place]:
        """This picture's places: each part wobbles a little; loose parts lie anywhere."""
        if self.kind != "loose":
            moves = rng.normal(0.0, self.wobble, (len(self.places), 3))
            return [
                replace(place, x=place.x + dx, y=place.y + dy, turn_deg=place.turn_deg + 100.0 * turn)
                for place, (dx, dy, turn) in zip(self.places, moves.tolist(), strict=True)
            ]
        spots = self._spread(rng, len(self.places), 0.8 * self.places[0].span)
        return [
            replace(place, x=x, y=y, turn_deg=float(rng.uniform(0.0, 360.0)))
            for place, (x, y) in zip(self.places, spots, strict=False)
        ]

    def _piece(self, rng: Rng, index: int, size: int) -> Piece:
        spec = self.specs[index]
        if not self._is_rigid(index):
            return spec.draw(rng, size)
        if (index, size) not in self._rigid:
            self._rigid[index, size] = spec.draw(np.random.default_rng(spec.seed), size)
        return self._rigid[index, size]

    def _is_rigid(self, index: int) -> bool:
        """Whether each part of this kind looks the same; small ones always do, for speed."""
        spec = self.specs[index]
        if self.kind == "board":
            return True
        return not (spec.organic or spec.sprinkles or (spec.fresh_grain and self.kind in ("single", "array")))

    def _ground(self, rng: Rng, canvas: int) -> FloatImage:
        if self.fresh_background:
            return self.background.sample(rng, canvas)
        if canvas not in self._backdrop:
            self._backdrop[canvas] = self.background.sample(np.random.default_rng(self.seed), canvas)
        return self._backdrop[canvas]

    def _compose(
        self, seed: int, places: list[Place], canvas: int, wrong: int | None = None
    ) -> tuple[FloatImage, FloatImage]:
        """Canvas with all parts, and where the product is: ``[C, C, 3]`` and ``[C, C]`` in 0..1.

        The part at place number ``wrong`` is one that looks different from what it should.
        """
        chance = np.random.default_rng([seed, 7])
        scene = self._ground(np.random.default_rng(seed), canvas).copy()
        self._scatter(chance, scene)
        covered = np.zeros((canvas, canvas), np.float32)
        for number, place in enumerate(places):
            size = max(12, round(place.span * canvas))
            rng = np.random.default_rng([seed, number])
            if number == wrong:
                spec = self.specs[place.spec]
                same = np.random.default_rng(spec.seed) if self._is_rigid(place.spec) else rng
                piece = spec.draw(same, size, wrong=np.random.default_rng([seed, number, 1]))
            else:
                piece = self._piece(rng, place.spec, size)
            shade = np.float32(1.0 + self.shade * chance.uniform(-1.0, 1.0))
            middle = (size - 1) / 2.0
            matrix = np.asarray(cv2.getRotationMatrix2D((middle, middle), place.turn_deg, 1.0), np.float64)
            matrix[:, 2] += np.array([place.x, place.y]) * canvas - middle
            rgb = cv2.warpAffine(piece.rgb, matrix, (canvas, canvas)) * shade
            alpha = cv2.warpAffine(piece.alpha, matrix, (canvas, canvas)).astype(np.float32)
            if self.shadow > 0.1:
                cast = cv2.GaussianBlur(np.roll(alpha, (3, 4), (0, 1)), (0, 0), 3.0)
                scene *= np.float32(1.0) - np.float32(self.shadow) * cast[..., None]
            scene = scene * (np.float32(1.0) - alpha[..., None]) + rgb * alpha[..., None]
            np.maximum(covered, alpha, out=covered)
        if self.bend > 0.0:
            scene, covered = self._bent(chance, scene, covered)
        return scene, covered if places else np.ones_like(covered)

    def _scatter(self, rng: Rng, scene: FloatImage) -> None:
        """Harmless specks and fibres on the ground, under the parts; on a texture they would be faults."""
        if not self.dust or not self.places:
            return
        size = scene.shape[0]
        mask = np.zeros((size, size), np.uint8)
        for x, y in rng.uniform(0.0, size, (int(rng.integers(0, self.dust + 1)), 2)):
            reach = rng.normal(0.0, 0.02 * size, 2)
            end = (int(x + reach[0]), int(y + reach[1])) if rng.random() < 0.4 else (int(x), int(y))
            cv2.line(mask, (int(x), int(y)), end, 255, int(rng.integers(1, 3)), cv2.LINE_AA)
        weight = mask.astype(np.float32)[..., None] * np.float32(rng.uniform(0.2, 0.8) / 255.0)
        scene += (np.float32(rng.uniform(0.0, 1.0)) - scene) * weight

    def _bent(self, rng: Rng, scene: FloatImage, covered: FloatImage) -> tuple[FloatImage, FloatImage]:
        """The whole scene pushed about smoothly: cloth, food and cables never lie the same."""
        canvas = scene.shape[0]
        ys, xs = np.mgrid[0:canvas, 0:canvas].astype(np.float32)
        push = np.float32(self.bend * canvas)
        xs += push * value_noise(rng, canvas, 3.0)
        ys += push * value_noise(rng, canvas, 3.0)
        bent = (cv2.remap(image, xs, ys, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT) for image in (scene, covered))
        first, second = (np.asarray(image, np.float32) for image in bent)
        return first, second

    def draw(self, rng: Rng, size: int = 256) -> Picture:
        """A normal picture: RGB ``[size, size, 3]``."""
        canvas = round(size * MARGIN)
        scene, _ = self._compose(int(rng.integers(2**31)), self._placed(rng), canvas)
        matrix = self.camera.pose(rng, canvas, size)
        return self.camera.expose(rng, _warped(scene, matrix, size))

    def draw_defective(self, rng: Rng, size: int = 256) -> Defective:
        """A faulty picture with its mask and its twin; the mask is never empty."""
        canvas = round(size * MARGIN)
        while True:
            scene_seed, places = int(rng.integers(2**31)), self._placed(rng)
            scene, covered = self._compose(scene_seed, places, canvas)
            faulty, mask, kind = self._faulty(rng, scene_seed, places, scene, covered)
            matrix = self.camera.pose(rng, canvas, size)
            seen = _warped(mask.astype(np.float32), matrix, size) > 0.5
            exposure = int(rng.integers(2**31))
            if seen.sum() >= MIN_VISIBLE_PX:
                break
        image, twin = (
            self.camera.expose(np.random.default_rng(exposure), _warped(picture, matrix, size))
            for picture in (faulty, scene)
        )
        return Defective(image, np.asarray(seen, np.bool_), twin, kind)

    def _faulty(
        self, rng: Rng, scene_seed: int, places: list[Place], scene: FloatImage, covered: FloatImage
    ) -> tuple[FloatImage, NDArray[np.bool_], str]:
        if self.kind in ("assembly", "board", "array") and len(places) > 1 and rng.random() < 0.35:
            other, _ = self._compose(scene_seed, self._rearranged(rng, places), scene.shape[0])
            mask = visible_mask(scene, other, np.ones_like(covered))
            if mask.sum() >= MIN_VISIBLE_PX:
                return np.where(mask[..., None], other, scene), mask, "rearranged"
        able = [number for number, place in enumerate(places) if self.specs[place.spec].features]
        if able and self.kind != "loose" and rng.random() < 0.15:
            other, _ = self._compose(scene_seed, places, scene.shape[0], wrong=int(rng.choice(able)))
            mask = visible_mask(scene, other, np.ones_like(covered))
            if MIN_VISIBLE_PX <= mask.sum() < 0.25 * mask.size:
                return np.where(mask[..., None], other, scene), mask, "wrong_feature"
        if places and self.kind != "board" and rng.random() < 0.2:
            ground = self._ground(np.random.default_rng(scene_seed), scene.shape[0])
            faulty, mask = _broken(rng, scene, ground, covered)
            if mask.sum() >= MIN_VISIBLE_PX:
                return faulty, mask, "broken"
        if rng.random() < 0.08:
            return *self._intruded(rng, scene), "foreign_part"
        region = covered if rng.random() < 0.9 else np.ones_like(covered)
        faulty, mask, kind = add_defect(rng, scene, _inner(region))
        if rng.random() < 0.15:
            faulty, more, _ = add_defect(rng, faulty, _inner(region))
            mask = mask | more
        return faulty, mask, kind

    def _intruded(self, rng: Rng, scene: FloatImage) -> tuple[FloatImage, NDArray[np.bool_]]:
        """A small foreign part somewhere on the picture."""
        canvas = scene.shape[0]
        size = round(canvas * rng.uniform(0.06, 0.2))
        piece = PieceSpec.random(rng).draw(rng, max(12, size))
        left, top = rng.uniform(0.12, 0.65, 2) * canvas
        matrix = np.array([[1.0, 0.0, left], [0.0, 1.0, top]])
        rgb = cv2.warpAffine(piece.rgb, matrix, (canvas, canvas))
        alpha = np.asarray(cv2.warpAffine(piece.alpha, matrix, (canvas, canvas)), np.float32)
        weight = alpha[..., None]
        faulty = np.asarray(scene * (np.float32(1.0) - weight) + rgb * weight, np.float32)
        return faulty, visible_mask(scene, faulty, alpha)

    def _rearranged(self, rng: Rng, places: list[Place]) -> list[Place]:
        """One small part missing, displaced, turned or exchanged."""
        which = int(rng.integers(0 if len(self.specs) < 2 or places[0].span < 0.5 else 1, len(places)))
        place, changed = places[which], list(places)
        kind = int(rng.integers(4))
        if kind == 0:
            changed[which] = replace(place, x=-2.0, y=-2.0)
        elif kind == 1:
            dx, dy = rng.uniform(0.03, 0.1, 2) * rng.choice([-1.0, 1.0], 2)
            changed[which] = replace(place, x=place.x + float(dx), y=place.y + float(dy))
        elif kind == 2:
            changed[which] = replace(place, turn_deg=place.turn_deg + float(rng.uniform(20.0, 180.0)))
        else:
            changed[which] = replace(place, spec=int(rng.integers(0, len(self.specs))))
        return changed


def _broken(
    rng: Rng, scene: FloatImage, ground: FloatImage, covered: FloatImage
) -> tuple[FloatImage, NDArray[np.bool_]]:
    """A bite out of the product or a gap across it: what lies behind shows through."""
    canvas = scene.shape[0]
    rim = cv2.morphologyEx((covered > 0.5).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    rows, columns = np.nonzero(rim if rim.any() else np.ones_like(rim))
    pick = int(rng.integers(rows.size))
    at = (float(columns[pick]), float(rows[pick]))
    if rng.random() < 0.5:
        gone = blob_mask(rng, canvas, at, canvas * float(np.exp(rng.uniform(np.log(0.02), np.log(0.14)))))
    else:
        gone = gap_mask(rng, canvas, at, covered)
    weight = (gone * covered)[..., None]
    faulty = np.asarray(scene * (np.float32(1.0) - weight) + ground * weight, np.float32)
    return faulty, visible_mask(scene, faulty, weight[..., 0])


def _warped(image: FloatImage, matrix: NDArray[np.float64], size: int) -> FloatImage:
    return np.asarray(cv2.warpPerspective(image, matrix, (size, size), borderMode=cv2.BORDER_REFLECT), np.float32)


def _inner(region: FloatImage) -> FloatImage:
    """The part of ``region`` that the camera surely sees."""
    edge = round(region.shape[0] * 0.12)
    inner = np.zeros_like(region)
    inner[edge:-edge, edge:-edge] = region[edge:-edge, edge:-edge]
    return inner if inner.max() > 0.5 else region
