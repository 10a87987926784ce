"""Judging: one picture, two keys, no way back. Verdict, score, heat map, truth and name of a part are never on this page.

Who judges is chosen by name, and where people log in it is their own name; leaving and coming back goes on with the next
part. The clock of an answer begins when its picture is drawn and does not run through a pause.
"""

from time import monotonic

import streamlit as st

from dashboard import pictures, tiles
from dashboard.access import Permit, allowed
from dashboard.context import Dashboard, told, utc_now
from dashboard.study_form import CHOSEN
from inspector.errors import AccessError
from inspector.store import studies
from inspector.store.labels import DEFECT, GOOD
from inspector.store.studies import Question
from inspector.study.result import StudyResult
from inspector.users import Role

SIDE_PX, QUALITY = 1400, 95
MIN_LOOK_S = 0.3
"""Nobody sees a defect faster: a key that is held down, or a second click on the part before, is no answer."""
JUDGING, ROUND, SHOWN = "study:judging", "study:round", "study:shown"
KEYS = ((GOOD, "Good", "g", ":material/thumb_up:"), (DEFECT, "Defect", "d", ":material/thumb_down:"))


def busy() -> bool:
    """Whether somebody judges in this tab."""
    return st.session_state.get(JUDGING) is not None


def invite(plant: Dashboard, result: StudyResult) -> None:
    """Who is to judge, how far they are, and the button that begins."""
    with st.container(border=True, key="card-study-judge"):
        st.subheader("Who judges now?")
        st.caption(
            f"{len(result.parts)} parts, {result.repeats} rounds, each in another order. One picture at a time; press G "
            "for good and D for defect. You can pause and go on later, but not go back. Decide alone, as on the line."
        )
        there = plant.visitor
        if there.logged_in and there.name not in result.operators:
            st.info(f"{tiles.plain(there.name)} is none of the operators of this study.", icon=":material/info:")
        for place, name in enumerate(result.operators):
            done = result.progress[name]
            who, how_far, button = st.columns([1.2, 2.4, 1], vertical_alignment="center")
            who.markdown(f"**{tiles.plain(name)}**")
            how_far.progress(done / result.total, text=f"{done} of {result.total} answers")
            button.button(
                "Finished" if done == result.total else "Go on" if done else "Begin",
                key=f"study:begin:{result.id}:{place}",
                on_click=_begin,
                args=(result.id, name),
                type="primary" if done < result.total else "secondary",
                width="stretch",
                **allowed(
                    there,
                    Role.OPERATOR,
                    disabled=done == result.total or (there.logged_in and there.name != name),
                ),
            )


def draw(plant: Dashboard) -> None:
    """The next question of who judges in this tab."""
    study_id, operator = st.session_state[JUDGING]
    with plant.store.read() as session:
        asked = studies.question(session, study_id, operator)
        repeats = studies.get_study(session, study_id).repeats
    if asked is None:
        st.html(tiles.empty(f"Thank you, {operator}, that was the last part", "Your answers are stored."))
        st.button("Back to the study", on_click=_leave, type="primary", icon=":material/check:")
        return
    head, pause = st.columns([6, 1], vertical_alignment="center")
    head.progress(
        asked.done / asked.total,
        text=f"**{tiles.plain(operator)}** · part {asked.done + 1} of {asked.total} · round {asked.repeat + 1} of {repeats}",
    )
    pause.button("Pause", shortcut="p", on_click=_leave, icon=":material/pause:", width="stretch", key="study:pause")
    if asked.repeat != st.session_state.setdefault(ROUND, asked.repeat):
        _between(asked)
        return
    _ask(plant, study_id, operator, asked)


def _between(asked: Question) -> None:
    """A break after a round: what was answered must not be fresh in mind."""
    st.html(
        tiles.empty(
            f"Round {asked.repeat} is done",
            "Take a break, best until tomorrow: press Pause and come back. The next round shows the same parts in another "
            "order; judge them as if you had never seen them.",
        )
    )
    st.button(
        f"Begin round {asked.repeat + 1}",
        on_click=_next_round,
        args=(asked.repeat,),
        type="primary",
        key="study:round-go",
    )


def _ask(plant: Dashboard, study_id: int, operator: str, asked: Question) -> None:
    picture = pictures.view(plant.data_path, asked.path, SIDE_PX, QUALITY)
    if picture is None:
        st.error(
            f"The picture {plant.data_path / asked.path} of this part is missing or damaged; bring it back from a backup of "
            "the data folder, then go on. Your answers until here are stored.",
            icon=":material/hide_image:",
        )
        return
    shown = (study_id, operator, asked.repeat, asked.part_id)
    with st.container(horizontal=True, horizontal_alignment="center", key="study-answers"):
        for said, title, key, icon in KEYS:
            st.button(
                title,
                key=f"study:{said}:{study_id}:{asked.repeat}:{asked.part_id}",
                shortcut=key,
                icon=icon,
                on_click=_answer,
                args=(plant, study_id, operator, asked, said),
                width="stretch",
            )
    with st.container(key="study-picture"):
        st.image(picture, width="stretch")
    if st.session_state.get(SHOWN, (None,))[0] != shown:
        st.session_state[SHOWN] = (shown, monotonic())


def _answer(plant: Dashboard, study_id: int, operator: str, asked: Question, said: str) -> None:
    shown, since = st.session_state.get(SHOWN, (None, 0.0))
    took_s = monotonic() - since
    if shown != (study_id, operator, asked.repeat, asked.part_id) or took_s < MIN_LOOK_S:
        st.toast(
            "That was too quick to be an answer to this part; look at it and press again.", icon=":material/speed:"
        )
        return
    with told(), _judge(plant, operator).write() as session:
        studies.answer(session, study_id, operator, asked, said, took_s=took_s, now=utc_now())


def _judge(plant: Dashboard, operator: str) -> Permit:
    """Leave to answer in the name of an operator: where people log in, only for that one.

    Raises:
        AccessError: somebody else is logged in, or the role is too low.
    """
    permit = plant.require(Role.OPERATOR)
    if permit.logged_in and permit.who != operator:
        raise AccessError(f"only {operator} may answer as {operator}, but {permit.who} is logged in")
    return permit


def _begin(study_id: int, operator: str) -> None:
    st.session_state[JUDGING] = (study_id, operator)


def _next_round(repeat: int) -> None:
    st.session_state[ROUND] = repeat


def _leave() -> None:
    st.session_state[CHOSEN] = st.session_state[JUDGING][0]  # the page forgets a choice that it did not draw
    for key in (JUDGING, ROUND, SHOWN):
        st.session_state.pop(key, None)
