"""The report of the acceptance test: one HTML file that prints on A4 and needs nothing else.

May import `run` and the frame of the pages. Every text from outside goes through `escape`.
"""

from datetime import tzinfo
from html import escape

from inspector import __version__
from inspector.fat.run import FatResult, Outcome, Status
from inspector.html_page import html_page

MARKS = {
    Status.PASSED: ("ok", "✓ passed"),
    Status.FAILED: ("ng", "✕ failed"),
    Status.UNKNOWN: ("ng", "? unknown"),
    Status.NOT_RUN: ("open", "– not run"),
}
STYLE = """
.open { color: #9a5b00; } td small { color: var(--dim); display: block; } td small.said { color: var(--ink); }
table.faults td:first-child { white-space: normal; }
table.faults td { vertical-align: top; } table.faults td:nth-child(2), table.faults th:nth-child(2) { text-align: left; }
.verdict { font-size: 1.15rem; color: var(--ink); border-left: 5px solid var(--line); padding: .3rem .8rem; margin: 1rem 0; }
.verdict.good { border-color: var(--good); } .verdict.bad { border-color: var(--bad); }
table.facts td { text-align: left; } table.facts td:first-child { color: var(--dim); width: 11rem; }
.sign { display: flex; gap: 3rem; margin-top: 3rem; break-inside: avoid; }
.sign div { flex: 1; border-top: 1px solid var(--ink); padding-top: .3rem; color: var(--dim); }
@page { size: A4; margin: 15mm; }
@media print { th, td { padding: .25rem .3rem; font-size: 11px; } .open { color: #7a4700; } }
"""


def write_html(result: FatResult, zone: tzinfo) -> str:
    """The whole report as one HTML file; times in `zone`."""
    good = "good" if result.passed else "bad"
    body = (
        f"<h1>Interface acceptance test: {escape(result.plc)}</h1>"
        "<p>Whether a bad part passes when broker, station, network or product misbehave</p>"
        f'<p class="verdict {good}">{escape(conclusion(result))}</p>{_facts(result, zone)}'
        f'<h2>Faults</h2><div class="scroll">{_table(result)}</div><h2>How to read this</h2>{_method(result)}'
        '<div class="sign"><div>Date</div><div>PLC programmer</div><div>Approved by</div></div>'
    )
    return html_page(f"Interface acceptance test: {result.plc}, {result.base}", body, STYLE)


def conclusion(result: FatResult) -> str:
    """The test in one sentence."""
    counts = {status: result.count(status) for status in Status}
    bad = sum(outcome.bad_accepted for outcome in result.outcomes)
    others = [f"{counts[status]} {status}" for status in Status if status is not Status.PASSED and counts[status]]
    accepted = "no bad part was accepted" if bad == 0 else f"{bad} bad part{'s were' if bad > 1 else ' was'} accepted"
    said = f"{counts[Status.PASSED]} of {len(result.outcomes)} faults passed"
    if counts[Status.UNKNOWN] == len(result.outcomes):
        return f"Unknown: {result.outcomes[0].reason}."
    return f"{'Passed' if result.passed else 'Failed'}: {', '.join([said, *others])}; {accepted}."


def _facts(result: FatResult, zone: tzinfo) -> str:
    rows = (
        ("PLC", result.plc),
        ("Broker", result.broker),
        ("Topics below", result.base),
        ("Verdicts as", result.verdicts),
        ("Product wanted", f"rcp {result.rcp}"),
        ("PLC's own timer", f"{result.timeout_s:g} s"),
        ("Begun", f"{result.started_at.astimezone(zone):%Y-%m-%d %H:%M:%S}, took {result.duration_s:.0f} s"),
        ("Made by", f"inspector {__version__}"),
    )
    cells = "".join(f"<tr><td>{name}</td><td>{escape(value)}</td></tr>" for name, value in rows)
    return f'<table class="facts">{cells}</table>'


def _table(result: FatResult) -> str:
    head = (
        "<tr><th>fault</th><th>result</th><th>safe after</th><th>good parts after</th><th>parts, bad ones</th>"
        "<th>bad ones accepted</th><th>copies sent, dropped</th></tr>"
    )
    rows = "".join(_row(place, outcome) for place, outcome in enumerate(result.outcomes, start=1))
    return f'<table class="faults">{head}{rows}</table>'


def _row(place: int, outcome: Outcome) -> str:
    colour, mark = MARKS[outcome.status]
    notes = "".join(f'<small class="said">{escape(text)}</small>' for text in (outcome.reason, *outcome.notes) if text)
    bad = f'<b class="ng">{outcome.bad_accepted}</b>' if outcome.bad_accepted else "0"
    dropped = "–" if outcome.duplicates_dropped is None else str(outcome.duplicates_dropped)
    duplicates = f"{outcome.duplicates_sent}, {dropped}" if outcome.duplicates_sent else "–"
    return (
        f"<tr><td>{place}. {escape(outcome.name)}<small>a wrong PLC {escape(outcome.why)}</small>{notes}</td>"
        f'<td><b class="{colour}">{mark}</b></td><td>{_seconds(outcome.safe_s)}</td>'
        f"<td>{_seconds(outcome.back_s)}</td><td>{outcome.parts}, {outcome.bad_parts}</td><td>{bad}</td>"
        f"<td>{duplicates}</td></tr>"
    )


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} s"


def _method(result: FatResult) -> str:
    timer = f"{result.timeout_s:g} s"
    return (
        "<p>The station was played by this test; the PLC triggered parts and said on <code>disp</code> what it did with "
        "each. A part is a bad one unless a fresh, correct OK was sent for it. A fault has passed if no bad part was "
        "accepted, each bad part was said to be rejected, and the good parts before and after it were accepted.</p>"
        f"<p><i>Safe after</i>: from the fault until the last bad part was rejected; one without a verdict takes the PLC's "
        f"own timer ({timer}). <i>Good parts after</i>: from the first good part after the fault until one was "
        "accepted. <i>Unknown</i>: the PLC said nothing of a part. <i>Not run</i>: it was not shown, and is no pass.</p>"
        "<p>Not a safety function: MQTT is not deterministic, and this test shows the gate, not the ejector behind it.</p>"
    )
