"""History: find verdicts, look at one with its heat map and regions, take the data away as a file."""

from collections.abc import Callable
from datetime import datetime, time, timedelta
from typing import Any

import streamlit as st

from dashboard import data, evidence, export, pictures, tiles, words
from dashboard.context import Dashboard, dashboard, local_zone, told, utc_now
from inspector.errors import NotFoundError
from inspector.store.queries import InspectionFilter
from inspector.store.schema import InspectionRow
from inspector.types import Verdict

PAGE_ROWS = 50
EXPORT_ROWS = 10_000
SIDE_PX = 900
TIMES = ("Last hour", "Today", "Last 7 days", "All", "From … to")
ANY = "any"
PART_PARAMETER = "part"
FILTERS = ("time", "product", "verdicts", "part", "error")


def page() -> None:
    """Draw the page."""
    with told():
        plant = dashboard()
        wanted = _filters(plant)
        number = _page_number(wanted)
        parts, total = data.search(plant.store, wanted, offset=number * PAGE_ROWS, limit=PAGE_ROWS)
        if total and not parts:  # rows went away under the page
            st.session_state["history:page"] = 0
            st.rerun()
        linked = _linked()
        if not parts and linked is None:
            _nothing(wanted)
            return
        left, right = st.columns([1.25, 1], gap="medium")
        with left:
            selected = _table(parts, total, number)
            _downloads(plant, wanted, total)
        with right:
            _one(plant, selected or linked or (parts[0].id if parts else None))


def _filters(plant: Dashboard) -> InspectionFilter:
    """Draw the filters; gives what they say."""
    with (
        st.container(border=True, key="card-filters"),
        st.container(horizontal=True, vertical_alignment="bottom", gap="small"),
    ):
        times = st.selectbox("Time", TIMES, key="history:time", width=130)
        since, until = _times(times, utc_now().astimezone(local_zone()))
        known = list(data.products(plant.store, plant.station).products)
        product = st.selectbox("Product", [ANY, *known], key="history:product", width=140)
        verdicts = st.pills(
            "Verdict",
            words.VERDICT_ORDER,
            selection_mode="multi",
            format_func=_verdict_words,
            key="history:verdicts",
        )
        part = st.text_input("Part contains", key="history:part", width=120, max_chars=32)
        error = st.selectbox(
            "Error",
            [0, *data.errors_seen(plant.store, since)],
            format_func=lambda code: ANY if code == 0 else words.error_words(code),
            key="history:error",
            width=150,
        )
    return InspectionFilter(
        product=None if product == ANY else product,
        verdicts=tuple(verdicts),
        since=since,
        until=until,
        part=part.strip() or None,
        err=error or None,
    )


def _times(choice: str, now: datetime) -> tuple[datetime | None, datetime | None]:
    """From when to when, in the time zone of `now`; whole minutes, so that pages do not shift while one reads."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if choice == "From … to":
        first = st.date_input("From", now.date() - timedelta(days=1), key="history:from", width=130)
        last = st.date_input("to", now.date(), key="history:to", width=130)
        zone = now.tzinfo
        return datetime.combine(first, time.min, zone), datetime.combine(last, time.min, zone) + timedelta(days=1)
    starts = {
        "Last hour": now.replace(second=0, microsecond=0) - timedelta(hours=1),
        "Today": midnight,
        "Last 7 days": midnight - timedelta(days=6),
    }
    return starts.get(choice), None


def _page_number(wanted: InspectionFilter) -> int:
    """The page of the table, back to the first one when a filter changes."""
    choice = (wanted.product, wanted.verdicts, wanted.part, wanted.err, st.session_state.get("history:time"))
    if st.session_state.get("history:choice") != choice:
        st.session_state["history:choice"] = choice
        st.session_state["history:page"] = 0
    return int(st.session_state["history:page"])


def _linked() -> int | None:
    """The verdict that a link from another page names."""
    text = st.query_params.get(PART_PARAMETER, "")
    return int(text) if text.isdecimal() else None


def _nothing(wanted: InspectionFilter) -> None:
    if any((wanted.product, wanted.verdicts, wanted.part, wanted.err, wanted.since)):
        st.html(tiles.empty("No part matches", "Choose a longer time or fewer filters."))
        st.button("Show everything", on_click=_reset, icon=":material/filter_alt_off:")
    else:
        st.html(
            tiles.empty(
                "No part has been inspected yet", "Start the worker and activate a product; each part gets a row here."
            )
        )


def _reset() -> None:
    for name in FILTERS:
        st.session_state.pop(f"history:{name}", None)
    st.session_state["history:time"] = "All"


def _table(parts: list[data.PartView], total: int, number: int) -> int | None:
    """One page of verdicts; gives the chosen one."""
    zone = local_zone()
    chosen = st.dataframe(
        [_line(part, zone) for part in parts],
        hide_index=True,
        placeholder="–",
        height=36 * 15 + 3,
        on_select="rerun",
        selection_mode="single-cell",
        key=f"history:table:{number}:{parts[0].id if parts else 0}",
        column_config={
            "Time": st.column_config.DatetimeColumn(format="DD MMM HH:mm:ss", width=125),
            "Score": st.column_config.NumberColumn(format="%.4g", width=75),
            "Verdict": st.column_config.MultiselectColumn(
                options=[_verdict_words(verdict) for verdict in words.VERDICT_ORDER],
                color=[words.VERDICTS[verdict].colour for verdict in words.VERDICT_ORDER],
                width=115,
            ),
            "ms": st.column_config.NumberColumn(format="%.0f", width=55, help="exposure to verdict"),
        },
    )
    pages = max(1, -(-total // PAGE_ROWS))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Newer", on_click=_turn, args=(number - 1,), disabled=number == 0, icon=":material/chevron_left:")
        st.button(
            "Older", on_click=_turn, args=(number + 1,), disabled=number + 1 >= pages, icon=":material/chevron_right:"
        )
        st.caption(f"Page {number + 1} of {pages} · {total:,} parts. Choose a row to see the part.")
    rows = [row for row, _ in chosen["selection"]["cells"]]
    return parts[rows[0]].id if rows and rows[0] < len(parts) else None


def _turn(number: int) -> None:
    st.session_state["history:page"] = number


def _line(part: data.PartView, zone: Any) -> dict[str, Any]:
    return {
        "Time": part.captured_at.astimezone(zone).replace(tzinfo=None),
        "Part": part.name,
        "Verdict": [_verdict_words(part.verdict)],
        "Score": part.score,
        "Product": f"{part.product} r{part.rev}" if part.product else "–",
        "ms": part.latency_ms,
        "Error": words.error_words(part.err),
    }


def _verdict_words(verdict: Verdict) -> str:
    return f"{words.VERDICTS[verdict].symbol} {words.VERDICTS[verdict].word}"


def _downloads(plant: Dashboard, wanted: InspectionFilter, total: int) -> None:
    """Files of all that the filters find; read from the database when the button is clicked."""

    def file(make: Callable[[list[data.PartView]], bytes]) -> Callable[[], bytes]:
        return lambda: make(data.search(plant.store, wanted, offset=0, limit=EXPORT_ROWS)[0])

    with st.container(horizontal=True, vertical_alignment="center"):
        for kind, make in (("CSV", export.to_csv), ("JSON", export.to_json)):
            st.download_button(
                f"Download {kind}",
                file(make),
                file_name=f"verdicts.{kind.lower()}",
                mime="text/csv" if kind == "CSV" else "application/json",
                on_click="ignore",
                disabled=total == 0,
                icon=":material/download:",
            )
        if total > EXPORT_ROWS:
            st.caption(f"The files hold the newest {EXPORT_ROWS:,} parts.")


def _one(plant: Dashboard, inspection_id: int | None) -> None:
    """All that is known of one verdict."""
    if inspection_id is None:
        return
    try:
        row = data.inspection(plant.store, inspection_id)
    except NotFoundError:
        st.html(tiles.empty("This part is not there", "It may have been tidied away; choose another one."))
        return
    part = data.part_view(row)
    with st.container(border=True, key="card-verdict"):
        st.html(tiles.verdict(part, local_zone()))
        _pictures(plant, row)
        tab_verdict, tab_regions, tab_timing, tab_all = st.tabs(
            ["Verdict", f"Regions ({len(row.regions)})", "Timing", "All data"]
        )
        tab_verdict.html(tiles.facts(_verdict_facts(row, part)))
        with tab_regions:
            evidence.regions(plant, row)
        tab_timing.html(tiles.facts(_timing_facts(row)))
        with tab_all:
            st.json(export.inspection_values(row), expanded=1)
            st.download_button(
                "Download this verdict (JSON)",
                export.inspection_json(row),
                file_name=f"verdict-{row.id}.json",
                mime="application/json",
                on_click="ignore",
                icon=":material/download:",
            )


def _pictures(plant: Dashboard, row: InspectionRow) -> None:
    picture = pictures.view(plant.data_path, row.image_path, SIDE_PX)
    heat_map = pictures.view(plant.data_path, row.map_path, SIDE_PX)
    if picture is None:
        st.html(tiles.empty("No picture was kept", "`images.save` of the configuration says which parts keep theirs."))
        return
    size_px = row.detail.get("image_size_px")
    boxes = [(one.x_px, one.y_px, one.width_px, one.height_px) for one in row.regions]
    if boxes and size_px:
        picture = pictures.with_boxes(picture, boxes, (int(size_px[0]), int(size_px[1])))
    left, right = st.columns(2, gap="small")
    left.image(picture, caption="picture with regions" if boxes and size_px else "picture", width="stretch")
    if heat_map is not None:
        right.image(heat_map, caption="heat map", width="stretch")
    else:
        right.html('<div class="vi-none">no heat map was kept</div>')


def _verdict_facts(row: InspectionRow, part: data.PartView) -> list[tuple[str, str]]:
    recipe, detail = row.recipe, row.detail
    kind = (recipe.calibration_kind, recipe.calibration_n) if recipe else (None, None)
    parts = {name: value for name, value in (detail.get("parts") or {}).items() if value is not None}
    return [
        ("Why", words.error_words(row.err)),
        ("Anomaly score", words.number(row.score, 6)),
        ("Threshold", words.threshold_value(row.threshold, *kind) if row.threshold is not None else ""),
        ("Parts of the score", ", ".join(f"{name} {words.number(value)}" for name, value in parts.items())),
        ("Branches", evidence.shares(detail)),
        ("The part lay", words.placement_words(detail.get("placement"))),
        ("Flags", words.flag_words(row.flg)),
        ("Product", tiles.product_words(part)),
        ("Encoder", str(detail.get("encoder") or (recipe.encoder if recipe else "") or "")),
        ("Fingerprint", (recipe.encoder_fingerprint or "") if recipe else ""),
        ("Part", row.part),
        ("Trigger", str(row.trg) if row.trg else "free running"),
        ("The PLC says", words.disposition_words(row.acc, row.rsn)),
        ("Camera, frame", f"{row.camera}, {row.frame_id}"),
        ("Boot, sequence", f"{row.boot}, {row.seq}"),
    ]


def _timing_facts(row: InspectionRow) -> list[tuple[str, str]]:
    timings = row.detail.get("timings_ms") or {}
    return [
        ("Exposure", f"{row.captured_at.astimezone(local_zone()):%Y-%m-%d %H:%M:%S.%f}"[:-3]),
        ("Exposure to verdict", f"{row.latency_ms:.1f} ms"),
        *((f"{name}", f"{value:.1f} ms") for name, value in timings.items()),
    ]
