"""The report of a study: pieces of HTML for the page of the dashboard, and one file that prints on A4 and needs nothing else.

Every text from outside goes through `escape`; a picture that is missing is said to be missing.
"""

import base64
from collections.abc import Sequence
from datetime import datetime, tzinfo
from html import escape
from pathlib import Path

from inspector.agreement import EFFECTIVENESS, FALSE_ALARM, MISS, Agreement, Band, Judge, Kappa, Limits, Share
from inspector.errors import ImageError
from inspector.html_page import html_page
from inspector.images import encode_jpeg, read_image, shrink
from inspector.promises import interval
from inspector.store.labels import GOOD
from inspector.study.result import PartResult, StudyResult
from inspector.types import Verdict

PICTURE_SIDE_PX = 260
SENSIBLE_PARTS = 20
BANDS = {Band.ACCEPTABLE: ("ok", "✓"), Band.MARGINAL: ("edge", "~"), Band.UNACCEPTABLE: ("ng", "✕")}
ORDER = (Band.ACCEPTABLE, Band.MARGINAL, Band.UNACCEPTABLE)
LETTERS = {GOOD: "G"}
STYLE = """
.edge { color: #9a5b00; } td.band b { display: block; } td small, th small { color: var(--dim); display: block; }
.verdict { font-size: 1.15rem; color: var(--ink); border-left: 5px solid var(--line); padding: .3rem .8rem; margin: 1rem 0; }
table.facts td { text-align: left; } table.facts td:first-child { color: var(--dim); width: 11rem; }
.parts { display: grid; grid-template-columns: repeat(auto-fill, minmax(170px, 1fr)); gap: .8rem; margin-top: .6rem; }
.parts img { width: 100%; border-radius: 6px; } .sign { display: flex; gap: 3rem; margin-top: 3rem; }
.sign div { flex: 1; border-top: 1px solid var(--ink); padding-top: .3rem; color: var(--dim); }
@page { size: A4; margin: 15mm; }
@media print { th, td { white-space: normal; padding: .25rem .3rem; } td.band b { white-space: nowrap; }
  .parts { grid-template-columns: repeat(4, 1fr); } .edge { color: #7a4700; } }
"""


def write_html(result: StudyResult, data_path: Path, zone: tzinfo) -> str:
    """The whole report as one HTML file; times in `zone`."""
    body = (
        f"<h1>{escape(result.title)}</h1><p>Attribute agreement study {result.id} of {escape(result.product)}</p>"
        f"{settings(result, zone)}{summary(result)}{tables(result)}"
        f"<h2>Parts that were judged differently, or wrongly</h2>{disputed(result, data_path)}"
        f"<h2>All answers</h2>{all_answers(result)}<h2>How to read this</h2>{method(result)}"
        '<div class="sign"><div>Date</div><div>Made by</div><div>Approved by</div></div>'
    )
    return html_page(f"{result.title}: attribute agreement study", body, STYLE)


def settings(result: StudyResult, zone: tzinfo) -> str:
    """What the study consisted of."""
    good, defects, unknown = result.truths
    parts = f"{len(result.parts)}: {good} good, {defects} defects" + (
        f", {unknown} of unknown truth" if unknown else ""
    )
    rows = [
        ("Parts", parts),
        ("Operators", ", ".join(result.operators)),
        ("Rounds", f"{result.repeats}; blind, in an order of its own for each operator and round (seed {result.seed})"),
        ("Made", f"{_time(result.created_at, zone)} by {result.created_by}"),
        ("Last answer", "–" if result.last_at is None else _time(result.last_at, zone)),
    ]
    if result.unfinished:
        waiting = ", ".join(f"{name} ({result.progress[name]} of {result.total})" for name in result.unfinished)
        rows.append(("Not finished", f"{waiting}: left out of the figures"))
    cells = "".join(f"<tr><td>{name}</td><td>{escape(value)}</td></tr>" for name, value in rows)
    return f'<table class="facts">{cells}</table>'


def summary(result: StudyResult) -> str:
    """The study in one or two sentences."""
    if result.agreement is None:
        return '<p class="verdict">Nobody has finished yet, so there is nothing to say.</p>'
    return "".join(f'<p class="verdict">{escape(sentence)}</p>' for sentence in conclusions(result.agreement))


def conclusions(agreement: Agreement) -> list[str]:
    """What follows from the study, in words."""
    said = []
    bands = {judge.name: band for judge in agreement.operators if (band := overall(judge)) is not None}
    for band in ORDER:
        if names := [name for name, found in bands.items() if found is band]:
            said.append(f"{', '.join(names)}: {band} against the truth.")
    if not bands:
        said.append("The truth of no part is known, so only agreement can be told, not who is right.")
    fleiss = agreement.fleiss
    if fleiss is not None and fleiss.value is not None:
        said.append(f"Agreement of all answers beyond chance is {fleiss.strength} (Fleiss' kappa {fleiss.value:.2f}).")
    if bands and set(bands.values()) != {Band.ACCEPTABLE}:
        said.append("Settle what a defect is, with pictures of the parts below, before labels move thresholds.")
    return [" ".join(said), *_doubts(agreement)]


def overall(judge: Judge) -> Band | None:
    """The worst band of a judge's three rates; None if no truth is known."""
    rates = ((judge.effectiveness, EFFECTIVENESS), (judge.miss, MISS), (judge.false_alarm, FALSE_ALARM))
    bands = [limits.band(share.rate) for share, limits in rates if share is not None]
    return max(bands, key=ORDER.index) if bands else None


def _doubts(agreement: Agreement) -> list[str]:
    """What so few parts cannot show, whatever was answered."""
    doubts = []
    for share, limits, what in (
        (agreement.together.miss, MISS, "defects cannot show a miss rate"),
        (agreement.together.false_alarm, FALSE_ALARM, "good parts cannot show a false-alarm rate"),
    ):
        if share is None:
            continue
        possible = interval(0, share.parts)[1]
        if possible > limits.acceptable:
            doubts.append(
                f"{share.parts} {what} of {100 * limits.acceptable:.0f} %: even without a mistake "
                f"up to {100 * possible:.0f} % are possible."
            )
    return [" ".join(doubts)] if doubts else []


def tables(result: StudyResult) -> str:
    """Against the truth; with themselves and each other; kappa."""
    agreement = result.agreement
    if agreement is None:
        return ""
    system = () if agreement.system is None else (agreement.system,)
    together = (agreement.together,) if len(agreement.operators) > 1 else ()
    judges = (*agreement.operators, *together, *system)
    return (
        f'<h2>Against the truth</h2><div class="scroll">{_truth_table(judges)}</div>'
        f'<h2>With themselves and with each other</h2><div class="scroll">{_agreement_table(result, agreement)}</div>'
    )


def _truth_table(judges: Sequence[Judge]) -> str:
    head = (
        "<tr><th>judge</th><th>effectiveness<small>≥ 90 %, marginal ≥ 80 %</small></th>"
        "<th>miss rate<small>≤ 2 %, marginal ≤ 5 %</small></th>"
        "<th>false-alarm rate<small>≤ 5 %, marginal ≤ 10 %</small></th><th>kappa with the truth</th></tr>"
    )
    rows = [
        f"<tr><td>{escape(judge.name)}</td>{_rate(judge.effectiveness, EFFECTIVENESS)}{_rate(judge.miss, MISS)}"
        f"{_rate(judge.false_alarm, FALSE_ALARM)}{_kappa(judge.kappa)}</tr>"
        for judge in judges
    ]
    return f"<table>{head}{''.join(rows)}</table>"


def _agreement_table(result: StudyResult, agreement: Agreement) -> str:
    rows = [
        f"<tr><td>{escape(judge.name)} with themselves<small>{result.median_s[judge.name]:.1f} s per answer (median)"
        f"</small></td>{_rate(judge.within)}<td>–</td></tr>"
        for judge in agreement.operators
    ]
    rows += [
        f"<tr><td>{escape(pair.one)} with {escape(pair.other)}</td>{_rate(pair.agreed)}{_kappa(pair.kappa)}</tr>"
        for pair in agreement.pairs
    ]
    if agreement.between is not None:
        rows.append(
            f"<tr><td>All operators, always<small>kappa: Fleiss, over all answers</small></td>"
            f"{_rate(agreement.between)}{_kappa(agreement.fleiss)}</tr>"
        )
    return f"<table><tr><th>judges</th><th>same answer</th><th>kappa</th></tr>{''.join(rows)}</table>"


def _rate(share: Share | None, limits: Limits | None = None) -> str:
    if share is None:
        return "<td>–</td>"
    low, high = share.bounds
    plain = f"{100 * share.rate:.1f} %<small>{100 * low:.0f} to {100 * high:.0f} % · {share.count} of {share.n}</small>"
    if limits is None:
        return f"<td>{plain}</td>"
    band, worst = limits.band(share.rate), share.worst(limits)
    colour, sign = BANDS[band]
    doubt = "" if worst is band else f"<small>{worst} is not ruled out</small>"
    return f'<td class="band"><b class="{colour}">{sign} {band}</b>{plain}{doubt}</td>'


def _kappa(kappa: Kappa | None) -> str:
    if kappa is None:
        return "<td>–</td>"
    if kappa.value is None or kappa.bounds is None:
        return "<td>–<small>all answers were the same</small></td>"
    low, high = kappa.bounds
    return f"<td>{kappa.value:.2f} {kappa.strength}<small>{low:.2f} to {high:.2f}</small></td>"


def disputed(result: StudyResult, data_path: Path) -> str:
    """The parts about which people differ, or err, with their pictures."""
    parts = [part for part in result.parts if part.disputed]
    if result.agreement is None or not parts:
        return "<p>None." + ("</p>" if result.agreement else " Nobody has finished yet.</p>")
    return f'<div class="parts">{"".join(_figure(part, data_path) for part in parts)}</div>'


def _figure(part: PartResult, data_path: Path) -> str:
    try:
        jpeg = encode_jpeg(shrink(read_image(data_path / part.path), PICTURE_SIDE_PX), 85)
        data = base64.b64encode(jpeg).decode("ascii")
        picture = f'<img src="data:image/jpeg;base64,{data}" alt="{escape(part.name)}">'
    except ImageError as error:
        picture = f"<p>{escape(str(error))}</p>"
    answers = "<br>".join(f"{escape(name)}: {_letters(given, part.truth)}" for name, given in part.answers.items())
    return (
        f"<figure>{picture}<figcaption><b>{part.position + 1}. {escape(part.name)}</b><br>"
        f"truth: {part.truth or 'not known'}{_system_words(part.verdict)}<br>{answers}</figcaption></figure>"
    )


def all_answers(result: StudyResult) -> str:
    """One line for each part; a wrong answer is marked."""
    heads = "".join(f"<th>{escape(name)}</th>" for name in result.finished)
    rows = []
    for part in result.parts:
        cells = "".join(f"<td>{_letters(part.answers[name], part.truth)}</td>" for name in result.finished)
        verdict = "–" if part.verdict is None else part.verdict.name
        source = f" ({part.truth_source})" if part.truth_source else ""
        rows.append(
            f"<tr><td>{part.position + 1}. {escape(part.name)}</td><td>{part.truth or 'not known'}{source}</td>"
            f"<td>{verdict}</td>{cells}</tr>"
        )
    return (
        f'<p>G good, D defect, one letter per round; <b class="ng">bold</b>: not the truth.</p><div class="scroll"><table>'
        f"<tr><th>part</th><th>truth</th><th>verdict</th>{heads}</tr>{''.join(rows)}</table></div>"
    )


def method(result: StudyResult) -> str:
    """What the figures mean, and where their limits come from."""
    few = len(result.parts) < SENSIBLE_PARTS
    system = (
        " The inspection system takes part with the verdict it gave on the line; UNDECIDED counts as a defect, since such a "
        "part does not pass, and NONE is no answer."
        if result.with_system
        else ""
    )
    return (
        "<p>Effectiveness: parts that were judged right in every round. Miss: a defect that was called good. False alarm: a "
        "good part that was called a defect. <i>All operators</i> are right about a part only if everybody always was; their "
        "misses and false alarms are those of all answers. Limits and kappa (above 0.75 good, below 0.40 poor): AIAG, "
        "Measurement Systems Analysis, 4th edition, 2010.</p>"
        "<p>Intervals have 95 % confidence (Clopper and Pearson) and count parts, not answers, because two answers to "
        "one part are not independent; for kappa chance agreement is taken as fixed. "
        f"{f'This study has fewer than {SENSIBLE_PARTS} parts: it shows coarse faults only. ' if few else ''}"
        f"Parts without a known truth count for agreement only.{system}</p>"
    )


def _letters(answers: Sequence[str], truth: str = "") -> str:
    return " ".join(
        f'<b class="ng">{LETTERS.get(answer, "D")}</b>' if truth and answer != truth else LETTERS.get(answer, "D")
        for answer in answers
    )


def _system_words(verdict: Verdict | None) -> str:
    return "" if verdict is None else f"<br>system: {verdict.name}"


def _time(at: datetime, zone: tzinfo) -> str:
    return f"{at.astimezone(zone):%Y-%m-%d %H:%M}"
