"""The evidence of one verdict as a picture: where it is bad, and which reference patches it was compared with.

numpy and OpenCV only; `inspector score --explain` writes these sheets.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from inspector.images import FRAME_RGB, cut_out, shrink
from inspector.types import ImageArray, Inspection, PatchMatch, Region

PATCH_PX = 140
GAP_PX = 12
TEXT_PX = 22
COLUMNS = 4
"""The part's own patch and three matches."""
AROUND = 4.0
MAX_REGIONS = 3
WIDTH_PX = COLUMNS * (PATCH_PX + GAP_PX) + GAP_PX
INK, GREY, PAPER = (20, 24, 28), (96, 104, 112), 255


def sheet(image: ImageArray, inspection: Inspection, references: Sequence[ImageArray], title: str) -> ImageArray:
    """RGB picture `[_, WIDTH_PX, 3]`: the verdict and the share of each branch, the part with its regions, and for the
    three worst regions each tap's patch beside the reference patches that it was compared with."""
    shares = ", ".join(f"{name} {value:.4f}" for name, value in inspection.contributions.items())
    rows = [
        _text(f"{title}: {inspection.verdict.name}", INK),
        _text(f"score {inspection.score:.4f} = {shares}; threshold {inspection.threshold:.4f}", GREY),
        _part(image, inspection.regions),
    ]
    for number, region in enumerate(inspection.regions[:MAX_REGIONS], start=1):
        percent = 100 * region.area_fraction
        rows.append(
            _text(f"region {number}: peak {region.peak:.4f}, {region.area_px} px ({percent:.2f} % of the part)", INK)
        )
        for tap in sorted({match.tap for match in region.matches}):
            rows += _compared(image, [match for match in region.matches if match.tap == tap], references)
    return np.concatenate(rows)


def _part(image: ImageArray, regions: Sequence[Region]) -> ImageArray:
    """The whole part with its regions framed and numbered."""
    view = shrink(image, WIDTH_PX - 2 * GAP_PX).copy()
    scale = view.shape[1] / image.shape[1]
    for number, region in enumerate(regions, start=1):
        x, y = round(region.x_px * scale), round(region.y_px * scale)
        end = (x + round(region.width_px * scale), y + round(region.height_px * scale))
        cv2.rectangle(view, (x, y), end, FRAME_RGB, 2)
        cv2.putText(view, str(number), (x + 3, y + 18), cv2.FONT_HERSHEY_SIMPLEX, 0.6, FRAME_RGB, 2, cv2.LINE_AA)
    paper = _paper(view.shape[0] + GAP_PX)
    paper[: view.shape[0], GAP_PX : GAP_PX + view.shape[1]] = view
    return paper


def _compared(image: ImageArray, matches: Sequence[PatchMatch], references: Sequence[ImageArray]) -> list[ImageArray]:
    """One tap: the part's patch, and the reference patches with their weight and similarity."""
    paper = _paper(PATCH_PX + TEXT_PX)
    cells = [(image, matches[0].patch, f"part, level {matches[0].tap}")]
    for match in matches[: COLUMNS - 1]:
        label = f"ref {match.reference + 1} w {match.weight:.2f} s {match.similarity:.3f}"
        cells.append((references[match.reference], match.reference_patch, label))
    for column, (picture, box, label) in enumerate(cells):
        left = GAP_PX + column * (PATCH_PX + GAP_PX)
        paper[:PATCH_PX, left : left + PATCH_PX] = cut_out(picture, box, around=AROUND, side_px=PATCH_PX)
        cv2.putText(paper, label, (left, PATCH_PX + 14), cv2.FONT_HERSHEY_SIMPLEX, 0.36, GREY, 1, cv2.LINE_AA)
    return [paper]


def _text(words: str, colour: tuple[int, int, int]) -> ImageArray:
    paper = _paper(TEXT_PX)
    ascii_words = words.encode("ascii", "replace").decode()  # OpenCV's fonts know no other letters
    cv2.putText(paper, ascii_words, (GAP_PX, TEXT_PX - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)
    return paper


def _paper(height_px: int) -> ImageArray:
    return np.full((height_px, WIDTH_PX, 3), PAPER, np.uint8)
