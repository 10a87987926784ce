"""Where a product is inspected: the regions of interest of a revision, as a table beside a reference that shows them.

A change asks for a new revision with the same references; it is built, previewed and activated like any other.
"""

from dataclasses import replace
from typing import Any

import streamlit as st

from dashboard import data, pictures, revisions
from dashboard.access import allowed
from dashboard.context import Dashboard, sentence, told
from inspector.errors import UsageError
from inspector.store.products import Wish
from inspector.types import MAX_ROIS, Roi, roi_of
from inspector.users import Role

SIDE_PX = 640
COLUMNS = ("name", "inspected", "left %", "top %", "width %", "height %", "sensitivity")


def draw(plant: Dashboard, recipe: data.RecipeView, reference_path: str | None) -> None:
    """The editor of one revision."""
    kept = [roi_of(record) for record in recipe.calibration.get("rois") or []]
    st.caption(
        "Without a region the whole picture is inspected. With regions only they are, each against what is usual there; "
        f"at most {MAX_ROIS}. A region that is not inspected is left out of all others."
    )
    left, right = st.columns([1.4, 1], gap="medium")
    with left:
        rows = st.data_editor(
            [_row(roi) for roi in kept] or [_row(Roi("whole part", (0.0, 0.0, 1.0, 1.0)))],
            num_rows="dynamic",
            hide_index=True,
            key=f"where:{recipe.id}",
            column_config={
                "inspected": st.column_config.CheckboxColumn(default=True),
                "sensitivity": st.column_config.NumberColumn(
                    min_value=0.1, max_value=10.0, default=1.0, help="2 finds half as much of a defect there"
                ),
            }
            | {name: st.column_config.NumberColumn(min_value=0.0, max_value=100.0) for name in COLUMNS[2:6]},
        )
        rois, fault = _read(rows)
        if fault:
            st.warning(fault, icon=":material/info:")
        with st.container(horizontal=True):
            st.button(
                "Build a revision with these regions",
                icon=":material/crop_free:",
                **allowed(plant.visitor, Role.OPERATOR, disabled=bool(fault) or tuple(rois) == tuple(kept)),
                on_click=_request,
                args=(plant, recipe, tuple(rois)),
                key=f"where:build:{recipe.id}",
            )
            if kept:
                st.button(
                    "Inspect the whole picture again",
                    on_click=_request,
                    args=(plant, recipe, ()),
                    key=f"where:whole:{recipe.id}",
                    **allowed(plant.visitor, Role.OPERATOR),
                )
    with right:
        picture = pictures.view(plant.data_path, reference_path, SIDE_PX)
        if picture is None:
            st.caption("There is no picture of a reference any more.")
        else:
            whole = (1000, 1000)
            boxes = [
                (round(1000 * x), round(1000 * y), round(1000 * width), round(1000 * height))
                for x, y, width, height in (roi.box for roi in rois)
            ]
            st.image(pictures.with_boxes(picture, boxes, whole), caption="The numbers are the lines of the table.")


def _row(roi: Roi) -> dict[str, Any]:
    left, top, width, height = (round(100 * side, 1) for side in roi.box)
    values = (roi.name, roi.inspected, left, top, width, height, roi.sensitivity)
    return dict(zip(COLUMNS, values, strict=True))


def _read(rows: list[dict[str, Any]]) -> tuple[list[Roi], str]:
    """The regions of the table, and what is wrong with it."""
    rois: list[Roi] = []
    for number, row in enumerate(rows, 1):
        if any(row.get(name) is None for name in COLUMNS):
            return rois, f"Line {number} is not complete."
        left, top, width, height = (float(row[name]) / 100 for name in COLUMNS[2:6])
        try:
            box = (left, top, width, height)
            rois.append(Roi(str(row["name"]).strip(), box, float(row["sensitivity"]), bool(row["inspected"])))
        except ValueError as error:
            return rois, f"Line {number}: {error}."
    try:
        Wish(rois=tuple(rois))
    except UsageError as error:
        return rois, sentence(str(error))
    return rois, ""


def _request(plant: Dashboard, recipe: data.RecipeView, rois: tuple[Roi, ...]) -> None:
    """Ask the worker for a revision with the same references and these regions."""
    with told():
        revisions.request(plant, recipe.product, change=lambda wish: replace(wish, rois=rois), rev=recipe.rev)
