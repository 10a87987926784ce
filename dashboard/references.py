"""What was found about a revision's references, and parts that none of them shows: the person decides, picture by picture.

Each decision is one click: keep a reference in spite of a finding, go on without it, or add a part. The latter two ask the
worker for a new revision; what is active stays so.
"""

from html import escape
from typing import Any

import streamlit as st

from dashboard import data, pictures, revisions, words
from dashboard.access import allowed
from dashboard.context import Dashboard, told, utc_now
from inspector.errors import UsageError
from inspector.images import read_image
from inspector.store import references
from inspector.store.schema import ReferenceImage
from inspector.users import Role

SIDE_PX = 220
COLUMNS = 4


def findings(plant: Dashboard, recipe: data.RecipeView, rows: list[data.ReferenceView]) -> None:
    """Each reference with an open finding: its picture, the reason, and what can be done."""
    odd = [row for row in rows if references.open_findings(row.findings)]
    if not odd or recipe.status != "ready":
        return
    st.caption(
        "Look at these; nothing is dropped by itself. A drop is a new revision, to be activated when you like it."
    )
    columns = st.columns(COLUMNS, gap="small")
    for place, row in enumerate(odd):
        with columns[place % COLUMNS].container(border=True, gap="xsmall"):
            _picture(plant, row.path, row.name)
            for finding in references.open_findings(row.findings):
                st.html(_said(str(finding["kind"]), str(finding["reason"]), finding["score"]))
            with st.container(horizontal=True, gap="xsmall"):
                st.button(
                    "Keep it",
                    key=f"products:keep:{row.id}",
                    on_click=_keep,
                    args=(plant, row.id),
                    **allowed(plant.visitor, Role.OPERATOR),
                )
                st.button(
                    "Drop it",
                    key=f"products:drop:{row.id}",
                    on_click=_drop,
                    args=(plant, recipe, row.id),
                    icon=":material/build:",
                    **allowed(plant.visitor, Role.OPERATOR, disabled=len(rows) == 1),
                )


def positions(plant: Dashboard, recipe: data.RecipeView) -> None:
    """Parts of the line that lie as no reference does, each with the way into the references."""
    found: list[dict[str, Any]] = recipe.report.get("positions") or []
    if not found:
        return
    st.subheader("Positions that no reference shows")
    st.caption(
        "These parts were not accepted, but fit when they are moved. If a part is good, add it to the references."
    )
    columns = st.columns(COLUMNS, gap="small")
    for place, one in enumerate(found):
        with columns[place % COLUMNS].container(border=True, gap="xsmall"):
            _picture(plant, str(one["path"]), str(one["picture"]))
            st.html(_said("position", str(one["reason"]), one["score"]))
            st.button(
                "Add this part to the references",
                key=f"products:position:{recipe.id}:{one['inspection']}",
                on_click=_add,
                args=(plant, recipe, int(one["inspection"])),
                icon=":material/add_photo_alternate:",
                **allowed(plant.visitor, Role.OPERATOR),
            )


def _picture(plant: Dashboard, path: str, name: str) -> None:
    jpeg = pictures.view(plant.data_path, path, SIDE_PX)
    if jpeg is None:
        st.html('<div class="vi-none">picture missing</div>')
    else:
        st.image(jpeg, caption=name, width="stretch")


def _said(kind: str, reason: str, score: float) -> str:
    said = escape(f"{kind.replace('_', ' ')} ({words.number(score)}): {reason}")
    return f'<div class="vi-card odd" style="border:0"><div class="note">⚠ {said}</div></div>'


def _keep(plant: Dashboard, reference_id: int) -> None:
    with told(), (permit := plant.require(Role.OPERATOR)).write() as session:
        references.keep(session, _reference(session.get(ReferenceImage, reference_id)), permit.who, utc_now())


def _drop(plant: Dashboard, recipe: data.RecipeView, reference_id: int) -> None:
    with told():
        permit = plant.require(Role.OPERATOR)
        with permit.write() as session:
            reference = _reference(session.get(ReferenceImage, reference_id))
            references.drop(session, reference, permit.who, utc_now())
        revisions.request(plant, recipe.product, rev=recipe.rev, without=reference_id)


def _add(plant: Dashboard, recipe: data.RecipeView, inspection_id: int) -> None:
    with told():
        row = data.inspection(plant.store, inspection_id)
        if row.image_path is None:
            raise UsageError("this part has no picture any more, so it cannot become a reference")
        image = read_image(plant.data_path / row.image_path)
        revisions.request(plant, recipe.product, [(row.image_path.rsplit("/", 1)[-1], image)])


def _reference(found: ReferenceImage | None) -> ReferenceImage:
    if found is None:
        raise UsageError("this reference is gone; look at the page again")
    return found
