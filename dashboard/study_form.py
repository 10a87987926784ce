"""The form that makes a study: who judges, how often, and which parts with which truth. Nothing is judged here.

The suggestion stays as it is while the line goes on: parts that come by meanwhile do not move under the engineer's hands.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import streamlit as st

from dashboard import data, pictures, tiles, uploads, words
from dashboard.access import allowed
from dashboard.context import Dashboard, sentence, told, utc_now
from dashboard.people import known_users
from dashboard.uploads import Upload
from inspector.errors import InspectorError, UsageError
from inspector.images import SUFFIXES, decode_image, read_image
from inspector.store import studies
from inspector.store.labels import DEFECT, GOOD
from inspector.store.pictures import Picture, staged
from inspector.store.studies import Candidate, Chosen, Plan
from inspector.types import ImageArray
from inspector.users import Role

CHOSEN, NEW = "study:chosen", 0
FORM, MADE, SUGGESTED = "study:form", "study:made", "study:suggested"
OUT, UNKNOWN = "leave out", "not known"
TRUTHS = (GOOD, DEFECT, UNKNOWN, OUT)
THUMBNAIL_SIDE_PX = 220
SENSIBLE_PARTS, DEFAULT_PARTS = 20, 24
COLUMNS = 6


@dataclass(frozen=True)
class Card:
    """A picture that may become a part: from the store, or uploaded."""

    key: str
    name: str
    thumbnail: bytes | None
    note: str
    truth: str
    fault: str
    source: Candidate | Upload


def draw(plant: Dashboard) -> None:
    """Draw the form."""
    number = st.session_state.setdefault(FORM, 0)
    view = data.products(plant.store, plant.station)
    if not view.products:
        st.html(
            tiles.empty("No product yet", "Teach one on the Products page; a study is about the parts of a product.")
        )
        return
    active = view.station.active.product if view.station and view.station.active else next(iter(view.products))
    with st.container(border=True, key="card-study-who"):
        left, right = st.columns(2, gap="large")
        with left:
            product = st.selectbox(
                "Product", list(view.products), index=list(view.products).index(active), key=f"study:product:{number}"
            )
            title = st.text_input(
                "Title", placeholder="e.g. Shift A, scratches", max_chars=studies.MAX_TITLE, key=f"study:title:{number}"
            )
            names = _operators(plant, number)
        with right:
            wanted = st.slider("Parts to suggest", 6, 60, DEFAULT_PARTS, key=f"study:wanted:{number}")
            repeats = st.number_input(
                "Rounds: how often each operator judges each part",
                1,
                studies.MAX_REPEATS,
                2,
                key=f"study:repeats:{number}",
            )
            with_system = st.checkbox(
                "The inspection system is a judge too, with the verdicts it gave",
                value=True,
                key=f"study:system:{number}",
            )
            cards = [*_suggested(plant, str(product), int(wanted), number), *_uploaded(number)]
    kept = _choose(cards, number)
    _make_button(plant, (str(product), title, names, int(repeats), with_system), kept, number)


def make(plant: Dashboard, plan: Plan, kept: Sequence[tuple[Card, str]], number: int) -> None:
    """Store the study, once for each form (a double click asks twice)."""
    made: set[int] = st.session_state.setdefault(MADE, set())
    if number in made:
        return
    with told():
        permit = plant.require(Role.ENGINEER)
        images = ((card.name, _image(plant, card)) for card, _ in kept)
        with staged(plant.data_path, images) as pictures:
            parts = [_part(card, truth, picture) for (card, truth), picture in zip(kept, pictures, strict=True)]
            with permit.write() as session:
                study = studies.make_study(session, plan, parts, who=permit.who, now=utc_now())
        made.add(number)
        st.session_state[FORM] = number + 1
        st.session_state[CHOSEN] = study.id


def _operators(plant: Dashboard, number: int) -> tuple[str, ...]:
    """Who is to judge: by the names that they log in with, where people log in."""
    if plant.visitor.logged_in:
        there = [user.name for user in known_users(plant.config).values() if user.role.includes(Role.OPERATOR)]
        return tuple(
            st.multiselect("Operators, who judge under their own login", there, key=f"study:operators:{number}")
        )
    said = st.text_area(
        "Operators, one name a line", placeholder="Anna\nBen", height=110, key=f"study:operators:{number}"
    )
    return tuple(said.splitlines())


def _suggested(plant: Dashboard, product: str, wanted: int, number: int) -> list[Card]:
    asked = (product, wanted, number)
    if st.session_state.get(SUGGESTED, (None,))[0] != asked:
        with plant.store.read() as session:
            found = studies.suggest(studies.candidates(session, product), wanted)
        st.session_state[SUGGESTED] = (asked, found)
    found = st.session_state[SUGGESTED][1]
    cards = []
    for one in found:
        thumbnail = pictures.view(plant.data_path, one.path, THUMBNAIL_SIDE_PX)
        fault = "" if thumbnail else "the picture has been tidied away"
        look = "" if one.verdict is None else words.VERDICTS[one.verdict].word
        note = " · ".join(text for text in (look, one.truth and f"labelled {one.truth}", _nearness(one)) if text)
        cards.append(Card(one.key, one.name, thumbnail, note, one.truth, fault, one))
    return cards


def _nearness(one: Candidate) -> str:
    if one.score is None or not one.threshold:
        return ""
    return f"{100 * one.score / one.threshold:.0f} %"


def _uploaded(number: int) -> list[Card]:
    files = st.file_uploader(
        "More pictures of parts, if the line has not kept the ones you want",
        type=[suffix.removeprefix(".") for suffix in sorted(SUFFIXES)],
        accept_multiple_files=True,
        max_upload_size=uploads.MAX_FILE_MB,
        key=f"study:files:{number}",
    )
    read = [_read(file.name, file.getvalue()) for file in files or []]
    return [
        Card(f"upload:{place}:{one.sha256[:12]}", one.name, one.thumbnail, "uploaded", "", one.fault, one)
        for place, one in enumerate(read)
    ]


@st.cache_data(max_entries=128, show_spinner="Looking at the pictures …")
def _read(name: str, content: bytes) -> Upload:
    return uploads.read_upload(name, content)


def _choose(cards: Sequence[Card], number: int) -> list[tuple[Card, str]]:
    """Draw the pictures with their truths; gives those that are in, each with its truth or nothing."""
    if not cards:
        st.html(
            tiles.empty(
                "No picture to suggest", "Let the line run with `images.save`, label parts, or upload pictures."
            )
        )
        return []
    kept = []
    with st.container(border=True, key="card-study-parts"):
        st.subheader("Parts and their truth")
        st.caption(
            "A third near the threshold, a third good, a third rejected, as far as there are any. Say of each what it "
            "truly is, as an engineer or a gauge decides; labels are filled in. Operators see neither truth nor verdict. "
            "Percent: score against threshold."
        )
        columns = st.columns(COLUMNS, gap="small")
        for place, card in enumerate(cards):
            with columns[place % COLUMNS].container(border=True, gap="xsmall"):
                _picture(card)
                if card.fault:
                    st.html(
                        f'<div class="vi-card" style="border:0"><div class="note">⚠ {escape(card.fault)}</div></div>'
                    )
                    continue
                truth = st.selectbox(
                    f"Truth of {card.name}",
                    TRUTHS,
                    index=TRUTHS.index(card.truth or UNKNOWN),
                    key=f"study:truth:{number}:{card.key}",
                    label_visibility="collapsed",
                )
                if truth != OUT:
                    kept.append((card, "" if truth == UNKNOWN else str(truth)))
    return kept


def _picture(card: Card) -> None:
    image = (
        f'<img src="{pictures.data_uri(card.thumbnail)}" alt="{escape(card.name)}">'
        if card.thumbnail
        else '<div class="vi-none">no picture</div>'
    )
    st.html(
        f'<div class="vi-card" style="border:0">{image}<div class="vi-small" style="white-space:normal">{escape(card.name)}'
        f"<br>{escape(card.note)}</div></div>"
    )


def _make_button(
    plant: Dashboard,
    wished: tuple[str, str, tuple[str, ...], int, bool],
    kept: Sequence[tuple[Card, str]],
    number: int,
) -> None:
    product, title, operators, repeats, with_system = wished
    plan, fault = None, ""
    try:
        plan = Plan(product, title, operators, repeats, secrets.randbelow(2**31), with_system)
        if len(kept) < studies.MIN_PARTS:
            fault = f"Choose {studies.MIN_PARTS} parts or more."
    except UsageError as error:
        fault = sentence(str(error))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            f"Make the study of {len(kept)} parts",
            type="primary",
            icon=":material/groups:",
            key=f"study:make:{number}",
            on_click=make,
            args=(plant, plan, list(kept), number),
            **allowed(plant.visitor, Role.ENGINEER, disabled=plan is None or bool(fault)),
        )
        st.caption(fault or _advice(kept, 0 if plan is None else len(plan.operators), repeats))


def _advice(kept: Sequence[tuple[Card, str]], operators: int, repeats: int) -> str:
    """What the study will be, and what it cannot show."""
    good, bad = (sum(truth == wanted for _, truth in kept) for wanted in (GOOD, DEFECT))
    said = [
        f"{good} good, {bad} defects, {len(kept) - good - bad} of unknown truth; {len(kept) * repeats} answers each."
    ]
    if len(kept) < SENSIBLE_PARTS:
        said.append(f"Fewer than {SENSIBLE_PARTS} parts show coarse faults only.")
    if not good or not bad:
        said.append("Without good parts and defects of known truth, misses or false alarms cannot be told.")
    if operators < 2:
        said.append("With one operator nothing is said of agreement between people.")
    if repeats < 2:
        said.append("With one round nothing is said of agreement with oneself.")
    return " ".join(said)


def _image(plant: Dashboard, card: Card) -> ImageArray:
    """The picture in full.

    Raises:
        UsageError: it has gone meanwhile.
    """
    if isinstance(card.source, Upload):
        return decode_image(card.source.data, card.name)
    try:
        return read_image(plant.data_path / card.source.path)
    except InspectorError as error:
        raise UsageError(f"the picture of {card.name} has been tidied away; leave it out and try again") from error


def _part(card: Card, truth: str, picture: Picture) -> Chosen:
    """The picture and what is known of it."""
    source = "" if not truth else studies.FROM_LABEL if truth == card.truth else studies.FROM_ENGINEER
    if isinstance(card.source, Upload):
        return Chosen(picture, truth, source)
    return Chosen(picture, truth, source, card.source.inspection_id, card.source.verdict)
