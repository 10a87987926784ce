"""Known parts of a product: add pictures, labelled parts or physical parts to its challenge sets, and take them out.

A picture is never believed by its name: it is decoded, and what is stored is encoded anew. The form has a number and is
empty again once its parts are stored.
"""

from collections.abc import Sequence

import streamlit as st

from dashboard import data, pictures, tiles, uploads, verification
from dashboard.access import Permit, allowed
from dashboard.context import Dashboard, told, utc_now
from dashboard.uploads import Upload
from dashboard.verification import HealthView, MemberView
from inspector.images import SUFFIXES, read_image
from inspector.store import challenges
from inspector.store.pictures import Picture, staged
from inspector.store.products import find_product
from inspector.store.schema import Label
from inspector.users import Role

FORM = "known:form"
LABELS_SHOWN = 12
SIDE_PX = 160
EXPECTED = {"good": "good parts", "defect": "defects"}


def draw(plant: Dashboard, view: HealthView) -> None:
    """Draw the known parts of a product, and the ways to add some."""
    names = list(data.products(plant.store, plant.station).products)
    with st.container(border=True, key="card-known"):
        st.subheader("Known parts")
        if not names:
            st.caption("Teach a product first; its known parts are kept here.")
            return
        active = view.station.active
        with st.container(horizontal=True, vertical_alignment="bottom"):
            first = names.index(active.product) if active else 0
            product = str(st.selectbox("Product", names, index=first, key="known:product", width=260))
            set_no = int(st.number_input("Set", 1, 65_535, 1, key="known:set", width=130))
        there = [one for one in verification.members(plant.store, product) if one.set_no == set_no]
        left, right = st.columns([1, 1.1], gap="medium")
        with left:
            _list(plant, there)
        with right:
            from_files, from_labels, physical = st.tabs(["Add pictures", "Add labelled parts", "Add a physical part"])
            with from_files:
                _files(plant, product, set_no)
            with from_labels:
                _labels(plant, product, set_no, {one.name for one in there})
            with physical:
                _physical(plant, product, set_no)


def _list(plant: Dashboard, there: Sequence[MemberView]) -> None:
    if not there:
        st.html(
            tiles.empty(
                "No known parts in this set",
                "Add good parts that must be accepted and defects that must be found; each kind of defect once or twice.",
            )
        )
        return
    views = [pictures.view(plant.data_path, one.path, SIDE_PX) for one in there]
    st.dataframe(
        [
            {
                "picture": None if jpeg is None else pictures.data_uri(jpeg),
                "part": one.name,
                "expected": one.expected + (f" ({one.kind})" if one.kind else ""),
                "id on the line": one.part,
            }
            for one, jpeg in zip(there, views, strict=True)
        ],
        column_config={"picture": st.column_config.ImageColumn(width="small")},
        hide_index=True,
        placeholder="–",
        row_height=52,
    )
    titles = {one.id: one.name for one in there}
    gone = st.multiselect(
        "Take out of the set", list(titles), format_func=lambda number: titles.get(number, ""), key="known:remove"
    )
    st.button(
        "Take out",
        **allowed(plant.visitor, Role.OPERATOR, disabled=not gone),
        on_click=_retire,
        args=(plant, gone),
        key="known:retire",
        icon=":material/delete:",
    )


def _files(plant: Dashboard, product: str, set_no: int) -> None:
    number = st.session_state.setdefault(FORM, 0)
    expected, kind = _expected(f"files:{number}")
    files = st.file_uploader(
        "Pictures by this camera, one for each part",
        type=[suffix.removeprefix(".") for suffix in sorted(SUFFIXES)],
        accept_multiple_files=True,
        max_upload_size=uploads.MAX_FILE_MB,
        key=f"known:files:{number}",
    )
    read = [uploads.read_upload(file.name, file.getvalue()) for file in files or []]
    for upload in read:
        if upload.fault:
            st.warning(f"{upload.name}: {upload.fault}", icon=":material/warning:")
    usable = [upload for upload in read if upload.usable]
    st.button(
        f"Add {len(usable)} known parts" if len(usable) != 1 else "Add 1 known part",
        **allowed(plant.visitor, Role.OPERATOR, disabled=not usable),
        on_click=_add_files,
        args=(plant, product, set_no, usable, (expected, kind)),
        key=f"known:add:{number}",
        icon=":material/add_photo_alternate:",
        type="primary",
    )


def _expected(form: str) -> tuple[str, str]:
    """What the parts of a form must be found to be: good or a defect, and of which kind."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        expected = st.segmented_control(
            "They are",
            list(EXPECTED),
            default="good",
            format_func=EXPECTED.__getitem__,
            key=f"known:expected:{form}",
            required=True,
        )
        kind = ""
        if expected == challenges.DEFECT:
            kind = st.text_input("Kind of defect", max_chars=64, key=f"known:kind:{form}", width=200)
    return str(expected), kind.strip()


def _labels(plant: Dashboard, product: str, set_no: int, taken: set[str]) -> None:
    """Parts that people have labelled on the page Review, each with one button."""
    said = [one for one in verification.labelled(plant.store, product) if verification.label_name(one) not in taken]
    if not said:
        st.caption("No labelled part is left; parts that are labelled on the page Review can be taken from here.")
        return
    if len(said) > LABELS_SHOWN:
        st.caption(f"The newest {LABELS_SHOWN} of {len(said)}.")
    columns = st.columns(4, gap="small")
    for position, one in enumerate(said[:LABELS_SHOWN]):
        with columns[position % len(columns)].container(border=True, gap="xsmall"):
            jpeg = pictures.view(plant.data_path, one.path, SIDE_PX)
            title = one.label + (f", {one.kind}" if one.kind else "")
            st.html(tiles.card(jpeg, one.name, title))
            st.button(
                "Add",
                on_click=_add_label,
                args=(plant, product, set_no, one),
                key=f"known:label:{one.id}",
                width="stretch",
                **allowed(plant.visitor, Role.OPERATOR),
            )


def _physical(plant: Dashboard, product: str, set_no: int) -> None:
    number = st.session_state.setdefault(FORM, 0)
    st.caption("A part that lies beside the line and is put in front of the camera during a challenge with parts.")
    expected, kind = _expected(f"part:{number}")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.text_input("Name", max_chars=64, key=f"known:name:{number}")
        part = st.text_input(
            "Id that it is triggered with", max_chars=32, placeholder="none: in its turn", key=f"known:part:{number}"
        )
    st.button(
        "Add this part",
        **allowed(plant.visitor, Role.OPERATOR, disabled=not name.strip()),
        on_click=_add_physical,
        args=(plant, product, set_no, (name.strip(), expected, kind, part.strip())),
        key=f"known:physical:{number}",
        icon=":material/add:",
        type="primary",
    )


def _add_files(plant: Dashboard, product: str, set_no: int, kept: Sequence[Upload], said: tuple[str, str]) -> None:
    with told():
        permit = plant.require(Role.OPERATOR)
        with staged(plant.data_path, uploads.decode(kept)) as pictures:
            known = [challenges.Known(one.name.rsplit(".", 1)[0][:64], *said) for one in pictures]
            _add(permit, product, set_no, list(zip(known, pictures, strict=True)))


def _add_label(plant: Dashboard, product: str, set_no: int, label: Label) -> None:
    with told():
        permit = plant.require(Role.OPERATOR)
        known = challenges.Known(verification.label_name(label), label.label, label.kind)
        with staged(plant.data_path, [(label.name, read_image(plant.data_path / label.path))]) as (picture,):
            _add(permit, product, set_no, [(known, picture)])


def _add_physical(plant: Dashboard, product: str, set_no: int, said: tuple[str, str, str, str]) -> None:
    with told():
        _add(plant.require(Role.OPERATOR), product, set_no, [(challenges.Known(*said), None)])


def _add(permit: Permit, product: str, set_no: int, wanted: Sequence[tuple[challenges.Known, Picture | None]]) -> None:
    """Store all of them or none; then the form is empty again."""
    with permit.write() as session:
        row = find_product(session, product)
        for known, picture in wanted:
            challenges.add_member(session, row, known, picture, set_no=set_no, who=permit.who, now=utc_now())
    st.session_state[FORM] = st.session_state.get(FORM, 0) + 1


def _retire(plant: Dashboard, numbers: Sequence[int]) -> None:
    with told(), (permit := plant.require(Role.OPERATOR)).write() as session:
        for number in numbers:
            challenges.retire(session, number, permit.who, utc_now())
