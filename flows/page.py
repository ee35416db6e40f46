"""One self-contained HTML page: verdict first, then what carried it; opens from disk, light or dark, narrow or wide."""

from __future__ import annotations

import html
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Okabe-Ito: eight colours that stay apart for colour-blind readers.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6D00", "#666666")

_STYLE = """
:root{--ink:#1b1f24;--dim:#5b6570;--paper:#fff;--line:#d9dee4;--soft:#f4f6f8;--good:#006d4f;--bad:#b3400a;--open:#7a5a00;--link:#00588c;--tint:#0072B2}
@media(prefers-color-scheme:dark){:root{--ink:#e8ebee;--dim:#a3adb8;--paper:#14181c;--line:#333b44;--soft:#1d2329;--good:#4cc9a0;--bad:#ff9a66;--open:#e6b93c;--link:#7cc4f2;--tint:#56B4E9}}
*{box-sizing:border-box}
html{color-scheme:light dark;-webkit-text-size-adjust:100%}
body{margin:0 auto;max-width:72rem;padding:1.2rem;font:16px/1.5 system-ui,sans-serif;overflow-wrap:break-word}
body{color:var(--ink);background:var(--paper)}
h1{font-size:1.5rem;line-height:1.25;margin:.2rem 0 1rem}
h2{font-size:1.2rem;margin:2.2rem 0 .6rem;padding-top:.6rem;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:1.6rem 0 .4rem}
a{color:var(--link)}
:focus-visible{outline:3px solid var(--link);outline-offset:2px}
.verdict{border-left:.4rem solid var(--open);background:var(--soft);padding:.8rem 1rem;font-size:1.1rem;margin:0 0 1rem}
.verdict.good{border-color:var(--good)}.verdict.bad{border-color:var(--bad)}
.verdict b{display:block;font-size:.85rem;letter-spacing:.04em;color:var(--open)}
.verdict.good b{color:var(--good)}.verdict.bad b{color:var(--bad)}
.note{color:var(--dim);font-size:.9rem;max-width:46rem}
.good{color:var(--good)}.bad{color:var(--bad)}.open{color:var(--open)}
p.verdict{color:var(--ink)}
.state{font-weight:600;white-space:nowrap}
.scroll{overflow-x:auto;background:/* a shade at the side where there is more to scroll to */
linear-gradient(90deg,var(--paper) 40%,transparent) left/2.5rem 100% no-repeat local,
linear-gradient(-90deg,var(--paper) 40%,transparent) right/2.5rem 100% no-repeat local,
linear-gradient(90deg,var(--line),transparent) left/.8rem 100% no-repeat scroll,
linear-gradient(-90deg,var(--line),transparent) right/.8rem 100% no-repeat scroll}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.35rem .7rem .35rem 0;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600;color:var(--dim);font-size:.85rem}
.scroll td,.scroll th{overflow-wrap:normal}
.matrix{width:auto}.matrix td,.matrix th{text-align:right;padding:.25rem .6rem}
.matrix th:first-child,.matrix td:first-child{text-align:left;padding-left:0}
.heat{background:color-mix(in srgb,var(--tint) calc(var(--share)*55%),transparent)}
.told td:first-child{min-width:11rem}
code{font-size:.92em;overflow-wrap:anywhere}
figure{margin:1rem 0}figure img,figure svg{max-width:100%;height:auto;display:block}
figcaption{color:var(--dim);font-size:.9rem;margin-top:.3rem}
svg text{fill:var(--ink)}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,20rem),1fr));gap:1rem 1.6rem}
.grid{align-items:start}.grid>*{margin:0;min-width:0}.grid svg{width:100%}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,15rem),1fr));gap:1rem;margin:.8rem 0}
.gallery>figure{margin:0;min-width:0}.gallery img{width:100%;background:#14181c}
.gallery figcaption{font-size:.84rem;line-height:1.4}
.gallery>.pair{grid-column:span 2}.pair>div{display:grid;grid-template-columns:1fr 1fr;gap:4px;align-items:start}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,9.5rem),1fr));gap:.7rem;margin:0 0 1rem}
.tiles>div{background:var(--soft);padding:.6rem .8rem;min-width:0}
.tiles dt{color:var(--dim);font-size:.85rem}
.tiles dd{margin:0;font-size:1.35rem;line-height:1.3;font-weight:600;font-variant-numeric:tabular-nums}
.tiles dd+dd{font-size:.82rem;font-weight:400;color:var(--dim);overflow-wrap:anywhere}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1rem;margin:.2rem 0;padding:0;list-style:none;font-size:.9rem}
.legend span{display:inline-block;width:.9em;height:.9em;margin-right:.35em;vertical-align:-.08em}
details{margin:.6rem 0}summary{cursor:pointer;padding:.2rem 0}
nav a{margin-right:1rem;display:inline-block;padding:.15rem 0}
nav{margin:0 0 1rem}
footer{margin-top:2.5rem;color:var(--dim);font-size:.85rem}
@media(max-width:40rem){body{padding:.8rem}.scroll svg{max-width:none}.gallery>.pair{grid-column:auto}}
@media(max-width:40rem){th,td{padding-right:.55rem}.scroll{font-size:.92rem}}
@media print{body{max-width:none;padding:0;font-size:10pt}nav{display:none}figure,tr,.tiles>div{break-inside:avoid}}
@media print{h2,h3{break-after:avoid}.scroll{overflow:visible}.gallery{grid-template-columns:repeat(4,1fr)}}
@media print{details::details-content{content-visibility:visible;display:block}*{print-color-adjust:exact}}
"""

_VERDICTS = {True: ("good", "PASSED"), False: ("bad", "REFUSED"), None: ("", "FOR INFORMATION")}


def escape(value: object) -> str:
    """HTML-escape the text of `value`."""
    return html.escape(str(value), quote=True)


def page(title: str, verdict: str, ok: bool | None, body_html: str, word: str = "") -> str:
    """The whole document; `ok` is True (passed), False (refused) or None (neither); `word` is said instead of these."""
    css_class, usual = _VERDICTS[ok]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>\n"
        f"<h1>{escape(title)}</h1>\n"
        f'<p class="verdict {css_class}"><b>{escape(word or usual)}</b>{escape(verdict)}</p>\n'
        f"{body_html}\n</body></html>\n"
    )


def write_page(path: Path, text: str) -> None:
    """Write a page, or what goes with it, whole or not at all, also where several processes write it at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".draft", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(number, "w", encoding="utf-8", errors="replace") as stream:
            stream.write(text)
        draft.chmod(0o644)  # as made, it is for its owner alone
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], css_class: str = "") -> str:
    """A table of escaped cells. A cell that is a `Markup` goes in as it is. Class "told" keeps room for a first column
    of sentences in a narrow window.
    """
    head = "".join(f'<th scope="col">{escape(header)}</th>' for header in headers)
    body = "".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    opening = f'<table class="{escape(css_class)}">' if css_class else "<table>"
    return f'<div class="scroll">{opening}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def matrix(headers: Sequence[str], rows: Mapping[str, Sequence[int]]) -> str:
    """A table of counts by row and column; the larger a count, the stronger its ground."""
    most = max((number for numbers in rows.values() for number in numbers), default=0) or 1
    head = "".join(f'<th scope="col">{escape(header)}</th>' for header in headers)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f'<td class="heat" style="--share:{number / most:.2f}">{number:,}</td>' for number in numbers)
        + "</tr>"
        for name, numbers in rows.items()
    )
    return (
        f'<div class="scroll"><table class="matrix"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def figure(picture: str, caption: str, colours: Mapping[str, str] | None = None) -> str:
    """A picture, given as inline `<svg>` or as a data URI, with its caption and what its colours stand for.

    Wide drawings scroll in narrow windows.
    """
    if picture.lstrip().startswith("<svg"):
        inner = f'<div class="scroll">{picture}</div>'
    else:
        inner = f'<img src="{escape(picture)}" alt="{escape(caption)}">'
    return f"<figure>{inner}<figcaption>{escape(caption)}{legend(colours) if colours else ''}</figcaption></figure>"


def folded(summary: str, body_html: str) -> str:
    """Details that stay folded until asked for."""
    return f"<details><summary>{escape(summary)}</summary>{body_html}</details>"


def section(anchor: str, heading: str, body_html: str) -> str:
    """A part of the page that `contents` can lead to."""
    return f'<section id="{escape(anchor)}"><h2>{escape(heading)}</h2>\n{body_html}</section>'


def contents(sections: Iterable[tuple[str, str]]) -> str:
    """Links to sections, given as anchor and heading."""
    links = "".join(f'<a href="#{escape(anchor)}">{escape(heading)}</a>' for anchor, heading in sections)
    return f'<nav aria-label="Contents">{links}</nav>'


def tiles(figures: Iterable[tuple[str, str, str]]) -> str:
    """Key figures side by side, each a name, a value and a remark (which may be empty)."""
    shown = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd>{f'<dd>{escape(remark)}</dd>' if remark else ''}</div>"
        for name, value, remark in figures
    )
    return f'<dl class="tiles">{shown}</dl>'


def grid(figures: Iterable[str]) -> str:
    """Figures beside each other where the window is wide enough, else below each other."""
    return f'<div class="grid">{"".join(figures)}</div>'


def gallery(pictures: Iterable[Picture]) -> str:
    """Small pictures with their captions, as many in a row as fit; the two of a pair stay side by side."""
    return f'<div class="gallery">{"".join(map(_framed, pictures))}</div>'


def legend(colours: Mapping[str, str]) -> str:
    """What each colour stands for."""
    items = "".join(
        f'<li><span style="background:{colour}"></span>{escape(name)}</li>' for name, colour in colours.items()
    )
    return f'<ul class="legend">{items}</ul>'


class Markup(str):
    """Text that is HTML already."""


@dataclass(frozen=True)
class Picture:
    """One picture of a gallery, or two to compare: data URIs, what they show in words, and the caption below."""

    data_uris: tuple[str, ...]
    alt: str
    caption: str | Markup


def _framed(picture: Picture) -> str:
    images = "".join(
        f'<img src="{escape(uri)}" alt="{escape(picture.alt if not index else f"{picture.alt} (for comparison)")}">'
        for index, uri in enumerate(picture.data_uris)
    )
    if len(picture.data_uris) > 1:
        return f'<figure class="pair"><div>{images}</div><figcaption>{_cell(picture.caption)}</figcaption></figure>'
    return f"<figure>{images}<figcaption>{_cell(picture.caption)}</figcaption></figure>"


def _cell(cell: object) -> str:
    return str(cell) if isinstance(cell, Markup) else escape(cell)
