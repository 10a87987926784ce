"""Charts (Altair): scores of the last parts against their threshold, and how the line has drifted."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import altair as alt

from dashboard import words
from dashboard.data import PartView
from dashboard.verification import PointView

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


def p_values(points: Sequence[PointView], span: tuple[datetime, datetime], height_px: int) -> alt.LayerChart:
    """Mean p-value of the accepted parts in time, the band in which nothing has changed, and where a cause was found.

    The line is broken where the revision changes.
    """
    base = alt.Chart(alt.InlineData(values=_drift_rows(points)))
    x, y_scale = _time(span), alt.Scale(domain=[0, 1])
    band = base.mark_area(color=words.GREEN, opacity=0.13, interpolate="step-after").encode(
        x=x, y=alt.Y("low:Q", scale=y_scale, title="mean p-value"), y2="high:Q", detail="recipe:N"
    )
    line = base.transform_filter("datum.p != null").mark_line(color=words.INK, point=alt.OverlayMarkDef(size=22))
    line = line.encode(x=x, y=alt.Y("p:Q", scale=y_scale), detail="recipe:N", tooltip=["time:N", "p:Q", "parts:Q"])
    found = base.transform_filter("datum.begins")
    rule = found.mark_rule(color=words.RED, strokeWidth=1.6).encode(x=x, tooltip=["time:N", "cause:N"])
    name = found.mark_text(align="left", dx=4, color=words.RED, fontWeight="bold", baseline="top")
    name = name.encode(x=x, y=alt.value(2), text="short:N", tooltip=["time:N", "cause:N"])
    chart: alt.LayerChart = (
        (band + line + rule + name).properties(height=height_px, background="#ffffff").configure_view(strokeWidth=0)
    )
    return chart


def measure(
    points: Sequence[PointView], name: str, title: str, span: tuple[datetime, datetime], height_px: int
) -> alt.Chart:
    """Median of one measure of the pictures in time."""
    rows = [row | {"value": row["measures"].get(name)} for row in _drift_rows(points)]
    chart: alt.Chart = (
        alt.Chart(alt.InlineData(values=[row for row in rows if row["value"] is not None]))
        .mark_line(color=words.BLUE, point=alt.OverlayMarkDef(size=18, color=words.BLUE))
        .encode(
            x=_time(span),
            y=alt.Y("value:Q", title=title, scale=alt.Scale(zero=False, padding=6), axis=alt.Axis(tickCount=3)),
            detail="recipe:N",
            tooltip=["time:N", "value:Q", "parts:Q"],
        )
        .properties(height=height_px, background="#ffffff")
        .configure_view(strokeWidth=0)
    )
    return chart


def _time(span: tuple[datetime, datetime]) -> alt.X:
    form = "%H:%M" if span[1] - span[0] <= timedelta(days=1) else "%d %b"
    return alt.X(
        "at:T",
        title=None,
        scale=alt.Scale(domain=[_moment(at) for at in span]),
        axis=alt.Axis(tickCount=4, grid=False, format=form),
    )


def _moment(at: datetime) -> alt.DateTime:
    at = at.astimezone(UTC)
    names = {"date": at.day, "hours": at.hour, "minutes": at.minute, "seconds": at.second}
    return alt.DateTime(year=at.year, month=at.month, utc=True, **names)


def _drift_rows(points: Sequence[PointView]) -> list[dict[str, Any]]:
    """Rows of the points; `begins` marks the first one of each cause."""
    rows, last = [], 0
    for point in points:
        low, high = point.band
        rows.append(
            {
                "at": point.at.timestamp() * 1000,
                "time": f"{point.at:%Y-%m-%d %H:%M}",
                "recipe": point.recipe_id,
                "p": point.p_mean,
                "low": low,
                "high": high,
                "parts": point.parts,
                "measures": point.measures,
                "cause": point.cause,
                "short": words.CAUSES.get(point.err, ""),
                "begins": bool(point.err) and point.err != last,
            }
        )
        last = point.err
    return rows


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
