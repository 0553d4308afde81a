"""Reports as one HTML file that needs nothing else: no script, no font, no picture from afar."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from repcollapse import __version__
from repcollapse.commandline.terminal import chapter_of

if TYPE_CHECKING:
    from repcollapse.diagnosis import Diagnosis

STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1c2126;--rule:#d8dde2;--soft:#f4f6f8}
@media (prefers-color-scheme:dark){:root{--paper:#14181c;--ink:#e4e8ec;--rule:#363d45;
--soft:#1c2227}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,sans-serif}
main{max-width:52rem;margin:0 auto;padding:1.5rem 1.25rem 3rem}
h1{font-size:1rem;font-weight:600;margin:0 0 1.2rem;overflow-wrap:anywhere}
h1 small{display:block;font-weight:400;opacity:.75}
h2{font-size:1.1rem;margin:2rem 0 .5rem}
details{border-top:1px solid var(--rule);padding:.6rem 0}
summary{cursor:pointer;font-weight:600;overflow-wrap:anywhere}
table.all{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
.all th,.all td{padding:.2rem .8rem .2rem 0;border-bottom:1px solid var(--rule);text-align:right;
white-space:nowrap}
.all .l,.all th:first-child,.all td:first-child{text-align:left}
.all td:first-child{font-family:ui-monospace,monospace;font-size:.85em;font-weight:400}
.wrap td:first-child{white-space:normal;overflow-wrap:anywhere;min-width:8rem}
.scroll{overflow-x:auto}
dl{margin:.5rem 0;display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem;
font-size:.9rem}
dt{opacity:.75}
dd{margin:0;overflow-wrap:anywhere;min-width:0}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(15rem,1fr));gap:1rem 1.5rem;
margin:1rem 0 1.5rem}
figure{margin:0}
figcaption{font-size:.9rem}
figure svg{display:block;width:100%;height:auto}
footer{margin-top:2.5rem;border-top:1px solid var(--rule);padding-top:.6rem;font-size:.85rem;
opacity:.75}
main .rc-diagnosis{max-width:none;font-size:1rem}
.rc-diagnosis h3 small{overflow-wrap:anywhere}
.rc-diagnosis td{white-space:nowrap}
@media (max-width:30rem){
main{padding:1rem .9rem 2rem}
main .rc-diagnosis table,table.all{font-size:.8rem}
main .rc-diagnosis :is(th,td),.all :is(th,td){padding-right:.45em}
.rc-diagnosis svg text{font-size:14px}
}
"""


def page(title: str, body: str) -> str:
    """Return a whole document; `body` is HTML, and `title` any text."""
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; "
        "style-src 'unsafe-inline'; img-src data:\">"
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><main>{body}<footer>repcollapse {html.escape(__version__)}</footer></main></body>"
        "</html>\n"
    )


def of_diagnosis(diagnosis: Diagnosis, read: dict[str, Any]) -> str:
    """Return the page of one diagnosis, with every number and what was read."""
    from repcollapse.diagnosis.report import HEADLINES

    name = title_of(read["files"])
    heading = f"<h1>{html.escape(name)}<small>Has it collapsed or converged?</small></h1>"
    return page(
        f"{HEADLINES[diagnosis.verdict]}: {name}",
        heading
        + diagnosis.to_html()
        + f"<details><summary>What each finding rests on</summary>{_evidence(diagnosis)}</details>"
        + f"<details><summary>Every number</summary>{_every_number(diagnosis)}</details>"
        + f"<details><summary>What was read</summary>{_read(read)}</details>",
    )


def title_of(files: Sequence[str]) -> str:
    """Return what several files are called together.

    Examples
    --------
    >>> title_of(["a.npy"]), title_of(["a.npy", "b.npy", "c.npy"])
    ('a.npy', 'a.npy and 2 more')
    """
    more = len(files) - 1
    return files[0] if not more else f"{files[0]} and {more} more"


def _evidence(diagnosis: Diagnosis) -> str:
    """Return what each finding rests on first."""
    from repcollapse.diagnosis.report import number

    lines = [
        (
            finding.kind,
            finding.measure,
            number(finding.value),
            "" if finding.reference is None else number(finding.reference),
            "" if finding.interval is None else " to ".join(map(number, finding.interval)),
            chapter_of(finding.page, finding.title),
        )
        for finding in diagnosis.findings
    ]
    return table(
        ("finding", "number", "reading", "reference", "95 % interval", "read on"), lines, left=2
    )


def table(heads: Sequence[str], lines: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Return a table of texts, of which the first columns are flush left."""

    def row(tag: str, texts: Sequence[str]) -> str:
        cells = (
            f"<{tag}{' class=l' if place < left else ''}>{html.escape(text)}</{tag[:2]}>"
            for place, text in enumerate(texts)
        )
        return f"<tr>{''.join(cells)}</tr>"

    head, body = row("th scope='col'", heads), "".join(row("td", line) for line in lines)
    return (
        "<div class='scroll' tabindex='0'><table class='all'>"
        f"<thead>{head}</thead><tbody>{body}</tbody></table></div>"
    )


def _every_number(diagnosis: Diagnosis) -> str:
    from repcollapse.diagnosis.report import number

    lines = []
    for name, value in diagnosis.metrics.items():
        null, interval = diagnosis.nulls.get(name), diagnosis.intervals.get(name)
        limits = "" if interval is None else f"{number(interval[0])} to {number(interval[1])}"
        lines.append((name, number(value), "" if null is None else number(null), limits))
    return (
        table(("name", "reading", "isotropic", "95 % interval"), lines)
        + "<p><code>repcollapse explain NAME</code> says what each is.</p>"
    )


def _read(read: dict[str, Any]) -> str:
    pairs = [("embeddings", ", ".join(read["files"]))]
    pairs += [("left out", each) for each in read.get("left_out", ())]
    for name in ("labels", "groups"):
        if name in read:
            pairs.append((name, f"{read[name]['file']}, {read[name]['different']:,} different"))
    if "labels" in read:
        largest = read["labels"]["largest"]
        shown = ", ".join(f"{name} ({count:,})" for name, count in largest.items())
        pairs.append(("largest classes", shown))
    if "views" in read:
        shape = " x ".join(f"{size:,}" for size in read["views"]["shape"])
        pairs.append(("views", f"{read['views']['file']}, {shape}"))
    items = "".join(
        f"<dt>{html.escape(key)}</dt><dd>{html.escape(value)}</dd>" for key, value in pairs
    )
    return f"<dl>{items}</dl>"
