"""The script that runs for each tab: style, navigation, who is there, how old the data are, and one page."""

import streamlit as st

from dashboard import head, tiles
from dashboard.context import DRAWN_AGAIN, dashboard, told
from dashboard.views import health, history, live, products, review, study

RENEWED = ("live", "products", "health")
"""Paths of the pages that draw themselves again when something changes."""

st.set_page_config(page_title="Inspector", page_icon="🔎", layout="wide", initial_sidebar_state="collapsed")
st.html(tiles.STYLE)
page = st.navigation(
    [
        st.Page(live.page, title="Live", icon=":material/visibility:", url_path="live", default=True),
        st.Page(products.page, title="Products", icon=":material/inventory_2:", url_path="products"),
        st.Page(review.page, title="Review", icon=":material/fact_check:", url_path="review"),
        st.Page(study.page, title="Study", icon=":material/groups:", url_path="study"),
        st.Page(health.page, title="Health", icon=":material/monitor_heart:", url_path="health"),
        st.Page(history.page, title="History", icon=":material/history:", url_path="history"),
    ],
    position="top",
)
with told():
    plant = dashboard(used=not st.session_state.pop(DRAWN_AGAIN, False))
    head.draw(plant, renewed=page.title.casefold() in RENEWED)
    page.run()
