"""The evidence of a verdict: its regions, and for a chosen one the reference patches that it was compared with."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from dashboard import data, pictures, tiles, words
from dashboard.context import Dashboard
from inspector.store.schema import InspectionRow, RegionRow
from inspector.types import Box

PATCH_SIDE_PX = 150
FEW_MATCHES = 3


def shares(detail: dict[str, Any]) -> str:
    """The branches that took part, with what each adds to the score."""
    contributions = {str(name): float(value) for name, value in (detail.get("contributions") or {}).items()}
    total = sum(abs(value) for value in contributions.values())
    if not contributions or total == 0.0:
        return ", ".join(detail.get("branches") or [])
    return ", ".join(
        f"{name} {words.number(value)} ({100 * abs(value) / total:.0f} %)" for name, value in contributions.items()
    )


def regions(plant: Dashboard, row: InspectionRow) -> None:
    """Draw the list of regions; a click on one shows what it was compared with."""
    if not row.regions:
        st.caption("No region lies above the threshold.")
        return
    chosen = st.dataframe(
        [_line(number, one) for number, one in enumerate(row.regions, 1)],
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key=f"history:regions:{row.id}",
    )
    if not row.detail.get("image_size_px"):
        st.caption("The size of the camera's picture is not on record, so the regions are not drawn.")
    rows = chosen["selection"]["rows"]
    number = rows[0] if rows and rows[0] < len(row.regions) else 0
    _compared(plant, row, number)


def _line(number: int, one: RegionRow) -> dict[str, Any]:
    return {
        "No.": number,
        "x px": one.x_px,
        "y px": one.y_px,
        "Width px": one.width_px,
        "Height px": one.height_px,
        "Area px": one.area_px,
        "Area %": round(100 * one.area_fraction, 2),
        "Centre px": f"{one.centroid_x_px:.0f}, {one.centroid_y_px:.0f}",
        "Peak": one.peak,
        "Mean excess": one.mean_excess,
    }


def _compared(plant: Dashboard, row: InspectionRow, number: int) -> None:
    """Region `number` (from 0): its worst patch beside the reference patches that it was compared with."""
    matches = row.regions[number].matches
    st.markdown(f"**Region {number + 1}: what its worst place was compared with**")
    if not matches or row.recipe_id is None or row.image_path is None:
        st.caption("Nothing is on record: the picture was not kept, or the verdict is older than this page.")
        return
    references = data.references(plant.store, row.recipe_id)
    for tap in sorted({match["tap"] for match in matches}):
        found = [match for match in matches if match["tap"] == tap][:FEW_MATCHES]
        figures = [(_patch(plant, row.image_path, found[0]["patch"]), "this part")]
        figures += [_matched(plant, references, match) for match in found]
        st.html(tiles.patches(f"Level {tap} of the encoder", figures))
    st.caption("Weight: share of the normal patch that is subtracted. Similarity: cosine, 1 is the same.")


def _matched(
    plant: Dashboard, references: Sequence[data.ReferenceView], match: dict[str, Any]
) -> tuple[bytes | None, str]:
    """One matched patch and its caption; the recipe of an old verdict may have lost its pictures."""
    numbers = f"weight {match['weight']:.2f} · similarity {match['similarity']:.3f}"
    if match["reference"] >= len(references):
        return None, numbers
    reference = references[match["reference"]]
    return _patch(plant, reference.path, match["reference_patch"]), f"{reference.name} · {numbers}"


def _patch(plant: Dashboard, path: str, box: Sequence[float]) -> bytes | None:
    where: Box = (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
    return pictures.patch(plant.data_path, path, where, PATCH_SIDE_PX)
