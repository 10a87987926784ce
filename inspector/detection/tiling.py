"""Pictures larger than the model's input, seen in tiles: one encoder whose patch grid is that of all tiles together.

Each tile overlaps its neighbours. Of what two tiles show, each gives the patches on its side of the middle of the overlap,
so that no patch that counts lies at a tile's inner edge, and all of them lie on one regular grid. So a tiled picture is, for
everything behind the encoder, a picture of a model with a larger input: one bank holds the patches of all tiles, and each
patch of a part is compared with all of them.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import gcd

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as fn

from inspector.detection.encoder import Encoder
from inspector.detection.scoring import Canvas
from inspector.detection.towers import Tokens
from inspector.errors import EncoderError, ImageError
from inspector.types import MAX_TILES, ImageArray, Tiles

OVERLAP = 0.125
"""Of a tile's side, at least one patch of its coarsest grid on both sides of the seam."""
MIN_TILE_PX = 16


def chosen(tiles: Tiles | None, image: ImageArray, side_px: int) -> Tiles | None:
    """The tiles that are wished; for auto as many as bring a tile near to the model's input of `side_px`, within the limit.

    None: the picture is seen at once.
    """
    if tiles is None or not tiles.is_auto:
        return tiles
    rows, columns = (max(1, round(length / side_px)) for length in image.shape[:2])
    while rows * columns > MAX_TILES:
        rows, columns = (rows - 1, columns) if rows >= columns else (rows, columns - 1)
    return Tiles(rows, columns) if rows * columns > 1 else None


class TiledEncoder(Encoder):
    """The same tower on the same device; `encode` looks at each picture in tiles."""

    def __init__(self, base: Encoder, tiles: Tiles) -> None:
        """Raises EncoderError where the tower's grids cannot be cut at the same places, or adapters are loaded."""
        vars(self).update(vars(base))
        if base.adapters is not None:
            raise EncoderError(
                "adapters are made for one patch grid and cannot be used with tiles; build without tiles"
            )
        coarsest = gcd(*(side for grid in base.grids for side in grid))
        margin = max(1, round(OVERLAP / 2 * coarsest))
        if coarsest <= 2 * margin:
            grids = ", ".join(f"{gh}×{gw}" for gh, gw in base.grids)
            raise EncoderError(f"the patch grids of {base.name} ({grids}) cannot be tiled; build without tiles")
        self._base, self._tiles, self._margin = base, tiles, margin / coarsest
        self._sides = tuple(count - (count - 1) * 2.0 * self._margin for count in (tiles.rows, tiles.columns))
        """Sides of the picture, in tiles."""
        self.grids = tuple((round(gh * self._sides[0]), round(gw * self._sides[1])) for gh, gw in base.grids)
        S, step = base.image_size, round(base.image_size * (1.0 - 2.0 * self._margin))
        # Of windows, not of the sides above: rounding must not leave out the last window.
        self.canvas = Canvas((S + (tiles.rows - 1) * step, S + (tiles.columns - 1) * step), S, step)
        self.image_size = max(self.canvas.size_hw)
        # γ is of distances on the grid of one picture; on a grid many times as large it would forbid every match.
        self.matching = replace(base.matching, gamma=0.0)

    def encode(self, images: Sequence[ImageArray]) -> Tokens:
        """Tokens of whole pictures, `[B, gh·gw, D]` of the large grids; the global token is the mean of the tiles'.

        Raises:
            ImageError: a picture is too small for its tiles.
        """
        found = [self._of_one(image) for image in images]
        taps = tuple(torch.cat([tokens.taps[tap] for tokens in found]) for tap in range(len(self.taps)))
        if any(tokens.global_token is None for tokens in found):
            return Tokens(taps)
        whole = torch.cat([tokens.global_token for tokens in found if tokens.global_token is not None])
        return Tokens(taps, joint=taps[-1], global_token=whole)

    def _of_one(self, image: ImageArray) -> Tokens:
        tokens = self._base.encode(self._cut(image))
        with torch.inference_mode():
            taps = tuple(
                self._joined(rows, grid).unsqueeze(0) for rows, grid in zip(tokens.taps, self._base.grids, strict=True)
            )
            if tokens.global_token is None:
                return Tokens(taps)
            return Tokens(taps, global_token=fn.normalize(tokens.global_token.mean(dim=0, keepdim=True), dim=-1))

    def _cut(self, image: ImageArray) -> list[ImageArray]:
        """The tiles, row after row."""
        spans = []
        for length, count, sides in zip(
            image.shape[:2], (self._tiles.rows, self._tiles.columns), self._sides, strict=True
        ):
            tile = length / sides
            if tile < MIN_TILE_PX:
                raise ImageError(
                    f"a picture of {image.shape[1]}×{image.shape[0]} px is too small for {self._tiles} tiles: each would "
                    f"have {tile:.0f} px a side, at least {MIN_TILE_PX} are needed"
                )
            starts = [number * tile * (1.0 - 2.0 * self._margin) for number in range(count)]
            spans.append([slice(round(start), round(start + tile)) for start in starts])
        return [np.ascontiguousarray(image[rows, columns]) for rows in spans[0] for columns in spans[1]]

    def _joined(self, tokens: Tensor, grid_hw: tuple[int, int]) -> Tensor:
        """`[T, gh·gw, D]` of the tiles to `[Gh·Gw, D]` of the picture."""
        rows, columns = self._tiles.rows, self._tiles.columns
        gh, gw = grid_hw
        each = tokens.reshape(rows, columns, gh, gw, -1)
        lines = [
            torch.cat(
                [each[r, c][self._kept(gh, r, rows), self._kept(gw, c, columns)] for c in range(columns)],
                dim=1,
            )
            for r in range(rows)
        ]
        return torch.cat(lines, dim=0).flatten(0, 1)

    def _kept(self, side: int, number: int, count: int) -> slice:
        """Patches of a tile that count: up to the middle of an overlap, to the end at the picture's edge."""
        margin = round(self._margin * side)
        return slice(0 if number == 0 else margin, side if number == count - 1 else side - margin)


def tiled(encoder: Encoder, tiles: Tiles | None) -> Encoder:
    """The encoder as a product with these tiles uses it."""
    return encoder if tiles is None else TiledEncoder(encoder, tiles)
