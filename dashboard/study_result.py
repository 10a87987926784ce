"""The result of a study on the page: the tables of the printed report, and the report itself as a file."""

import streamlit as st

from dashboard import tiles
from dashboard.context import Dashboard, local_zone
from inspector.study import report
from inspector.study.result import StudyResult


def draw(plant: Dashboard, result: StudyResult) -> None:
    """Draw the result; while somebody still judges only if it is asked for, since it tells the truths."""
    if not result.finished:
        st.html(tiles.empty("Nobody has finished yet", "The result appears when every operator has judged all parts."))
        return
    if result.unfinished:
        waiting = ", ".join(f"{name} ({result.progress[name]} of {result.total})" for name in result.unfinished)
        st.info(
            f"Still judging: {tiles.plain(waiting)}. The result tells the truths, so keep it from them.",
            icon=":material/info:",
        )
        if not st.toggle("Show the result of those who have finished", key=f"study:early:{result.id}"):
            return
    zone = local_zone()
    with st.container(border=True, key="card-study-result"):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.subheader(tiles.plain(result.title))
            st.download_button(
                "Printable report",
                data=report.write_html(result, plant.data_path, zone),
                file_name=f"study-{result.id}.html",
                mime="text/html",
                icon=":material/print:",
                type="primary",
                on_click="ignore",
                key=f"study:report:{result.id}",
            )
        st.html(_scoped(report.summary(result) + report.settings(result, zone)))
    with st.container(border=True, key="card-study-tables"):
        st.html(_scoped(report.tables(result)))
        st.html(_scoped(report.method(result)))
    with st.container(border=True, key="card-study-disputed"):
        st.subheader("Parts that were judged differently, or wrongly")
        st.html(_scoped(report.disputed(result, plant.data_path)))
        with st.expander("All answers", icon=":material/table:"):
            st.html(_scoped(report.all_answers(result)))


def _scoped(html: str) -> str:
    return f'<div class="vi-study">{html}</div>'
