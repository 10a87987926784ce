"""Pieces of the pages that Streamlit has no element for: banner, counters, newest part, strip, tables of facts.

Each function gives HTML; every text that comes from people or from the database goes through `escape`.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from html import escape
from pathlib import Path

from dashboard import pictures, words
from dashboard.data import STALE_AFTER_S, PartView, ReferenceView
from inspector.store.references import ACCEPTED
from inspector.types import Verdict

STYLE = f"<style>{(Path(__file__).parent / 'style.css').read_text(encoding='utf-8')}</style>"
STRIP_SIDE_PX = 220
NEWEST_SIDE_PX = 640
THIN_SPACE = "\u2009"


def banner(
    look: words.Look, headline: str, detail: str, age: str, queue: str = "", link: tuple[str, str] | None = None
) -> str:
    """The state of the station in big words; `headline` and `detail` are what is being inspected, or what to do.

    `link` is the path of another page, and the words that lead there.
    """
    to = f' <a href="{escape(link[0])}" target="_self">{escape(link[1])}</a>' if link else ""
    right = "<br>".join(escape(line) for line in (age, queue) if line)
    return (
        f'<div class="vi-banner" role="status" style="background:{look.colour}">'
        f'<div class="state">{look.symbol} {escape(look.word)}</div>'
        f'<div class="what"><b>{escape(headline)}</b><br>{escape(detail)}{to}</div>'
        f'<div class="age">{right}</div></div>'
    )


def age(station: str, age_s: float | None, read: tuple[datetime, float] | None = None) -> str:
    """How old a station's data are, and when the page was read (time, seconds ago) if it does not renew itself."""
    page = f" · this page was read at {read[0]:%H:%M:%S}, {words.age_words(read[1])} ago" if read else ""
    if age_s is None:
        said, is_old = "no data: no worker has been here yet", True
    elif age_s < -STALE_AFTER_S:
        said, is_old = f"data from the future, {words.age_words(-age_s)} ahead: a clock is wrong", True
    elif age_s > STALE_AFTER_S:
        said, is_old = f"data as of {words.age_words(age_s)} ago: the worker does not run", True
    else:
        said, is_old = f"data as of {words.age_words(age_s)} ago", False
    mark, look = ("⚠ ", ' old"') if is_old else ("", '"')
    return f'<div class="vi-age{look}>{mark}{escape(station)} · {escape(said + page)}</div>'


def person(name: str, role: str) -> str:
    """Who is logged in."""
    return f'<div class="vi-person"><b>{escape(name)}</b> · {escape(role)}</div>'


def counters(counts: Mapping[Verdict, int]) -> str:
    """How many parts of each verdict, and their share."""
    total = sum(counts.values())
    tiles = []
    for verdict in words.VERDICT_ORDER:
        look, count = words.VERDICTS[verdict], counts.get(verdict, 0)
        share = f"{100 * count / total:.1f} %" if total else "–"
        tiles.append(
            f'<div class="vi-count" style="border-top-color:{look.colour}">'
            f'<div class="name" style="color:{look.colour}">{look.symbol} {look.word}</div>'
            f'<div class="n">{f"{count:,}".replace(",", THIN_SPACE)}</div><div class="share">{share}</div></div>'
        )
    return f'<div class="vi-counts">{"".join(tiles)}</div>'


def newest(part: PartView, data_path: Path, zone: tzinfo, *, heat_map: bool) -> str:
    """The last part, large: verdict, name, score against threshold, picture and heat map."""
    look = words.VERDICTS[part.verdict]
    shown = [("picture", part.image_path)] + ([("heat map", part.map_path)] if heat_map else [])
    figures = "".join(_figure(data_path, path, caption) for caption, path in shown)
    reason = words.error_words(part.err) or product_words(part)
    return (
        f'<div class="vi-newest"><div class="head" style="background:{look.colour}">'
        f'<div class="verdict">{look.symbol} {look.word}</div>'
        f'<div class="who">{escape(part.name)} · {escape(reason)}</div>'
        f'<div class="score">{escape(score_words(part))} · {part.captured_at.astimezone(zone):%H:%M:%S}</div></div>'
        f'<div class="pair">{figures}</div></div>'
    )


def strip(parts: Sequence[PartView], data_path: Path, zone: tzinfo) -> str:
    """The last parts, newest first, each a link to all that is known of it."""
    cards = []
    for part in parts:
        look = words.VERDICTS[part.verdict]
        jpeg = pictures.view(data_path, part.image_path, STRIP_SIDE_PX)
        picture = _image(jpeg, part.name) if jpeg else '<div class="vi-none">no picture</div>'
        cards.append(
            f'<a href="history?part={part.id}" target="_self" '
            f'title="{part.captured_at.astimezone(zone):%H:%M:%S} {escape(part.name)}">'
            f'<div class="vi-chip" style="background:{look.colour}">{look.symbol} {look.word}</div>{picture}'
            f'<div class="vi-small">{escape(part.name)}<br>{escape(score_words(part, short=True))}</div></a>'
        )
    return f'<div class="vi-strip">{"".join(cards)}</div>'


def references(rows: Sequence[ReferenceView], threshold: float | None, data_path: Path) -> str:
    """The pictures of a recipe with what each scored when it was left out, and what is odd about it: those first."""
    cards = []
    for row in sorted(rows, key=lambda row: not row.warning):
        jpeg = pictures.view(data_path, row.path, STRIP_SIDE_PX)
        picture = _image(jpeg, row.name) if jpeg else '<div class="vi-none">picture missing</div>'
        above = threshold is not None and row.score is not None and row.score >= threshold
        score = "not scored yet" if row.score is None else f"score {words.number(row.score)}"
        notes = [*(["above the threshold"] if above else []), *([row.warning] if row.warning else [])]
        note = f'<div class="note">⚠ {escape("; ".join(notes))}</div>' if notes else ""
        kept = {f"kept by {finding[ACCEPTED]['who']}" for finding in row.findings if ACCEPTED in finding}
        note += f'<div class="vi-small">✓ {escape(", ".join(sorted(kept)))}</div>' if kept else ""
        cards.append(
            f'<div class="vi-card{" odd" if notes else ""}" title="{escape(row.name)}">{picture}'
            f'<div class="vi-small">{escape(row.name)}<br>{score}</div>{note}</div>'
        )
    return f'<div class="vi-grid">{"".join(cards)}</div>'


def verdict(part: PartView, zone: tzinfo) -> str:
    """The verdict of one part as a headline."""
    look = words.VERDICTS[part.verdict]
    said = words.error_words(part.err) or score_words(part)
    return (
        f'<div class="vi-verdict" style="background:{look.colour}">{look.symbol} {look.word}'
        f"<span>{escape(part.name)} · {escape(said)} · "
        f"{part.captured_at.astimezone(zone):%Y-%m-%d %H:%M:%S}</span></div>"
    )


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """A table of names and values; empty values are left out."""
    cells = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows if value)
    return f'<table class="vi-facts"><tbody>{cells}</tbody></table>'


def judged(rows: Sequence[tuple[str, str, str, str]]) -> str:
    """Known parts of a challenge: name, what was expected, what was seen, and what is wrong with that (in red)."""
    cells = []
    for name, expected, seen, fault in rows:
        wrong = f'<td style="color:{words.RED};font-weight:650">✕ {escape(fault)}</td>' if fault else "<td>✓</td>"
        cells.append(f"<tr><td>{escape(name)}</td><td>{escape(expected)}</td><td>{escape(seen)}</td>{wrong}</tr>")
    head = "<tr><td>part</td><td>expected</td><td>seen</td><td></td></tr>"
    return f'<table class="vi-facts vi-judged"><tbody>{head}{"".join(cells)}</tbody></table>'


def card(jpeg: bytes | None, name: str, text: str) -> str:
    """A picture with a line of text below."""
    picture = _image(jpeg, name) if jpeg else '<div class="vi-none">picture missing</div>'
    return f'<div class="vi-card" title="{escape(name)}">{picture}<div class="vi-small wrap">{escape(text)}</div></div>'


def pill(look: words.Look) -> str:
    return f'<span class="vi-pill" style="background:{look.colour}">{look.symbol} {escape(look.word)}</span>'


def empty(what: str, to_do: str) -> str:
    """A page or list with nothing in it, and what to do about that."""
    return f'<div class="vi-empty"><b>{escape(what)}</b>{escape(to_do)}</div>'


def done(text: str) -> str:
    """A step that lies behind."""
    return f'<span style="color:{words.GREEN}">✓ {escape(text)}</span>'


def plain(text: str) -> str:
    """A text from people inside of Markdown, as it is."""
    return re.sub(r"([\\`*_{}\[\]()#+.!|~<>$:-])", r"\\\1", text)


def product_words(part: PartView) -> str:
    return f"{part.product}, revision {part.rev}" if part.product else "no product"


def score_words(part: PartView, *, short: bool = False) -> str:
    """The score against its threshold, and on which side it lies; a dash where there is no score."""
    if part.score is None:
        return "no score"
    if part.threshold is None:
        return f"score {words.number(part.score)}"
    sign = "<" if part.score < part.threshold else "≥"
    return f"{'' if short else 'score '}{words.number(part.score)} {sign} {words.number(part.threshold)}"


def patches(title: str, figures: Sequence[tuple[bytes | None, str]]) -> str:
    """Patches side by side, each with its caption; one whose picture is gone says so."""
    cards = []
    for jpeg, caption in figures:
        picture = _image(jpeg, caption) if jpeg else '<div class="vi-none">picture missing</div>'
        cards.append(f'<div class="vi-card">{picture}<div class="vi-small">{escape(caption)}</div></div>')
    return f'<div class="vi-small">{escape(title)}</div><div class="vi-patches">{"".join(cards)}</div>'


def _figure(data_path: Path, path: str | None, caption: str) -> str:
    jpeg = pictures.view(data_path, path, NEWEST_SIDE_PX)
    if jpeg is None:
        return f'<figure><div class="vi-none">no {caption} was kept for this part</div></figure>'
    return f"<figure>{_image(jpeg, caption)}<figcaption>{caption}</figcaption></figure>"


def _image(jpeg: bytes, text: str) -> str:
    return f'<img src="{pictures.data_uri(jpeg)}" alt="{escape(text)}">'
