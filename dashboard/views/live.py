"""Live: is the line running, what was the last part, how are the scores; renewed each second, read from SQL only.

All open tabs share one reading, and what is drawn of it: the charts and pictures of the same parts are made once.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Any

import streamlit as st

from dashboard import charts, data, tiles, words
from dashboard.actions import Ask, ask_button, waiting_words
from dashboard.context import Dashboard, dashboard, local_zone, renewed, sentence, used, utc_now
from inspector.contract.codes import StationMode, StationState
from inspector.store.engine import Reader

STRIP = 12
TREND = 120
PERIODS = ("This shift", "Last hour", "Today")
NO_WORKER = "Start it with: inspector run"


def page() -> None:
    """Draw the page; what changes is in one fragment that runs each second."""
    _live()


@renewed(1.0)
def _live() -> None:
    plant = dashboard()
    now = utc_now()
    period = st.session_state.get("live:period") or PERIODS[0]
    view = _view(plant.store, plant.config.database_url, plant.station, since(period, now, plant.config.station.shifts))
    if view is None:
        st.html(tiles.banner(words.WORKER_AWAY, "No worker has been here yet", NO_WORKER, f"station {plant.station}"))
        st.html(tiles.empty("Nothing to see yet", "Start the worker; then teach a product on the page Products."))
        return
    with st.container():  # one place in the page, however many warnings there are
        _head(plant, view, now)
    _body(plant, view, period)


def since(period: str, now: datetime, shifts: Sequence[str]) -> datetime:
    """From when on parts are counted, in whole minutes so that all tabs share one query."""
    local = now.astimezone(local_zone())
    if period == "Last hour":
        return (local - timedelta(hours=1)).replace(second=0, microsecond=0)
    if period == "Today":
        return local.replace(hour=0, minute=0, second=0, microsecond=0)
    return words.shift_start(local, shifts)


@st.cache_resource(ttl=0.9, max_entries=16, show_spinner=False)
def _view(_store: Reader, url: str, station: str, since: datetime) -> data.LiveView | None:
    """One reading for all open tabs; `url` keeps two databases apart."""
    return data.live(_store, station, since=since, strip=STRIP, trend=TREND)


def _head(plant: Dashboard, view: data.LiveView, now: datetime) -> None:
    station = view.station
    alive = station.alive(now)
    left, right = st.columns([6, 1], vertical_alignment="center")
    left.html(_banner(station, now))
    stopped = station.state in (StationState.HALTED, StationState.ERROR)
    ask = (
        Ask("station:start", "Start", "start", {}, ":material/play_arrow:")
        if stopped
        else Ask("station:stop", "Stop", "stop", {}, ":material/stop:")
    )
    if station.halted:
        ask = Ask("station:reset", "Reset", "reset", {}, ":material/restart_alt:")
        stopped = False  # a reset starts nothing; also a held station may be reset
    with right:
        # Start does not release a station that is held: only a challenge, or an engineer on the page Health.
        ask_button(plant, station.id, ask, disabled=not alive or (stopped and bool(station.held)), primary=stopped)
    _problems(station, alive)
    waiting = [waiting_words(command, _titles(station)) for command in view.waiting]
    if waiting and not alive:
        st.warning(f"Will be done when the worker runs: {', '.join(waiting)}.", icon=":material/hourglass_top:")


def _problems(station: data.StationView, alive: bool) -> None:
    """What stands in the way although the station runs."""
    if not alive:
        return
    if station.err and station.state is not StationState.ERROR and station.err != station.held:
        st.error(sentence(words.error_words(station.err)), icon=":material/error:")
    if not station.broker_connected:
        reason = f" ({station.broker_problem})" if station.broker_problem else ""
        st.warning(
            f"The broker cannot be reached{reason}: the PLC gets no verdicts and rejects every part. "
            "Verdicts are kept here and sent for the record later.",
            icon=":material/cloud_off:",
        )


def _banner(station: data.StationView, now: datetime) -> str:
    age_s = station.age_s(now)
    if age_s is None:
        return tiles.banner(words.WORKER_AWAY, "No worker has been here yet", NO_WORKER, f"station {station.name}")
    age = f"{station.name} · data {words.age_words(age_s)} old"
    if age_s < -data.STALE_AFTER_S:
        ahead = f"Its last sign is dated {words.age_words(-age_s)} ahead: a clock is wrong, or was set back."
        return tiles.banner(words.WORKER_AWAY, "Data from the future", ahead, age)
    if not station.alive(now):
        detail = f"Nothing is being inspected. {NO_WORKER}"
        return tiles.banner(words.WORKER_AWAY, f"No sign of life for {words.age_words(age_s)}", detail, age)
    if station.is_held:
        released = "No part is accepted until a challenge passes."
        return tiles.banner(
            words.HELD, sentence(words.error_words(station.held)), released, age, link=("health", "Go to Health")
        )
    headline, detail = _what(station)
    notes = [f"last picture {words.age_words(station.frame_age_s)} ago"] if station.frame_age_s > 10 else []
    notes += [f"{station.queue} parts waiting"] if station.queue else []
    return tiles.banner(words.STATES[station.state], headline, detail, age, " · ".join(notes))


def _what(station: data.StationView) -> tuple[str, str]:
    """What is being inspected, or what to do, in two lines."""
    active = station.active
    mode = "" if station.mode is StationMode.PRODUCTION else f" · {station.mode.name.lower()}"
    if station.state is StationState.ERROR:
        return words.error_words(station.err) or "unknown fault", "No part passes until this is put right."
    if active is None:
        return "No product is active", "Teach or activate one on the page Products; until then no part passes."
    threshold = words.threshold_words(active.threshold, active.calibration_kind, active.calibration_n)
    return active.title, threshold + mode


def _body(plant: Dashboard, view: data.LiveView, period: str) -> None:
    zone = local_zone()
    left, right = st.columns([1.55, 1], gap="medium")
    with right:
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.segmented_control(
                "Count since",
                PERIODS,
                default=PERIODS[0],
                key="live:period",
                on_change=used,
                label_visibility="collapsed",
                required=True,
            )
            heat_map = st.toggle("Heat map", value=True, key="live:heat_map", on_change=used)
        st.html(tiles.counters(view.counts))
        _trend(plant, view, zone)
    with left:
        if view.parts:
            st.html(_newest(plant, view.parts[0], zone, _look(plant, view.parts[:1], zone), heat_map=heat_map))
        else:
            st.html(tiles.empty("No part yet", "The first part that comes by will be shown here."))
    if view.parts:
        st.html(_strip(plant, view.parts, zone, _look(plant, view.parts, zone)))


def _look(plant: Dashboard, parts: Sequence[data.PartView], zone: tzinfo) -> str:
    """What a drawing of these parts depends on; pictures come after their verdict."""
    drawn = [(part.id, part.image_path, part.map_path) for part in parts]
    return f"{plant.config.database_url} {zone} {drawn}"


@st.cache_resource(ttl=60, max_entries=16, show_spinner=False)
def _newest(_plant: Dashboard, _part: data.PartView, _zone: tzinfo, look: str, *, heat_map: bool) -> str:
    return tiles.newest(_part, _plant.data_path, _zone, heat_map=heat_map)


@st.cache_resource(ttl=60, max_entries=16, show_spinner=False)
def _strip(_plant: Dashboard, _parts: Sequence[data.PartView], _zone: tzinfo, look: str) -> str:
    return tiles.strip(_parts, _plant.data_path, _zone)


@st.cache_resource(ttl=60, max_entries=16, show_spinner=False)
def _chart(_parts: Sequence[data.PartView], _zone: tzinfo, look: str) -> dict[str, Any]:
    return charts.score_trend(_parts, _zone, height_px=145).to_dict()


def _trend(plant: Dashboard, view: data.LiveView, zone: tzinfo) -> None:
    scored = [part for part in view.trend if part.score is not None]
    if not scored:
        st.html(tiles.empty("No scores yet", "Scores of the last parts will be drawn here."))
        return
    with st.container(border=True, gap="xsmall", key="card-trend"):
        st.caption(f"Last {len(view.trend)} scores, dashed: threshold")
        st.vega_lite_chart(spec=_chart(view.trend, zone, _look(plant, view.trend, zone)), width="stretch")


def _titles(station: data.StationView) -> dict[tuple[int, int], str]:
    active = station.active
    return {} if active is None else {(active.rcp, active.rev): active.title}
