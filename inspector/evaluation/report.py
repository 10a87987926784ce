"""The report: one HTML file that needs nothing else, to be read by whoever decides about a line.

HTML and SVG are written here; every text from outside goes through `escape`.
"""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from inspector.errors import UsageError
from inspector.evaluation.results import METRICS, summarise
from inspector.evaluation.runner import Evaluated
from inspector.html_page import html_page
from inspector.images import encode_jpeg, heat_map, read_image, shrink

CASES = "cases"
CASE_SIDE_PX = 260
HEADINGS = {
    "image_auroc": "I-AUROC",
    "image_ap": "I-AP",
    "image_f1max": "I-F1max",
    "pixel_auroc": "P-AUROC",
    "pixel_ap": "P-AP",
    "pixel_f1max": "P-F1max",
    "aupro": "AUPRO",
    "false_reject_rate": "false rejects",
    "escape_rate": "escapes",
    "tnr_at_zero_escapes": "true normals at zero escapes",
}
REFUSED = (
    " A picture in which nothing can be seen (201 to 203), and a part that is not found (301) or not where it may lie "
    "(303), is rejected whatever the threshold: a good one is a false reject, a bad one no escape. It ranks above every "
    "score; its pixels do not count."
)
COLOURS = ("#1f5fae", "#c2410c", "#15803d", "#7e22ce", "#0e7490", "#a16207")
BINS = 30


def keep_cases(folder: Path, category: str, evaluated: Evaluated) -> None:
    """Write the worst cases with their heat maps into `folder`, for the report and for a run that goes on later."""
    place = folder / CASES / category
    try:
        place.mkdir(parents=True, exist_ok=True)
        for old in place.glob("*.jpg"):
            old.unlink()
        for shots, cases in evaluated.cases.items():
            for number, case in enumerate(cases):
                image = shrink(read_image(case.path), CASE_SIDE_PX * 2)
                seen = heat_map(case.anomaly_map, image, evaluated.pixel_threshold[shots])
                picture = np.concatenate([shrink(image, CASE_SIDE_PX), shrink(seen, CASE_SIDE_PX)], axis=1)
                side = "good" if case.kind == "good" else "bad"
                name = f"{shots:04d}-{side}-{number}-{case.verdict}-{case.score:.4f}-{case.kind}-{case.path.stem}.jpg"
                (place / name.replace("/", "_")).write_bytes(encode_jpeg(picture, 85))
    except OSError as error:
        raise UsageError(f"{place}: cannot be written: {error.strerror}") from error


def write_report(folder: Path, settings: dict[str, Any], results: Sequence[dict[str, Any]]) -> Path:
    """Write `report.html` from the results; gives its path."""
    body = [
        "<h1>Evaluation</h1>",
        f"<p>{escape(_what(settings))}</p>",
        '<h2>Summary</h2><div class="scroll">',
        _table(results),
        "</div><p>Mean ± standard deviation over seeds. F1max is an oracle, never a threshold to deploy. False rejects and "
        "escapes are those at the threshold that the product would have used with only these references. Masks are "
        "compared at the model's input size, or that of its tiles; AUPRO is integrated up to a false positive rate of "
        f"0.3.{REFUSED}</p>",
    ]
    for category in dict.fromkeys(result["category"] for result in results):
        body.append(_category(folder, category, [r for r in results if r["category"] == category]))
    path = folder / "report.html"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(html_page("Evaluation", "".join(body)), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from error
    return path


def _what(settings: dict[str, Any]) -> str:
    shots, seeds = (", ".join(map(str, settings[key])) for key in ("shots", "seeds"))
    adapters = f"adapters {settings['adapters']}, " if settings.get("adapters") else ""
    tiles = f" · seen in tiles: {settings['tiles']}" if settings.get("tiles") else ""
    align = ""
    if limits := settings.get("align"):
        align = f" · parts are aligned: {100 * limits['max_shift']:.0f} % off, {limits['max_turn_deg']:.0f}° at most"
    return (
        f"{settings['dataset']} ({settings['layout']}) · encoder {settings['encoder']}, {settings['precision']}, {adapters}"
        f"fingerprint {settings['fingerprint'][:12]} · references: {shots} · seeds: {seeds}{align}{tiles}"
    )


def _table(results: Sequence[dict[str, Any]]) -> str:
    head = "".join(f"<th>{escape(HEADINGS[metric])}</th>" for metric in METRICS)
    rows = []
    for row in summarise(results):
        cells = "".join(f"<td>{_percent(row[metric])}</td>" for metric in METRICS)
        kind = ' class="mean"' if row["category"] == "mean" else ""
        rows.append(f"<tr{kind}><td>{escape(row['category'])}</td><td>{row['shots']}</td>{cells}</tr>")
    return f"<table><tr><th>category</th><th>references</th>{head}</tr>{''.join(rows)}</table>"


def _percent(value: dict[str, float] | None) -> str:
    return "–" if value is None else f"{100 * value['mean']:.1f} ± {100 * value['std']:.1f}"


def _category(folder: Path, name: str, results: Sequence[dict[str, Any]]) -> str:
    first = [result for result in results if result["seed"] == results[0]["seed"]]
    notes = []
    for kind in results[0]["kinds_without_masks"]:
        notes.append(f"{kind}: no masks, so it counts for pictures and not for pixels")
    notes += [f"not scored: {picture}" for picture in results[0]["unscored"]]
    parts = [
        f"<h2>{escape(name)}</h2><p>{results[0]['good']} good and {results[0]['bad']} bad test pictures. "
        f"{escape('; '.join(notes))}</p>",
        f'<div class="row"><figure>{_roc(first)}<figcaption>ROC of the pictures, seed {first[0]["seed"]}</figcaption>'
        "</figure>",
    ]
    for result in first:
        parts.append(
            f"<figure>{_histogram(result)}<figcaption>{_references(result)}: scores of good "
            '<span class="ok">■</span> and bad <span class="ng">■</span> pictures; the line is the threshold'
            "</figcaption></figure>"
        )
    parts.append("</div>")
    parts.append(_refused([result for result in results if result.get("refused")]))
    for result in first:
        parts.append(_cases(folder / CASES / name, result))
    return "".join(parts)


def _refused(results: Sequence[dict[str, Any]]) -> str:
    """The pictures that the line would refuse, of every choice of references that has any."""
    if not results:
        return ""
    rows = []
    for result in results:
        lost = result["refused"]
        good = sum(entry["kind"] == "good" for entry in lost)
        told = "".join(
            f"<li>{escape(entry['picture'])}: {entry['err']}, {escape(entry['reason'])}</li>" for entry in lost
        )
        rows.append(
            f"<tr><td>{_references(result)}, seed {result['seed']}</td><td>{good} of {result['good']}</td>"
            f"<td>{len(lost) - good} of {result['bad']}</td></tr>"
            f'<tr><td colspan="3"><details><summary>which, and why</summary><ul>{told}</ul></details></td></tr>'
        )
    return (
        "<h3>Pictures that the line refuses, all of them rejected</h3>"
        f"<table><tr><th>bank</th><th>good</th><th>bad</th></tr>{''.join(rows)}</table>"
    )


def _references(result: dict[str, Any]) -> str:
    return f"{result['shots']} reference{'' if result['shots'] == 1 else 's'}"


def _roc(results: Sequence[dict[str, Any]]) -> str:
    side, pad = 220, 26
    lines = []
    for place, result in enumerate(results):
        points = " ".join(f"{pad + x * side:.1f},{6 + (1 - y) * side:.1f}" for x, y in result["roc"])
        colour = COLOURS[place % len(COLOURS)]
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        auroc = "–" if result["image_auroc"] is None else f"{100 * result['image_auroc']:.1f}"
        label = f"{_references(result)}: {auroc}"
        lines.append(f'<text x="{pad + 90}" y="{side - 8 - 14 * place}" style="fill:{colour}">{label}</text>')
    return (
        f'<svg width="{side + pad + 8}" height="{side + 34}" role="img" aria-label="ROC">'
        f'<rect x="{pad}" y="6" width="{side}" height="{side}" fill="none" stroke="var(--line)"/>'
        f'<line x1="{pad}" y1="{side + 6}" x2="{side + pad}" y2="6" stroke="var(--line)" stroke-dasharray="4"/>'
        f'{"".join(lines)}<text x="{pad}" y="{side + 24}">false positive rate</text></svg>'
    )


def _histogram(result: dict[str, Any]) -> str:
    wide, high = 300, 150
    scores = {
        side: np.array(
            [e["score"] for e in result["pictures"] if e["score"] is not None and (e["kind"] == "good") is side]
        )
        for side in (True, False)
    }
    everything = np.concatenate([*scores.values(), [result["threshold"]]])
    low, top = float(everything.min()), float(everything.max())
    edges = np.linspace(low, top if top > low else low + 1.0, BINS + 1)
    counts = {side: np.histogram(values, edges)[0] for side, values in scores.items()}
    most = max(1, *(int(count.max()) for count in counts.values()))
    bars = []
    for side, colour in ((True, "var(--good)"), (False, "var(--bad)")):
        for place, count in enumerate(counts[side]):
            if count:
                bar = high * count / most
                bars.append(
                    f'<rect x="{place * wide / BINS:.1f}" y="{6 + high - bar:.1f}" width="{wide / BINS - 1:.1f}" '
                    f'height="{bar:.1f}" fill="{colour}" fill-opacity="0.6"/>'
                )
    line = (result["threshold"] - edges[0]) / (edges[-1] - edges[0]) * wide
    return (
        f'<svg width="{wide + 10}" height="{high + 26}" role="img" aria-label="score histogram">{"".join(bars)}'
        f'<line x1="{line:.1f}" y1="0" x2="{line:.1f}" y2="{high + 6}" stroke="var(--ink)" stroke-width="2"/>'
        f'<text x="0" y="{high + 20}">{edges[0]:.3f}</text>'
        f'<text x="{wide}" y="{high + 20}" text-anchor="end">{edges[-1]:.3f}</text></svg>'
    )


def _cases(place: Path, result: dict[str, Any]) -> str:
    """The worst cases that were kept: good pictures with the highest, bad ones with the lowest scores."""
    figures = []
    for path in sorted(place.glob(f"{result['shots']:04d}-*.jpg"), reverse=True):
        _, side, _, verdict, score, rest = path.stem.split("-", 5)
        data = base64.b64encode(path.read_bytes()).decode("ascii")
        what = "highest of the good" if side == "good" else "lowest of the bad"
        caption = f"{what}: {rest}, score {score}, {verdict}"
        figures.append(
            f'<figure><img src="data:image/jpeg;base64,{data}" alt="{escape(caption)}"><figcaption>{escape(caption)}'
            "</figcaption></figure>"
        )
    if not figures:
        return ""
    names = ", ".join(result["references"])
    return (
        f"<h3>{_references(result)}, seed {result['seed']}: worst cases</h3>"
        f'<p>References: {escape(names)}.</p><div class="cases">{"".join(figures)}</div>'
    )
