"""The frame of the HTML files that are read and printed: one style, nothing loaded from elsewhere."""

from html import escape

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --dim: #57606a; --line: #d0d7de; --paper: #fff; --good: #1f7a3d;
  --bad: #c62828; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --dim: #9aa4af; --line: #3a424c; --paper: #12161b;
  --good: #5fbf7f; --bad: #ff7b72; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
  max-width: 1180px; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { margin: 2.2rem 0 .4rem; border-bottom: 1px solid var(--line); }
p, .dim, figcaption { color: var(--dim); } table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { padding: .3rem .5rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { white-space: normal; vertical-align: bottom; } th:first-child, td:first-child { text-align: left; }
tr.mean td { font-weight: 600; } .row { display: flex; flex-wrap: wrap; gap: 1.2rem; }
figure { margin: 0; } .row figure { max-width: 310px; }
  figure img { display: block; border-radius: 6px; max-width: 100%; } svg text { fill: var(--dim);
  font-size: 11px; } .cases { display: grid; grid-template-columns: repeat(4, 1fr); gap: .8rem; } .scroll {
  overflow-x: auto; } .ok { color: var(--good); } .ng { color: var(--bad); } figcaption { font-size: .82rem; }
@media print { h2 { break-after: avoid; } figure, tr { break-inside: avoid; } .scroll { overflow: visible; }
  :root { color-scheme: light; --ink: #1b1f24; --dim: #57606a; --line: #d0d7de; --paper: #fff; --good: #1f7a3d;
  --bad: #c62828; } body { margin: 0; max-width: none; font-size: 12px; } }
"""


def html_page(title: str, body: str, style: str = "") -> str:
    """A whole HTML file; `body` and the additional `style` are put in as they are, `title` is escaped."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}{style}</style></head><body>{body}</body></html>'
    )
