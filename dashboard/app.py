"""The script that `streamlit run` runs for each tab: style, navigation, and one page."""

import streamlit as st

from dashboard import tiles
from dashboard.context import choose_station, dashboard, told
from dashboard.views import health, history, live, products, review, study

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
    plant = dashboard()
    choose_station(plant)
    page.run()
