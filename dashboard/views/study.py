"""Study: do the people who judge parts agree, with themselves, with each other and with the truth? In three steps.

Make a study; each operator judges, blind and one part at a time; read and print the result. While somebody judges, nothing
else is on the page.
"""

import streamlit as st

from dashboard import study_form, study_judging, study_result, tiles
from dashboard.context import dashboard, told
from dashboard.study_form import CHOSEN, NEW
from inspector.store import studies
from inspector.store.schema import Study
from inspector.study import result as results

JUDGE, RESULT = "Judge", "Result"
WHAT_IT_IS = (
    "Several people judge the same parts, twice and without seeing any verdict. If Anna calls a part good today and a defect "
    "tomorrow, or Ben never agrees with her, their labels cannot move a threshold yet."
)
HOW_MANY = (
    "Sensible: 20 parts or more, half of them defects and some near the threshold; 2 or 3 operators; 2 rounds. Fewer work "
    "too, and the intervals of the result show how little they tell."
)


def page() -> None:
    """Draw the page."""
    with told():
        plant = dashboard()
        if study_judging.busy():
            study_judging.draw(plant)
            return
        with plant.store.read() as session:
            found = {study.id: study for study in studies.list_studies(session)}
        chosen = _choice(found)
        if chosen == NEW:
            _introduction()
            study_form.draw(plant)
            return
        with plant.store.read() as session:
            result = results.load(session, chosen)
        step = _steps(result)
        if step == JUDGE:
            study_judging.invite(plant, result)
        else:
            study_result.draw(plant, result)


def _choice(found: dict[int, Study]) -> int:
    """Which study the page is about; the newest first, and a new one where there is none."""
    options = [*found, NEW]
    if st.session_state.get(CHOSEN) not in options:
        st.session_state[CHOSEN] = options[0]
    if not found:
        return NEW
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox("Study", options, format_func=lambda number: _title(found.get(number)), key=CHOSEN)
        if chosen != NEW:
            st.button("Make a study", icon=":material/add:", on_click=_make)
    return int(chosen)


def _make() -> None:
    st.session_state[CHOSEN] = NEW


def _title(study: Study | None) -> str:
    if study is None:
        return "A new study"
    return f"{study.id} · {study.title} ({study.product.name}, {len(study.parts)} parts)"


def _introduction() -> None:
    with st.container(border=True, key="card-study-intro"):
        st.subheader("Do the people who judge parts agree?")
        st.markdown(WHAT_IT_IS)
        st.caption(HOW_MANY)


def _steps(result: results.StudyResult) -> str:
    """Which step is shown; the result once everybody has finished."""
    given, wanted = sum(result.progress.values()), result.total * len(result.operators)
    words = {JUDGE: f"2 · Judge ({given} of {wanted})", RESULT: "3 · Result"}
    with st.container(horizontal=True, vertical_alignment="center"):
        st.html(f'<span class="vi-said">{tiles.done("1 · Made")}</span>', width="content")
        step = st.segmented_control(
            "Step",
            [JUDGE, RESULT],
            default=JUDGE if result.unfinished else RESULT,
            format_func=lambda name: words[name],
            key=f"study:step:{result.id}:{bool(result.unfinished)}",
            required=True,
            label_visibility="collapsed",
        )
    return str(step)
