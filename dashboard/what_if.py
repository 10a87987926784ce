"""What another threshold would have done to the last parts: which flip, and what the labels say of that.

A trial only: a threshold is changed by recalibrating, never by this slider.
"""

from collections.abc import Sequence

import streamlit as st

from dashboard import data, tiles, words
from dashboard.context import Dashboard, local_zone
from inspector.store import labels
from inspector.types import Verdict

PARTS = 500
SHOWN = 12


def draw(plant: Dashboard, active: data.RecipeView) -> None:
    """Draw the slider, what flips, and the rates by the labelled parts."""
    parts = [part for part in data.scored(plant.store, active.id, PARTS) if part.score is not None]
    if len(parts) < 2 or active.threshold is None:
        st.caption("There are too few scored parts of this revision to try another threshold on.")
        return
    scores = [part.score for part in parts if part.score is not None]
    low, high = min([*scores, active.threshold]), max([*scores, active.threshold])
    threshold = st.slider(
        f"Threshold, tried on the last {len(parts)} parts",
        min_value=low,
        max_value=high + 1e-6,
        value=active.threshold,
        format="%.4f",
        key=f"what-if:{active.id}",
    )
    flips = [part for part in parts if (part.verdict is Verdict.OK) != ((part.score or 0.0) < threshold)]
    accepted = sum(part.verdict is not Verdict.OK for part in flips)
    st.markdown(
        f"**{len(flips)}** of {len(parts)} parts would flip: **{accepted}** would be accepted that were not, "
        f"**{len(flips) - accepted}** would not be accepted that were."
    )
    said = data.labels_of(plant.store, [part.id for part in parts])
    st.html(tiles.facts(_rates(parts, {number: one.label for number, one in said.items()}, threshold)))
    if flips:
        nearest = sorted(flips, key=lambda part: abs((part.score or 0.0) - threshold))
        st.html(tiles.strip(nearest[:SHOWN], plant.data_path, local_zone()))
        if len(flips) > SHOWN:
            st.caption(f"The {SHOWN} nearest to the threshold of {len(flips)}.")


def _rates(parts: Sequence[data.PartView], said: dict[int, str], threshold: float) -> list[tuple[str, str]]:
    """Overkill and escapes at a threshold, by the parts that people have labelled."""
    judged = [(said[part.id], (part.score or 0.0) < threshold) for part in parts if part.id in said]
    good = [passes for label, passes in judged if label == labels.GOOD]
    bad = [passes for label, passes in judged if label == labels.DEFECT]
    return [
        ("Labelled good, not accepted", words.share(good.count(False), len(good)) or "no part is labelled good"),
        ("Labelled defect, accepted", words.share(bad.count(True), len(bad)) or "no part is labelled a defect"),
    ]
