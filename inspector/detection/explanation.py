"""Which reference patches a place of a part was compared with: the weights of the matching, made readable."""

import torch

from inspector.detection.matching import ReferencePatches, match_weights
from inspector.types import Box, PatchMatch

STRONGEST = 3
"""Matches that are kept of each tap; a sparsemax may have hundreds, which fall off quickly."""


def explain(
    tokens: tuple[torch.Tensor, ...],
    references: tuple[ReferencePatches, ...],
    taps: tuple[int, ...],
    place: tuple[float, float],
) -> tuple[PatchMatch, ...]:
    """The strongest matches of each tap at a place of one picture, the heaviest of a tap first.

    Args:
        tokens: `[N_l, D_l]` of the picture, one per tap.
        references: of the same taps.
        taps: what the encoder calls them.
        place: x and y as fractions of the picture's width and height.
    """
    found: list[PatchMatch] = []
    for tap, rows, bank in zip(taps, tokens, references, strict=True):
        gh, gw = bank.grid_hw
        row, column = min(gh - 1, int(place[1] * gh)), min(gw - 1, int(place[0] * gw))
        position = torch.tensor([row * gw + column], device=rows.device)
        query = rows[position]  # [1, D]
        weights = match_weights(query, position, bank)[0]  # [R]
        best = weights.topk(min(STRONGEST, len(weights)))
        for weight, place_in_bank in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            if weight > 0.0:
                reference, patch = divmod(place_in_bank, gh * gw)
                cosine = float(query[0] @ bank.tokens[place_in_bank])
                where = _box(patch // gw, patch % gw, bank.grid_hw)
                found.append(PatchMatch(tap, _box(row, column, bank.grid_hw), reference, where, weight, cosine))
    return tuple(found)


def _box(row: int, column: int, grid_hw: tuple[int, int]) -> Box:
    gh, gw = grid_hw
    return (column / gw, row / gh, 1 / gw, 1 / gh)
