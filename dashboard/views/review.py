"""Review: one part after the other, a person says whether it was good; what that says of the line, and what follows.

Undecided parts and rejects are shown with their heat map; a random sample of the OK parts is shown without verdict, score
and map (blind), so that the eye decides and not the machine. Each label is a row that stays; a new one counts instead.
"""

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

from dashboard import data, pictures, revisions, tiles, what_if, words
from dashboard.access import allowed
from dashboard.context import Dashboard, dashboard, local_zone, renewed, told, utc_now
from dashboard.views.products import page as products_page
from inspector.errors import UsageError
from inspector.images import read_image
from inspector.promises import MIN_CONFIRMED
from inspector.store import labels, products
from inspector.store.pictures import staged
from inspector.store.schema import InspectionRow, Label, RegionRow
from inspector.types import Verdict, promise_words
from inspector.users import Role

SIDE_PX = 900
SKIPPED, LAST, AGAIN, SHOWN = "review:skipped", "review:last", "review:again", "review:shown"
QUEUES: dict[str, tuple[Verdict, ...]] = {
    "Undecided": (Verdict.UNDECIDED,),
    "Rejects": (Verdict.NG,),
    "Sample of OK": (Verdict.OK,),
}
BLIND = "Sample of OK"
EVERYWHERE, BOX = "the whole part", "a box"
KINDS = ("scratch", "crack", "dent", "stain", "hole", "missing", "wrong", "other")


def page() -> None:
    """Draw the page."""
    with told():
        plant = dashboard()
        found = {
            name: data.to_review(plant.store, plant.station, verdicts, sample=name == BLIND)
            for name, verdicts in QUEUES.items()
        }
        left, right = st.columns([2.2, 1], gap="medium")
        with left:
            name = _choice(found)
            _part(plant, name, _next(plant, found[name]))
        with right:
            _last(plant)
            _what_it_says(plant)


def _choice(found: dict[str, list[int]]) -> str:
    chosen = st.segmented_control(
        "What to look at",
        list(QUEUES),
        default=next((name for name, rows in found.items() if rows), BLIND),
        format_func=lambda name: f"{name} ({len(found[name])})",
        key="review:queue",
        required=True,
    )
    return str(chosen)


def _next(plant: Dashboard, waiting: Sequence[int]) -> InspectionRow | None:
    """The part to look at: one to be labelled again, else the first that was not skipped."""
    again = st.session_state.get(AGAIN)
    skipped: set[int] = st.session_state.setdefault(SKIPPED, set())
    number = again or next((one for one in waiting if one not in skipped), None)
    return None if number is None else data.inspection(plant.store, number)


def _part(plant: Dashboard, queue: str, row: InspectionRow | None) -> None:
    st.session_state[SHOWN] = None if row is None else row.id
    if row is None:
        _nothing_left(queue)
        return
    blind = queue == BLIND and st.session_state.get(AGAIN) is None
    part = data.part_view(row)
    with st.container(border=True, key="card-review"):
        if blind:
            st.caption(f"{tiles.product_words(part)} · the verdict is not shown, so that it does not decide for you")
        else:
            st.html(tiles.verdict(part, local_zone()))
            st.caption(tiles.product_words(part))
        picture = pictures.view(plant.data_path, row.image_path, SIDE_PX)
        heat_map = None if blind else pictures.view(plant.data_path, row.map_path, SIDE_PX)
        if picture is None:
            st.html(tiles.empty("The picture has been tidied away", "Skip this part; it can no longer be labelled."))
        elif heat_map is None:
            st.image(picture, width="stretch")
        else:
            one, other = st.columns(2, gap="small")
            one.image(_with_regions(picture, row), caption="picture with regions", width="stretch")
            other.image(heat_map, caption="heat map", width="stretch")
        kind, region = _defect_form(row, blind=blind)
        _buttons(plant, row, labels.Said(labels.DEFECT, kind, region, blind), usable=picture is not None)


def _nothing_left(queue: str) -> None:
    if st.session_state.get(SKIPPED):
        st.html(tiles.empty("Nothing is left but what you skipped", "Take it up again when you are ready."))
        st.button("Show the skipped parts", on_click=_unskip, icon=":material/undo:")
    else:
        advice = {
            "Undecided": "Set a grey zone on the right, and parts near the threshold wait here for a person.",
            "Rejects": "Rejected parts whose pictures are kept wait here.",
            BLIND: "Accepted parts whose pictures are kept wait here; `images.save` says which are kept.",
        }
        st.html(tiles.empty("Nothing to review", advice[queue]))


def _unskip() -> None:
    st.session_state[SKIPPED] = set()


def _with_regions(picture: bytes, row: InspectionRow) -> bytes:
    size_px = row.detail.get("image_size_px")
    boxes = [(one.x_px, one.y_px, one.width_px, one.height_px) for one in row.regions]
    if not boxes or not size_px:
        return picture
    return pictures.with_boxes(picture, boxes, (int(size_px[0]), int(size_px[1])))


def _defect_form(row: InspectionRow, *, blind: bool) -> tuple[str, tuple[float, float, float, float] | None]:
    """What kind of defect it would be and where: one of the regions found, or a box drawn with four numbers."""
    width_px, height_px = row.detail.get("image_size_px") or (0, 0)
    regions = [] if blind or not width_px else list(row.regions)
    places = [EVERYWHERE, *(f"region {number}" for number, _ in enumerate(regions, 1)), BOX]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = st.selectbox(
            "If it is a defect: which",
            KINDS,
            index=None,
            placeholder="not said",
            key=f"review:kind:{row.id}",
            accept_new_options=True,
        )
        place = st.selectbox("where", places, index=1 if regions else 0, key=f"review:place:{row.id}")
    if place == EVERYWHERE:
        return str(kind or ""), None
    if place == BOX:
        across = st.slider("from left to right, %", 0, 100, (25, 75), key=f"review:x:{row.id}")
        down = st.slider("from top to bottom, %", 0, 100, (25, 75), key=f"review:y:{row.id}")
        return str(kind or ""), _box(across[0] / 100, down[0] / 100, across[1] / 100, down[1] / 100)
    return str(kind or ""), _region_box(regions[places.index(place) - 1], (width_px, height_px))


def _box(left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
    """Left, top, width and height inside the picture, not empty however it was drawn."""
    left, top = min(left, 0.99), min(top, 0.99)
    return left, top, min(max(right - left, 0.01), 1.0 - left), min(max(bottom - top, 0.01), 1.0 - top)


def _buttons(plant: Dashboard, row: InspectionRow, defect: labels.Said, *, usable: bool) -> None:
    answers = (
        ("Good", "g", labels.Said(labels.GOOD, blind=defect.blind), ":material/thumb_up:"),
        ("Defect", "d", defect, ":material/thumb_down:"),
        ("Unusable", "u", labels.Said(labels.UNUSABLE, blind=defect.blind), ":material/hide_image:"),
    )
    with st.container(horizontal=True):
        for title, key, said, icon in answers:
            st.button(
                title,
                key=f"review:{said.label}:{row.id}",
                shortcut=key,
                icon=icon,
                on_click=_answer,
                args=(plant, row.id, said),
                type="primary" if said.label == labels.GOOD else "secondary",
                **allowed(plant.visitor, Role.OPERATOR, disabled=not usable),
            )
        st.button("Skip", key=f"review:skip:{row.id}", shortcut="s", on_click=_skip, args=(row.id,))


def _is_answered_now(inspection_id: int) -> bool:
    """Whether this part is the one on the screen, true once for each drawing.

    In the browser the buttons of the part before stay until the page is drawn; a fast key reaches those of both parts.
    """
    if st.session_state.get(SHOWN) != inspection_id:
        return False
    st.session_state[SHOWN] = None
    return True


def _answer(plant: Dashboard, inspection_id: int, said: labels.Said) -> None:
    if _is_answered_now(inspection_id):
        with told():
            _label(plant, inspection_id, said)


def _skip(inspection_id: int) -> None:
    if not _is_answered_now(inspection_id):
        return
    st.session_state[AGAIN] = None
    st.session_state.setdefault(SKIPPED, set()).add(inspection_id)


def _label(plant: Dashboard, inspection_id: int, said: labels.Said) -> None:
    permit = plant.require(Role.OPERATOR)
    row = data.inspection(plant.store, inspection_id)
    if row.image_path is None or row.recipe is None:
        raise UsageError("this part has no picture any more, so it cannot be labelled")
    name, image = row.recipe.product.name, read_image(plant.data_path / row.image_path)
    shown = [(_file_name(row.image_path), image)]
    with staged(plant.data_path, shown) as (picture,), permit.write() as session:
        labels.add_label(
            session,
            products.find_product(session, name),
            picture,
            said,
            inspection_id=inspection_id,
            source="review",
            who=permit.who,
            now=utc_now(),
        )
    st.session_state[AGAIN] = None
    st.session_state[LAST] = inspection_id


def _last(plant: Dashboard) -> None:
    """What was said last, with the way back, and the one-click way to learn from a false reject."""
    number = st.session_state.get(LAST)
    if number is None:
        return
    said = data.labels_of(plant.store, [number]).get(number)
    row = data.inspection(plant.store, number)
    if said is None:
        return
    part = data.part_view(row)
    with st.container(border=True, key="card-last"):
        st.subheader("Your last answer")
        st.html(tiles.facts([(part.name, said.label if not said.kind else f"{said.label}, {said.kind}")]))
        st.button("Change it", on_click=_again, args=(number,), icon=":material/undo:")
        if said.label == labels.GOOD and part.verdict in (Verdict.NG, Verdict.UNDECIDED):
            _overkill(plant, row)
        _lessons(plant, row, said)


@renewed(1.0)
def _overkill(plant: Dashboard, row: InspectionRow) -> None:
    """Offer a good part that was not accepted as a reference; once it is one, say how far its revision is."""
    if row.recipe is None or row.image_path is None:
        return
    taken = data.recipe_with(plant.store, row.recipe.product.name, _file_name(row.image_path))
    if taken is None:
        st.caption("A good part was not accepted. As a reference it shows the line that this look is good.")
        st.button(
            "Add to the references",
            on_click=_add_reference,
            args=(plant, row.id),
            icon=":material/add_photo_alternate:",
            type="primary",
            **allowed(plant.visitor, Role.OPERATOR),
        )
    elif taken.busy:
        st.progress(taken.progress, text=f"{taken.title} is being built with it · {100 * taken.progress:.0f} %")
    else:
        st.caption(f"It is a reference of {taken.title}. See on Products what would change, and activate it there.")
        st.page_link(
            st.Page(products_page, title="Products", url_path="products"),
            label=f"See {taken.title}",
            icon=":material/inventory_2:",
        )


def _lessons(plant: Dashboard, row: InspectionRow, said: Label) -> None:
    """Offer to teach what the answer shows: a defect to look out for, or a mark of a good part to tolerate."""
    if said.lesson:
        st.caption(
            "This teaches later revisions "
            + ("to look out for it." if said.label == labels.DEFECT else "to leave it alone.")
        )
    elif said.label == labels.DEFECT and said.region:
        left, top, width, height = said.region
        given = labels.Said(labels.DEFECT, said.kind, (left, top, width, height), said.blind, teaches=True)
        st.caption("Parts with a mark like this one will score higher, wherever it lies.")
        st.button(
            "Teach this defect",
            on_click=_teach,
            args=(plant, row.id, given),
            icon=":material/school:",
            **allowed(plant.visitor, Role.OPERATOR),
        )
    elif said.label == labels.GOOD and row.regions and (size_px := row.detail.get("image_size_px")):
        box = _region_box(row.regions[0], size_px)
        given = labels.Said(labels.GOOD, region=box, blind=said.blind, teaches=True)
        st.caption("A mark that all good parts may have: what looks like region 1, in its place, will score lower.")
        st.button(
            "Tolerate this mark",
            on_click=_teach,
            args=(plant, row.id, given),
            icon=":material/school:",
            **allowed(plant.visitor, Role.OPERATOR),
        )


def _teach(plant: Dashboard, inspection_id: int, said: labels.Said) -> None:
    """Keep the lesson, and ask the worker for a revision that knows it."""
    with told():
        _label(plant, inspection_id, said)
        row = data.inspection(plant.store, inspection_id)
        if row.recipe is not None:
            revisions.request(plant, row.recipe.product.name)


def _region_box(one: RegionRow, size_px: Sequence[int]) -> tuple[float, float, float, float]:
    """A region as fractions of its picture of `size_px` (width, height)."""
    x, y = one.x_px / int(size_px[0]), one.y_px / int(size_px[1])
    return _box(x, y, x + one.width_px / int(size_px[0]), y + one.height_px / int(size_px[1]))


def _again(inspection_id: int) -> None:
    st.session_state[AGAIN] = inspection_id


def _add_reference(plant: Dashboard, inspection_id: int) -> None:
    """Ask the worker for a revision with one reference more; it is previewed and activated on the Products page."""
    with told():
        row = data.inspection(plant.store, inspection_id)
        if row.image_path is None or row.recipe is None:
            raise UsageError("this part has no picture any more, so it cannot become a reference")
        name, product = _file_name(row.image_path), row.recipe.product.name
        if data.recipe_with(plant.store, product, name) is None:  # a second click adds nothing
            revisions.request(plant, product, [(name, read_image(plant.data_path / row.image_path))])


def _file_name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _what_it_says(plant: Dashboard) -> None:
    """What the labels say of the active product, and the threshold that they support."""
    station = data.products(plant.store, plant.station).station
    active = None if station is None else station.active
    if active is None:
        return
    seen = data.reviewed(plant.store, active.product)
    with st.container(border=True, key="card-labels"):
        st.subheader(active.product)
        threshold = words.number(active.threshold)
        promise = active.calibration
        st.html(
            tiles.facts(
                [
                    ("Threshold", threshold),
                    (
                        "Rests on",
                        promise_words(
                            active.calibration_kind or "",
                            active.calibration_n or 0,
                            promise.get("rate"),
                            promise.get("bound"),
                        ),
                    ),
                    ("Labelled", f"{seen.good} good, {seen.defects} defects, {seen.unusable} unusable"),
                    ("Good parts rejected", words.share(seen.rejects_good, seen.rejects)),
                    ("Defects accepted (blind sample)", words.share(seen.accepted_bad, seen.accepted)),
                ]
            )
        )
        if seen.rejects or seen.accepted:
            st.caption("Shares with 95 % confidence intervals (Clopper and Pearson), of the parts that were reviewed.")
        _recalibration(plant, active, seen)
    with st.expander("What would another threshold do?", icon=":material/troubleshoot:"):
        what_if.draw(plant, active)


def _recalibration(plant: Dashboard, active: data.RecipeView, seen: data.Reviewed) -> None:
    if seen.good < MIN_CONFIRMED:
        st.info(
            f"Label {MIN_CONFIRMED - seen.good} more good parts, and the threshold can rest on them.",
            icon=":material/info:",
        )
        return
    wish = active.calibration
    target = st.number_input(
        "Good parts that may be rejected, %",
        min_value=0.0,
        max_value=50.0,
        value=100 * float(wish.get("target") or 0.0),
        step=0.5,
        key=f"review:target:{active.id}",
        help="0: the largest score of a confirmed good part is the limit",
    )
    grey = st.number_input(
        "Width of the undecided zone, in spreads of good scores",
        min_value=0.0,
        max_value=10.0,
        value=float(wish.get("grey") or 0.0),
        step=0.5,
        key=f"review:grey:{active.id}",
    )
    fault = data.wish_fault(target / 100, seen.good)
    if fault:
        st.warning(fault, icon=":material/info:")
    st.button(
        "Recalibrate",
        on_click=_recalibrate,
        args=(plant, active.product, target / 100 or None, grey),
        icon=":material/tune:",
        type="primary",
        **allowed(plant.visitor, Role.OPERATOR, disabled=bool(fault)),
    )


def _recalibrate(plant: Dashboard, product: str, target: float | None, grey: float) -> None:
    with told():
        revisions.request(plant, product, [], lambda wish: replace(wish, target=target, grey=grey))
