"""Health: can the station be trusted now? Active alarms, drift of the line, and challenges with known parts.

A small fragment looks every second whether anything has changed and then draws the whole page again, so that a form that
is being filled in stays as it is meanwhile.
"""

from collections.abc import Hashable
from datetime import datetime, timedelta
from html import escape

import streamlit as st

from dashboard import charts, data, export, known_parts, tiles, verification, words
from dashboard.access import allowed
from dashboard.actions import Ask, ask_button
from dashboard.context import Dashboard, dashboard, draw_again, local_zone, renewed, sentence, told, utc_now
from dashboard.verification import HealthView, RunView
from inspector.contract.codes import ErrorCode
from inspector.drift import RUN_IN
from inspector.store import challenges
from inspector.types import Verdict
from inspector.users import Role

SPANS = {"24 hours": timedelta(hours=24), "7 days": timedelta(days=7)}
MEASURES = {"level": "grey level", "detail": "detail", "novelty": "novelty"}
SUSPECTS_SHOWN = 500
MODES = {challenges.PARTS: "parts on the line", challenges.PICTURES: "kept pictures"}


def page() -> None:
    """Draw the page."""
    with told():
        plant = dashboard()
        view = verification.health(plant.store, plant.station, plant.config.challenge.every_h)
        if view is None:
            st.html(tiles.empty("No worker has been here yet", "Start it with: inspector run"))
            return
        now = utc_now()
        with st.container():
            _watch(view.signature(now))
        with st.container():
            _held(view)
        left, right = st.columns([1.5, 1], gap="medium")
        with left:
            _alarms(plant, view, now)
            _drift(plant, view, now)
        with right:
            _challenge(plant, view, now)
        _results(plant, view)
        known_parts.draw(plant, view)


@renewed(1.0)
def _watch(signature: Hashable) -> None:
    """Draws the page again when anything that it shows has changed."""
    plant = dashboard()
    view = verification.health(plant.store, plant.station, plant.config.challenge.every_h)
    if view is None or view.signature(utc_now()) != signature:
        draw_again()


def _held(view: HealthView) -> None:
    """Why no part is accepted, in red."""
    station = view.station
    if not (view.held_by or station.held):
        return
    run = next((run for run in view.runs if run.id == view.held_by), None)
    why = words.error_words(station.held or ErrorCode.CHALLENGE_FAILED)
    if run is not None:
        why = f"challenge {run.id} failed: {run.reason}"
    what = "No part is accepted until a challenge passes, or an engineer answers for it."
    st.html(tiles.banner(words.HELD, sentence(why), what, f"station {station.name}"))


def _alarms(plant: Dashboard, view: HealthView, now: datetime) -> None:
    station = view.station
    alive = station.alive(now)
    with st.container(border=True, key="card-alarms"):
        st.subheader(f"Active alarms ({len(station.alarms)})" if alive else "Active alarms")
        if not alive:
            st.caption("The worker does not run, so nobody watches. Start it with: inspector run")
            return
        if not station.alarms:
            st.caption("✓ None.")
        for alarm in station.alarms:
            said, button = st.columns([5, 1], vertical_alignment="center")
            said.html(_alarm(alarm))
            if not alarm.confirmed:
                with button:
                    ask = Ask(f"confirm:{alarm.err}:{alarm.source}", "Confirm", "confirm", {"alarm": alarm.err})
                    ask_button(plant, station.id, ask, disabled=False, primary=False)


def _alarm(alarm: data.AlarmView) -> str:
    colour = words.GREY if alarm.confirmed else words.RED
    where = f" · {escape(alarm.source)}" if alarm.source else ""
    seen = "confirmed" if alarm.confirmed else "not confirmed"
    return (
        f'<div class="vi-alarm" style="border-color:{colour}"><b>{escape(sentence(words.error_words(alarm.err)))}</b>'
        f"<div>{escape(sentence(alarm.text))}</div>"
        f"<div>since {alarm.since.astimezone(local_zone()):%d %b %H:%M:%S}{where} · {seen}</div></div>"
    )


def _drift(plant: Dashboard, view: HealthView, now: datetime) -> None:
    with st.container(border=True, key="card-drift"):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.subheader("Does the line still look as it did?")
            chosen = st.segmented_control(
                "Time", list(SPANS), default="24 hours", key="health:span", label_visibility="collapsed", required=True
            )
        span = (now - SPANS[str(chosen)], now)
        points = verification.points(plant.store, view.station.id, span[0])
        if view.run_in is not None:
            st.info(
                f"The first {RUN_IN} accepted parts of a revision show how it usually looks; {view.run_in} so far. "
                "Changes are told from then on.",
                icon=":material/hourglass_top:",
            )
        if not any(point.p_mean is not None or point.err for point in points):
            st.html(
                tiles.empty("Nothing was compared in this time", "Parts are compared with the first ones, ten by ten.")
            )
            return
        st.caption(
            "Mean p-value of the last accepted parts: 0.5 as long as nothing changes; below the green band their scores "
            "rise, above it they fall. Red lines: a cause was found."
        )
        st.altair_chart(charts.p_values(points, span, height_px=170), width="stretch")
        for column, (name, title) in zip(st.columns(len(MEASURES), gap="small"), MEASURES.items(), strict=True):
            column.altair_chart(charts.measure(points, name, title, span, height_px=110), width="stretch")
        st.html(tiles.facts(_causes(points)))


def _causes(points: list[verification.PointView]) -> list[tuple[str, str]]:
    """Each time at which another cause was found, the newest first."""
    zone = local_zone()
    begun = [
        point
        for point, before in zip(points, [None, *points], strict=False)
        if point.err and (before is None or before.err != point.err)
    ]
    return [(f"{point.at.astimezone(zone):%d %b %H:%M}", sentence(point.cause)) for point in begun[::-1][:8]]


def _challenge(plant: Dashboard, view: HealthView, now: datetime) -> None:
    """What is proven and what is due; begin and end."""
    with st.container(border=True, key="card-challenge"):
        st.subheader("Challenge with known parts")
        st.html(tiles.facts(_proven(plant, view, now)))
        if view.due is not None and view.due < now:
            _overdue(plant, view)
        if view.running is not None:
            _running(plant, view, view.running)
        else:
            _begin(plant, view, now)


def _proven(plant: Dashboard, view: HealthView, now: datetime) -> list[tuple[str, str]]:
    zone = local_zone()

    def when(at: datetime | None) -> str:
        return (
            "never"
            if at is None
            else f"{at.astimezone(zone):%d %b %H:%M} ({words.age_words((now - at).total_seconds())} ago)"
        )

    if not plant.config.challenge.every_h:
        due = "not awaited (challenge.every_h is 0)"
    elif view.due is None:
        due = "once a product is active"
    elif view.due < now:
        due = f"overdue for {words.age_words((now - view.due).total_seconds())}"
    else:
        due = f"in {words.age_words((view.due - now).total_seconds())}"
    return [
        ("Passed with parts", when(view.passed[challenges.PARTS])),
        ("Passed with pictures", when(view.passed[challenges.PICTURES])),
        ("Next with parts", due),
    ]


def _overdue(plant: Dashboard, view: HealthView) -> None:
    _, total = verification.in_doubt(plant.store, view.station.id, None, 1)
    if total:
        st.warning(f"{total} parts were accepted since the last passed challenge with parts.", icon=":material/rule:")
        _download(plant, view.station.id, None, "parts-in-doubt.csv")


def _running(plant: Dashboard, view: HealthView, run: RunView) -> None:
    there = [one for one in verification.members(plant.store, run.product) if one.set_no == run.set_no]
    st.info(
        f"Challenge {run.id} runs with {MODES[run.mode]}: {view.inspected} verdicts so far.", icon=":material/pending:"
    )
    if run.mode == challenges.PARTS:
        st.caption("Show these parts now, in this order; none of them is accepted.")
        st.dataframe(
            [{"part": one.name, "expected": one.expected, "id on the line": one.part} for one in there],
            hide_index=True,
            placeholder="–",
        )
    ask = Ask("challenge:end", "End the challenge", "challenge_end", {}, ":material/stop:")
    ask_button(plant, view.station.id, ask, disabled=False, primary=True)


def _begin(plant: Dashboard, view: HealthView, now: datetime) -> None:
    station = view.station
    there = [] if station.active is None else verification.members(plant.store, station.active.product)
    sets = sorted({one.set_no for one in there})
    if not sets:
        st.caption("The active product has no known parts yet; add some below.")
        return
    set_no = sets[0]
    if len(sets) > 1:
        set_no = int(st.selectbox("Set", sets, format_func=lambda number: f"Set {number}", key="health:set"))
    chosen = [one for one in there if one.set_no == set_no]
    kept = sum(bool(one.path) for one in chosen)
    st.caption(f"Set {set_no}: {len(chosen)} known parts, {kept} with a picture.")
    for mode, count, icon in (
        (challenges.PARTS, len(chosen), ":material/conveyor_belt:"),
        (challenges.PICTURES, kept, ":material/photo_library:"),
    ):
        payload = {"set": set_no, "pic": int(mode == challenges.PICTURES)}
        ask = Ask(f"challenge:{mode}:{set_no}", f"Begin with {MODES[mode]}", "challenge_begin", payload, icon)
        ask_button(plant, station.id, ask, disabled=not count or not station.alive(now), primary=False)
    st.caption("Parts prove camera, light and detector; pictures the detector alone, while the production goes on.")


def _results(plant: Dashboard, view: HealthView) -> None:
    with st.container(border=True, key="card-results"):
        st.subheader("Challenges so far")
        if not view.runs:
            st.caption("None has been run yet.")
            return
        left, right = st.columns([1, 1.25], gap="medium")
        with left:
            selected = st.dataframe(
                [_line(run) for run in view.runs],
                hide_index=True,
                placeholder="–",
                on_select="rerun",
                selection_mode="single-row",
                key=f"health:runs:{view.runs[0].id}",
            )
        rows = selected["selection"]["rows"]
        with right:
            _run(plant, view, view.runs[rows[0] if rows else 0])


def _line(run: RunView) -> dict[str, object]:
    look = words.CHALLENGES[run.result]
    return {
        "no.": run.id,
        "result": f"{look.symbol} {look.word}" + (", overridden" if run.override_reason else ""),
        "began": f"{run.began_at.astimezone(local_zone()):%d %b %H:%M}",
        "with": MODES[run.mode],
        "set": run.set_no,
        "product": f"{run.product}, revision {run.rev}",
        "by": run.began_by,
    }


def _run(plant: Dashboard, view: HealthView, run: RunView) -> None:
    """One challenge: each known part, and what a failure means."""
    st.html(f"<h3>Challenge {run.id} {tiles.pill(words.CHALLENGES[run.result])}</h3>")
    if run.result == challenges.ABORTED:
        st.caption(sentence(run.reason))
    if run.members:
        st.html(tiles.judged([_judged(member) for member in run.members]))
    if run.result != challenges.FAILED:
        return
    if run.override_reason:
        st.warning(f"Overridden by {run.override_by}: {run.override_reason}", icon=":material/lock_open:")
    elif view.held_by == run.id:
        _override_form(plant, run)
    parts, total = verification.in_doubt(plant.store, view.station.id, run.id, SUSPECTS_SHOWN)
    st.markdown(f"**{total} accepted parts are in doubt**: accepted since the last passed challenge.")
    if parts:
        st.dataframe([_suspect(part) for part in parts], hide_index=True, placeholder="–", height=220)
        if total > len(parts):
            st.caption(f"The first {len(parts)}; the file holds all of them.")
        _download(plant, view.station.id, run.id, f"in-doubt-challenge-{run.id}.csv")


def _judged(member: dict[str, object]) -> tuple[str, str, str, str]:
    """Name, what was expected, what was seen, and the fault of a known part."""
    looks: list[dict[str, object]] = member["seen"]  # type: ignore[assignment]
    kind = f" ({member['kind']})" if member["kind"] else ""
    seen = []
    for look in looks:
        verdict = words.VERDICTS[Verdict(int(str(look["verdict"])))]
        seen.append(f"{verdict.symbol} {verdict.word}")
    return str(member["name"]), f"{member['expected']}{kind}", ", ".join(seen) or "–", str(member["fault"])


def _suspect(part: data.PartView) -> dict[str, object]:
    return {
        "time": f"{part.captured_at.astimezone(local_zone()):%d %b %H:%M:%S}",
        "part": part.name,
        "trigger": part.trg,
        "seq": part.seq,
        "score": words.number(part.score),
        "product": tiles.product_words(part),
    }


def _download(plant: Dashboard, station_id: int, number: int | None, file_name: str) -> None:
    st.download_button(
        "Download all parts in doubt (CSV)",
        lambda: export.to_csv(verification.in_doubt(plant.store, station_id, number, 100_000)[0]),
        file_name=file_name,
        mime="text/csv",
        on_click="ignore",
        icon=":material/download:",
    )


def _override_form(plant: Dashboard, run: RunView) -> None:
    with st.popover("Override with a reason", icon=":material/lock_open:"):
        reason = st.text_input("Reason, kept in the audit", max_chars=200, key=f"health:reason:{run.id}")
        st.button(
            "Override",
            **allowed(plant.visitor, Role.ENGINEER, disabled=not reason.strip()),
            on_click=_override,
            args=(plant, run.id, reason),
            key=f"health:override:{run.id}",
        )


def _override(plant: Dashboard, number: int, reason: str) -> None:
    with told(), (permit := plant.require(Role.ENGINEER)).write() as session:
        challenges.override(session, number, reason, permit.who, utc_now())
