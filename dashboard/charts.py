"""Charts (Altair): scores of the last parts against their threshold."""

from collections.abc import Sequence
from datetime import tzinfo
from typing import Any

import altair as alt

from dashboard import words
from dashboard.data import PartView

MARKS = {"OK": "circle", "NG": "cross", "UNDECIDED": "triangle-up", "NONE": "square"}


def score_trend(parts: Sequence[PartView], zone: tzinfo, height_px: int) -> alt.LayerChart:
    """Scores of `parts` (newest first) in their order; colour and form of a point are its verdict.

    The threshold is a line of steps, since a change of product changes it; parts without a score have no point.
    """
    rows = [_row(number, part, zone) for number, part in enumerate(reversed(parts)) if part.score is not None]
    looks = [words.VERDICTS[verdict] for verdict in words.VERDICT_ORDER]
    base = alt.Chart(alt.InlineData(values=rows))
    x = alt.X("number:Q", title=None, axis=alt.Axis(labels=False, ticks=False, grid=False), scale=alt.Scale(nice=False))
    y = alt.Y("score:Q", title="score", axis=alt.Axis(grid=True, tickCount=5), scale=alt.Scale(zero=False, padding=8))
    line = base.mark_line(interpolate="step-after", color=words.INK, strokeDash=[5, 3], strokeWidth=1.6).encode(
        x=x, y=alt.Y("threshold:Q")
    )
    points = base.mark_point(filled=True, size=70, opacity=0.9).encode(
        x=x,
        y=y,
        color=alt.Color(
            "verdict:N",
            scale=alt.Scale(domain=[look.word for look in looks], range=[look.colour for look in looks]),
            legend=None,
        ),
        shape=alt.Shape("verdict:N", scale=alt.Scale(domain=list(MARKS), range=list(MARKS.values())), legend=None),
        tooltip=["part:N", "verdict:N", "score:Q", "threshold:Q", "time:N", "product:N"],
    )
    chart: alt.LayerChart = (
        (line + points).properties(height=height_px, background="#ffffff").configure_view(strokeWidth=0)
    )
    return chart


def _row(number: int, part: PartView, zone: tzinfo) -> dict[str, Any]:
    return {
        "number": number,
        "part": part.name,
        "verdict": words.VERDICTS[part.verdict].word,
        "score": part.score,
        "threshold": part.threshold,
        "time": f"{part.captured_at.astimezone(zone):%H:%M:%S}",
        "product": f"{part.product}, revision {part.rev}" if part.product else "",
    }
