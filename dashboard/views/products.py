"""Products: what the line can inspect, how each recipe was made, what is active; teach, activate and roll back.

The worker builds; this page asks for it and shows how far it is. A small fragment looks each second whether anything
has changed and then draws the whole page again, so that a build or a swap asked for elsewhere is seen too.
"""

from collections.abc import Hashable
from html import escape
from typing import Any

import streamlit as st

from dashboard import data, references, teach, tiles, where, words
from dashboard.access import allowed
from dashboard.actions import activation, ask_button
from dashboard.context import Dashboard, dashboard, draw_again, local_zone, renewed, told, utc_now
from dashboard.teach import CHOSEN, TEACHING
from inspector.store.products import override
from inspector.types import Verdict, promise_words
from inspector.users import Role

RECIPE_LOOKS = {
    "queued": words.Look("waiting", "◔", words.GREY),
    "building": words.Look("building", "◔", words.BLUE),
    "ready": words.Look("ready", "✓", words.GREY),
    "failed": words.Look("failed", "✕", words.RED),
}
LIST_KEY = "products:list"
ACTIVE = words.Look("active", "●", words.GREEN)
FLIPS_SHOWN = 12


def page() -> None:
    """Draw the page."""
    with told():
        plant = dashboard()
        view = data.products(plant.store, plant.station)
        if not view.products:
            st.session_state[TEACHING] = True
        # Containers keep what may come and go in one place: an element that changes its place in the page is made anew
        # in the browser, and an upload that is on its way would be lost.
        with st.container():
            _head(plant, view)
        with st.container():
            _watch(_signature(view))
        with st.container():
            if st.session_state.get(TEACHING):
                with st.container(border=True, key="card-teach"):
                    st.subheader("Teach a product")
                    teach.form(plant, view)
        if not view.products:
            st.html(
                tiles.empty(
                    "No product yet",
                    "Give it a name, choose a few pictures of good parts above, and let the worker build it.",
                )
            )
            return
        left, right = st.columns([1, 2.6], gap="medium")
        with left:
            chosen = _list(view)
            _activations(view)
        with right:
            _product(plant, view, chosen)


def _head(plant: Dashboard, view: data.ProductsView) -> None:
    station = view.station
    active = None if station is None else station.active
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        if active is None:
            st.html(f"<h2>{tiles.pill(words.Look('nothing active', '?', words.AMBER))}</h2>")
        else:
            threshold = words.threshold_words(active.threshold, active.calibration_kind, active.calibration_n)
            st.html(
                f'<h2>{tiles.pill(ACTIVE)} {escape(active.title)}</h2><span class="vi-said">{escape(threshold)}</span>'
            )
        with st.container(horizontal=True, horizontal_alignment="right"):
            if view.rollback is not None:
                ask = activation(view.rollback, f"Roll back to {view.rollback.title}", "rollback")
                ask_button(plant, station.id if station else None, ask, disabled=False, primary=False)
            if view.products:
                teaching = bool(st.session_state.get(TEACHING))
                st.button(
                    "Close" if teaching else "Teach a product",
                    icon=":material/close:" if teaching else ":material/add:",
                    type="secondary" if teaching else "primary",
                    on_click=_toggle_teaching,
                    key="products:teach",
                    **allowed(plant.visitor, Role.OPERATOR),
                )
    if station is None or not station.alive(utc_now()):
        st.warning(
            "No worker is running. Builds and activations asked for here begin when it starts (`inspector run`).",
            icon=":material/hourglass_top:",
        )


def _toggle_teaching() -> None:
    st.session_state[TEACHING] = not st.session_state.get(TEACHING)


@renewed(1.0)
def _watch(signature: Hashable) -> None:
    """Progress of all builds; draws the page again when anything else has changed."""
    plant = dashboard()
    view = data.products(plant.store, plant.station)
    for recipes in view.products.values():
        for recipe in recipes:
            if recipe.busy:
                _progress(recipe)
    if _signature(view) != signature:
        draw_again()


def _signature(view: data.ProductsView) -> Hashable:
    """All that the page shows and that others can change, less the progress that the fragment draws itself."""
    recipes = tuple((one.id, one.status) for recipes in view.products.values() for one in recipes)
    station = view.station
    state = None if station is None else (station.active, station.alive(utc_now()))
    return recipes, state, view.rollback, view.waiting


def _progress(recipe: data.RecipeView) -> None:
    doing = recipe.message or words.RECIPE_WORDS[recipe.status]
    st.progress(
        min(max(recipe.progress, 0.0), 1.0), text=f"**{recipe.title}** · {doing} · {100 * recipe.progress:.0f} %"
    )


def _list(view: data.ProductsView) -> str:
    """The products; gives the chosen one.

    The choice is kept beside the widget, which is made anew for each list and after each form: a browser that has not
    yet seen the new list (the second click of a double click) must not bring back its old choice.
    """
    active = view.station.active if view.station else None
    names = list(view.products)
    if st.session_state.get(CHOSEN) not in names:
        st.session_state[CHOSEN] = active.product if active else names[0]
    key = f"products:list:{len(names)}:{st.session_state.get(teach.FORM, 0)}"

    def choose() -> None:
        if st.session_state.get(LIST_KEY) == key:  # not of a list that has been drawn anew meanwhile
            st.session_state[CHOSEN] = st.session_state[key]

    st.session_state[LIST_KEY] = key
    if st.session_state.get(key) != st.session_state[CHOSEN]:
        st.session_state[key] = st.session_state[CHOSEN]  # what is marked and what is shown are one and the same
    with st.container(border=True, key="card-list"):
        st.subheader("Products")
        st.radio(
            "Products",
            names,
            # What changes stands in the captions: an option whose words change would lose the choice.
            captions=[_status_words(view.products[name][0], active) for name in names],
            key=key,
            on_change=choose,
            label_visibility="collapsed",
        )
    return str(st.session_state[CHOSEN])


def _status_words(newest: data.RecipeView, active: data.RecipeView | None) -> str:
    if active is not None and active.product == newest.product:
        return f":green[**● active**, revision {active.rev}]"
    return f"{RECIPE_LOOKS[newest.status].word}, revision {newest.rev}"


def _activations(view: data.ProductsView) -> None:
    with st.container(border=True, key="card-activations"):
        st.subheader("What was active when")
        if not view.activations:
            st.caption("Nothing has been activated yet. Activate a recipe that is ready.")
            return
        zone = local_zone()
        rows = [
            (f"{one.at.astimezone(zone):%d %b %H:%M}", f"{one.recipe.title} · by {one.who or 'unknown'}")
            for one in view.activations[:12]
        ]
        st.html(tiles.facts(rows))


def _product(plant: Dashboard, view: data.ProductsView, name: str) -> None:
    recipes = {recipe.id: recipe for recipe in view.products[name]}
    newest = next(iter(recipes))
    shown: int | None = newest
    with st.container(border=True, key="card-product"):
        if len(recipes) > 1:
            shown = st.segmented_control(
                "Revision",
                list(recipes),
                default=newest,
                format_func=lambda recipe_id: f"Revision {recipes[recipe_id].rev}",
                key=f"products:revision:{name}:{len(recipes)}",
                required=True,
            )
        _recipe(plant, view, recipes[shown or newest])


def _recipe(plant: Dashboard, view: data.ProductsView, recipe: data.RecipeView) -> None:
    station = view.station
    is_active = bool(station and station.active and station.active.id == recipe.id)
    left, right = st.columns([2.2, 1], vertical_alignment="center")
    look = ACTIVE if is_active else RECIPE_LOOKS[recipe.status]
    left.html(f"<h2>{escape(recipe.title)} {tiles.pill(look)}</h2>")
    with right:
        if recipe.status == "ready" and not is_active:
            ask = activation(recipe, "Activate", "activate")
            ask_button(plant, station.id if station else None, ask, disabled=bool(recipe.escapes), primary=True)
    if recipe.status == "failed":
        st.error(
            f"The build failed: {recipe.message}. Teach a new revision with other pictures.", icon=":material/error:"
        )
    if recipe.busy:
        st.info("The worker builds this recipe; the bar above shows how far it is. The line goes on meanwhile.")
    _report(plant, recipe)
    zone = local_zone()
    st.html(
        tiles.facts(
            [
                ("Threshold", words.threshold_value(recipe.threshold, recipe.calibration_kind, recipe.calibration_n)),
                ("It promises", _promise(recipe)),
                ("Parts are aligned", words.align_words(recipe.calibration.get("align"))),
                ("Seen in tiles", words.tiles_words(recipe.calibration.get("tiles"))),
                ("Index for the PLC", f"rcp {recipe.rcp}, rev {recipe.rev}"),
                ("Encoder", recipe.encoder or ""),
                ("Taught", f"{recipe.created_at.astimezone(zone):%Y-%m-%d %H:%M} by {recipe.created_by or 'unknown'}"),
                ("Built", f"{recipe.built_at.astimezone(zone):%Y-%m-%d %H:%M}" if recipe.built_at else ""),
            ]
        )
    )
    rows = data.references(plant.store, recipe.id)
    odd = sum(bool(row.warning) for row in rows)
    st.subheader(f"References ({len(rows)})" + (f", {odd} with a warning" if odd else ""))
    st.caption("Score of each when it is left out of the bank; one far above the others may not be good.")
    references.findings(plant, recipe, rows)
    st.html(tiles.references(rows, recipe.threshold, plant.data_path))
    references.positions(plant, recipe)
    if recipe.status == "ready":
        with st.expander("Where it is inspected", icon=":material/crop_free:"):
            where.draw(plant, recipe, rows[0].path if rows else None)


def _promise(recipe: data.RecipeView) -> str:
    """What rate of false rejects the threshold promises; empty while there is none."""
    if recipe.threshold is None:
        return ""
    given = recipe.calibration
    return promise_words(
        recipe.calibration_kind or "", recipe.calibration_n or 0, given.get("rate"), given.get("bound")
    )


def _report(plant: Dashboard, recipe: data.RecipeView) -> None:
    """What the build saw of this revision: parts that would flip, and confirmed defects that would pass."""
    report = recipe.report
    _preview(plant, recipe)
    if report.get("lessons"):
        words_of = {"defect": "looks out for", "tolerated": "tolerates"}
        st.caption("Taught: " + "; ".join(f"{words_of[one['lesson']]} {one['picture']}" for one in report["lessons"]))
    if silent := [str(one["picture"]) for one in report.get("lessons", []) if one.get("silent")]:
        st.warning(f"Good parts look like what was marked in {', '.join(silent)}: that lesson changes nothing.")
    if raised := report.get("good_raised_by_lessons"):
        names = ", ".join(str(one["picture"]) for one in raised[:4])
        st.warning(f"Lessons lifted {len(raised)} confirmed good parts over the threshold without them ({names}).")
    if refused := report.get("good_not_accepted"):
        names = ", ".join(str(one["picture"]) for one in refused[:4])
        count = words.counted(len(refused), "confirmed good part")
        st.warning(f"Would still be rejected: {count} ({names}).", icon=":material/info:")
    _sensitivity(report.get("sensitivity") or {})
    if not recipe.escapes:
        return
    names = ", ".join(str(escape["picture"]) for escape in recipe.escapes[:4])
    st.error(
        f"{words.counted(len(recipe.escapes), 'confirmed defect')} would pass ({names}). "
        "This revision is not activated unless an engineer answers for it.",
        icon=":material/gpp_maybe:",
    )
    with st.popover("Override with a reason", icon=":material/lock_open:"):
        reason = st.text_input("Reason, kept in the audit", max_chars=200, key=f"products:reason:{recipe.id}")
        st.button(
            "Override",
            **allowed(plant.visitor, Role.ENGINEER, disabled=not reason.strip()),
            on_click=_override,
            args=(plant, recipe.id, reason),
            key=f"products:override:{recipe.id}",
        )


def _preview(plant: Dashboard, recipe: data.RecipeView) -> None:
    """What would change if this revision were active: parts that flip, with their pictures, and the confirmed defects."""
    report = recipe.report
    defects = words.counted(report.get("confirmed_defects", 0), "confirmed defect")
    if report.get("confirmed_defects") and not report.get("escapes"):
        st.success(f"None of the {defects} would pass.", icon=":material/verified_user:")
    if not report.get("previewed"):
        return
    flips = {flip["inspection"]: Verdict(flip["now"]) for flip in report["flips"]}
    to_ok = sum(now is Verdict.OK for now in flips.values())
    st.markdown(
        f"Of the last {report['previewed']} parts whose pictures are kept, **{len(flips)}** would be decided otherwise: "
        f"{to_ok} would be accepted now, {len(flips) - to_ok} would not."
    )
    if flips:
        with st.expander("Show the parts that would flip", icon=":material/compare:"):
            st.caption("With the verdict that they were given. Choose one to see all that is known of it.")
            st.html(tiles.strip(data.parts(plant.store, list(flips)[:FLIPS_SHOWN]), plant.data_path, local_zone()))
            if len(flips) > FLIPS_SHOWN:
                st.caption(f"The newest {FLIPS_SHOWN} of {len(flips)}.")


def _sensitivity(found: dict[str, Any]) -> None:
    """What drawn defects this revision would catch; they never move a threshold."""
    if not found:
        return
    with st.expander("Which defects would it see?", icon=":material/troubleshoot:"):
        st.caption(
            f"Share of defects that were caught, drawn into held-out copies of the references ({found['count']} of each "
            "kind and size, weak and strong); sizes as percent of the picture's shorter side. Drawn, not from the line."
        )
        st.dataframe(
            [
                {"defect": kind} | {f"{100 * float(size):g} %": f"{100 * share:.0f} %" for size, share in sizes.items()}
                for kind, sizes in found["shares"].items()
            ],
            hide_index=True,
        )


def _override(plant: Dashboard, recipe_id: int, reason: str) -> None:
    with told(), (permit := plant.require(Role.ENGINEER)).write() as session:
        override(session, recipe_id, reason, permit.who, utc_now())
