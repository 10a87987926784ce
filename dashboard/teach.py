"""The form that teaches a product: a name, pictures of good parts, what is odd about them, and one button.

The worker builds what is asked for here. The form has a number; asking twice with one number (a double click)
asks once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

import streamlit as st

from dashboard import data, pictures, uploads
from dashboard.access import allowed
from dashboard.context import Dashboard, sentence, told, utc_now
from dashboard.uploads import Judged, Upload
from inspector.errors import UsageError
from inspector.images import SUFFIXES
from inspector.store import products
from inspector.store.pictures import staged
from inspector.store.stations import ensure_station
from inspector.types import Align, Tiles
from inspector.users import Role

NEW = "A new product"
FORM, ASKED = "teach:form", "teach:asked"
CHOSEN, TEACHING = "products:chosen", "products:teaching"  # what the page shows once the form is sent


def form(plant: Dashboard, view: data.ProductsView) -> None:
    """Draw the form for a new product or a new revision."""
    number = st.session_state.setdefault(FORM, 0)
    left, right = st.columns([1, 1.2], gap="large")
    with left:
        target = st.selectbox(
            "What do you teach?", [NEW, *view.products], format_func=_target_words, key=f"teach:target:{number}"
        )
        name = target
        if target == NEW:
            name = st.text_input(
                "Name of the product", max_chars=64, placeholder="e.g. bracket M8", key=f"teach:name:{number}"
            )
    with right:
        files = st.file_uploader(
            f"Pictures of good parts by this camera ({uploads.FEW} to 16, not over {uploads.MAX_PICTURES})",
            type=[suffix.removeprefix(".") for suffix in sorted(SUFFIXES)],
            accept_multiple_files=True,
            max_upload_size=uploads.MAX_FILE_MB,
            key=f"teach:files:{number}",
        )
        known = view.products[name][0].calibration if name in view.products else {}
        key = f"{number}:{name if known else ''}"
        align = st.checkbox(
            "Align each part before it is inspected",
            value=bool(known.get("align")),
            key=f"teach:align:{key}",
            help="Finds each part and brings it to where the first reference lies. It may lie 15 % of the picture off and be "
            "turned by 15°, unless the revision before says otherwise; parts farther off get no verdict (301, 303).",
        )
        tiled = st.checkbox(
            "See large pictures in tiles",
            value=bool(known.get("tiles")),
            key=f"teach:tiles:{key}",
            help="For defects that vanish when a picture is made as small as the model's input: as many tiles as the size "
            "asks for, 16 at most, unless the revision before says otherwise. Time grows faster than their number.",
        )
    judged = uploads.judge([_read(file.name, file.getvalue()) for file in files or []])
    kept = _choose(judged, number)
    fault = _name_fault(name, target == NEW, view) or uploads.set_fault([one.upload for one in judged], kept)
    with st.container(horizontal=True, vertical_alignment="center"):
        label = f"Build from {len(kept)} pictures" if len(kept) != 1 else "Build from 1 picture"
        st.button(
            label,
            type="primary",
            icon=":material/build:",
            key=f"teach:build:{number}",
            on_click=request_build,
            args=(plant, name, kept, number, Choices(align, tiled)),
            **allowed(plant.visitor, Role.OPERATOR, disabled=bool(fault)),
        )
        if fault:
            st.caption(fault)
        elif len(kept) < uploads.FEW:
            st.caption(f"{uploads.FEW} or more pictures give a steadier threshold; fewer work too.")


@dataclass(frozen=True)
class Choices:
    """What the form asks for besides pictures: aligned parts, pictures in tiles; how, the revision before may say."""

    align: bool = False
    tiled: bool = False

    def changed(self, wish: products.Wish) -> products.Wish:
        """The wish of the revision before, with these."""
        align = (wish.align or Align()) if self.align else None
        return replace(wish, align=align, tiles=(wish.tiles or Tiles()) if self.tiled else None)


NOTHING = Choices()


def request_build(plant: Dashboard, name: str, kept: Sequence[Upload], number: int, choices: Choices = NOTHING) -> None:
    """Ask the worker for a recipe, once for each form."""
    asked: set[int] = st.session_state.setdefault(ASKED, set())
    if number in asked:
        return
    with told():
        permit = plant.require(Role.OPERATOR)
        with staged(plant.data_path, uploads.decode(kept)) as pictures, permit.write() as session:
            station = ensure_station(session, plant.station)
            wish = choices.changed(products.last_wish(session, name))
            recipe = products.request_recipe(
                session, name, pictures, station_id=station.id, who=permit.who, now=utc_now(), wish=wish
            )
        asked.add(number)
        st.session_state[FORM] = number + 1
        st.session_state[CHOSEN] = recipe.product.name
        st.session_state[TEACHING] = False


def _choose(judged: list[Judged], number: int) -> list[Upload]:
    """Draw the pictures with a box each; only the operator drops one."""
    kept: list[Upload] = []
    if not judged:
        return kept
    odd = sum(bool(one.warnings) for one in judged)
    if odd:
        st.warning(
            f"{odd} of {len(judged)} pictures {'looks' if odd == 1 else 'look'} odd. "
            "Drop those that should not be learned as good.",
            icon=":material/warning:",
        )
    st.caption("Untick a picture to drop it.")
    columns = st.columns(6, gap="small")
    # The odd ones first, where they are seen without scrolling.
    for position, one in enumerate(sorted(judged, key=lambda one: not one.warnings)):
        with columns[position % len(columns)].container(border=True, gap="xsmall"):
            if one.upload.thumbnail:
                st.html(
                    f'<img src="{pictures.data_uri(one.upload.thumbnail)}" alt="" style="width:100%;border-radius:6px">'
                )
            else:
                st.html('<div class="vi-none" style="background:#eef1f4">✕ no picture</div>')
            key = f"teach:keep:{number}:{position}:{one.upload.sha256[:12]}"
            if st.checkbox(one.upload.name, value=True, key=key):
                kept.append(one.upload)
            for warning in one.warnings:
                st.html(f'<div class="vi-card" style="border:0"><div class="note">⚠ {escape(warning)}</div></div>')
    return kept


def _name_fault(name: str, new: bool, view: data.ProductsView) -> str:
    if not new:
        return ""
    if not name.strip():
        return "Give the product a name first."
    try:
        clean = products.check_name(name)
    except UsageError as error:
        return sentence(str(error))
    taken = clean in view.products
    return f"There is a product {clean} already; choose it above to teach a new revision." if taken else ""


def _target_words(target: str) -> str:
    return target if target == NEW else f"A new revision of {target}"


@st.cache_data(max_entries=128, show_spinner="Looking at the pictures …")
def _read(name: str, data: bytes) -> Upload:
    return uploads.read_upload(name, data)
