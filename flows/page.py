"""One self-contained HTML page: verdict first, then what carried it; opens from disk, light or dark, narrow or wide."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

# Okabe-Ito: eight colours that stay apart for colour-blind readers.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6D00", "#666666")

_STYLE = """
:root{--ink:#1b1f24;--dim:#5b6570;--paper:#fff;--line:#d9dee4;--soft:#f4f6f8;--good:#006d4f;--bad:#b3400a;--open:#7a5a00;--link:#00588c}
@media(prefers-color-scheme:dark){:root{--ink:#e8ebee;--dim:#a3adb8;--paper:#14181c;--line:#333b44;--soft:#1d2329;--good:#4cc9a0;--bad:#ff9a66;--open:#e6b93c;--link:#7cc4f2}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:68rem;padding:1.2rem;font:16px/1.5 system-ui,sans-serif}
body{color:var(--ink);background:var(--paper)}
h1{font-size:1.5rem;margin:.2rem 0 1rem}h2{font-size:1.15rem;margin:2rem 0 .6rem}
a{color:var(--link)}
.verdict{border-left:.4rem solid var(--open);background:var(--soft);padding:.8rem 1rem;font-size:1.1rem;margin:0 0 1rem}
.verdict.good{border-color:var(--good)}.verdict.bad{border-color:var(--bad)}
.verdict b{display:block;font-size:.85rem;letter-spacing:.04em;color:var(--open)}
.verdict.good b{color:var(--good)}.verdict.bad b{color:var(--bad)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.35rem .7rem .35rem 0;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600;color:var(--dim);font-size:.85rem}
code{font-size:.92em;overflow-wrap:anywhere}
figure{margin:1rem 0}figure img,figure svg{max-width:100%;height:auto;display:block}
figcaption{color:var(--dim);font-size:.9rem;margin-top:.3rem}
svg text{fill:var(--ink)}
details{margin:.6rem 0}summary{cursor:pointer}
nav a{margin-right:1rem}
footer{margin-top:2.5rem;color:var(--dim);font-size:.85rem}
"""


def escape(value: object) -> str:
    """HTML-escape the text of `value`."""
    return html.escape(str(value), quote=True)


def page(title: str, verdict: str, ok: bool | None, body_html: str) -> str:
    """The whole document; `ok` is True (passed), False (refused) or None (neither)."""
    css_class, word = {True: ("good", "PASSED"), False: ("bad", "REFUSED"), None: ("", "FOR INFORMATION")}[ok]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>\n"
        f"<h1>{escape(title)}</h1>\n"
        f'<p class="verdict {css_class}"><b>{word}</b>{escape(verdict)}</p>\n{body_html}\n</body></html>\n'
    )


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of escaped cells. A cell that is a `Markup` goes in as it is."""
    head = "".join(f"<th>{escape(header)}</th>" for header in headers)
    body = "".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def figure(picture: str, caption: str) -> str:
    """A picture, given as inline `<svg>` or as a data URI, with its caption."""
    inner = picture if picture.lstrip().startswith("<svg") else f'<img src="{escape(picture)}" alt="{escape(caption)}">'
    return f"<figure>{inner}<figcaption>{escape(caption)}</figcaption></figure>"


def folded(summary: str, body_html: str) -> str:
    """Details that stay folded until asked for."""
    return f"<details><summary>{escape(summary)}</summary>{body_html}</details>"


class Markup(str):
    """Text that is HTML already."""


def _cell(cell: object) -> str:
    return str(cell) if isinstance(cell, Markup) else escape(cell)
