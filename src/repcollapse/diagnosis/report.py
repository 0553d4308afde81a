"""A diagnosis as text, as HTML that needs nothing else, and as a figure."""

from __future__ import annotations

import html
import math
import textwrap
from typing import TYPE_CHECKING

from repcollapse.diagnosis.findings import Finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from repcollapse.diagnosis.diagnosis import Diagnosis

HEADLINES = {
    "not-enough-data": "Not enough data",
    "complete": "Complete collapse",
    "cluster": "Cluster collapse",
    "dimensional": "Dimensional collapse",
    "cone": "A cone, no collapse so far",
    "healthy": "Healthy",
}
MARKS = {"collapse": "✗", "warning": "!", "note": "·", "healthy": "✓"}
# The readings of a report, in its order. Everything else is in `metrics`.
READINGS = {
    "spread": "spread of directions",
    "mean_share": "mean share",
    "distance": "distance from the mean",
    "dimensions_99": "dimensions of 99 % of variance",
    "dimensions_999": "dimensions of 99.9 %",
    "participation_ratio": "participation ratio",
    "effective_rank": "effective rank",
    "rankme": "RankMe",
    "intrinsic_dimension": "intrinsic dimension",
    "uniformity": "uniformity",
    "points": "points that rows sit on",
    "direction_points": "directions that rows sit on",
    "intraclass_correlation": "intraclass correlation",
    "lidar": "LiDAR",
    "group_intraclass_correlation": "intraclass correlation, groups",
    "group_lidar": "LiDAR, groups",
    "within_share": "variance within classes",
    "nc1": "NC1",
    "nearest_mean_accuracy": "nearest class mean",
}
# Of a reading that has no unit, what is left of an exact 0 by rounding.
ROUNDING = 1e-12
WIDTH = 96
FLOOR = 1e-8  # of a share in a picture, and written below its axis
# Severities, readable on white and on black (contrast 3 or more with both).
COLOURS = {
    "collapse": "#D0501A",
    "warning": "#A67C00",
    "note": "#7A828C",
    "healthy": "#0B8A63",
}
STYLE = """
.rc-diagnosis{font:15px/1.5 system-ui,sans-serif;max-width:46em;color:inherit}
.rc-diagnosis h3{font-size:1.35em;font-weight:700;margin:.2em 0;display:flex;gap:.5em;
align-items:baseline;flex-wrap:wrap}
.rc-diagnosis h3 small{font-size:.65em;font-weight:400;opacity:.75}
.rc-diagnosis ul{list-style:none;padding:0;margin:.6em 0}
.rc-diagnosis li{border-left:4px solid;padding:.1em 0 .1em .8em;margin:.7em 0}
.rc-diagnosis li>*{color:inherit}
.rc-diagnosis p{margin:.1em 0}
.rc-diagnosis .rc-advice{opacity:.8}
.rc-diagnosis table{color:inherit;font-size:.95em}
.rc-diagnosis table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.6em 0}
.rc-diagnosis th,.rc-diagnosis td{padding:.15em .9em .15em 0;text-align:right;
border-bottom:1px solid rgba(128,128,128,.35);background:none;color:inherit}
.rc-diagnosis th:first-child,.rc-diagnosis td:first-child{text-align:left;font-weight:400}
.rc-diagnosis thead th{font-weight:600}
.rc-diagnosis svg{display:block;width:100%;max-width:34em;height:auto;color:inherit}
.rc-diagnosis .rc-scroll{overflow-x:auto}
"""


def text(diagnosis: Diagnosis) -> str:
    """Return the report as lines of at most 96 characters."""
    head = f"{HEADLINES[diagnosis.verdict]}: {size(diagnosis)}"
    lines = [head, "=" * len(head)]
    for finding in diagnosis.findings:
        mark = f"{MARKS[finding.severity]} {finding.kind}: "
        lines.append("")
        lines += wrapped(mark + finding.sentence, "  ")
        lines += wrapped(f"{finding.advice} See: {finding.title}.", "    ", first="  → ")
    lines += ["", f"{'':32}{'reading':>10}{'isotropic':>12}   95 % interval"]
    for name, label, reading, null, interval in readings(diagnosis):
        del name
        lines.append(f"{label:32}{reading:>10}{null:>12}   {interval}".rstrip())
    if note := sampled(diagnosis):
        lines += ["", *wrapped(note, "")]
    return "\n".join(lines)


def to_html(diagnosis: Diagnosis) -> str:
    """Return the report as a fragment of HTML, with its style and its picture inside."""
    colour = COLOURS[diagnosis.severity]
    rows = "".join(
        f"<tr><th scope='row'>{html.escape(label)}</th><td>{reading}</td><td>{null}</td>"
        f"<td>{interval}</td></tr>"
        for _, label, reading, null, interval in readings(diagnosis)
    )
    note = sampled(diagnosis)
    return (
        f"<div class='rc-diagnosis'><style>{STYLE}</style>"
        f"<h3><span style='color:{colour}'>"
        f"<span aria-hidden='true'>{MARKS[diagnosis.severity]}</span> "
        f"{html.escape(HEADLINES[diagnosis.verdict])}</span>"
        f"<small>{html.escape(size(diagnosis))}</small></h3>"
        f"<ul>{''.join(map(item, diagnosis.findings))}</ul>"
        f"{_svg(diagnosis)}"
        "<div class='rc-scroll'><table><thead><tr><td></td><th scope='col'>reading</th>"
        "<th scope='col'>isotropic</th><th scope='col'>95 % interval</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
        + (f"<p class='rc-advice'>{html.escape(note)}</p>" if note else "")
        + "</div>"
    )


def plot(diagnosis: Diagnosis) -> Figure:
    """Return a figure: the spectrum against isotropic data, and scale, location and shape."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    from repcollapse import figures

    with mpl.rc_context():
        figures.use_style()
        fig, (left, right) = plt.subplots(1, 2, width_ratios=(3, 2))
        own, null = figures.PALETTE["blue"], figures.LIGHT["ink"]
        index = range(1, len(diagnosis.spectrum) + 1)
        if any(diagnosis.spectrum):
            left.plot(index, [max(s, FLOOR) for s in diagnosis.null_spectrum], ":", color=null)
            left.plot(index, [max(s, FLOOR) for s in diagnosis.spectrum], color=own)
            left.set(yscale="log", ylim=(FLOOR, 1.5))
        left.set(xlabel="direction", ylabel="share of variance", title=HEADLINES[diagnosis.verdict])
        bars = _bars(diagnosis)
        for row, (_, value) in enumerate(bars):
            right.barh(row, 1, color="none", edgecolor=figures.LIGHT["rule"], height=0.5)
            right.barh(row, value, color=own, height=0.5)
        right.set_yticks(range(len(bars)), labels=[label for label, _ in bars])
        right.set(xlim=(0, 1), ylim=(max(len(bars), 1) - 0.5, -0.5), xlabel="of isotropic data")
        right.grid(axis="y", visible=False)
    return fig


def _bars(diagnosis: Diagnosis) -> list[tuple[str, float]]:
    """Return readings as shares of what isotropic data read."""
    found = []
    for name, label in (
        ("spread", "spread"),
        ("dimensions_999", "dimensions\n(99.9 %)"),
        ("dimensions_99", "dimensions\n(99 %)"),
        ("effective_rank", "effective\nrank"),
        ("uniformity", "uniformity"),
    ):
        null = diagnosis.nulls.get(name, 0.0)
        if null:
            found.append((label, min(max(diagnosis.metrics[name] / null, 0.0), 1.0)))
    return found


def wrapped(text: str, indent: str, *, first: str = "") -> list[str]:
    """Return text as lines of at most 96 characters, all but the first behind `indent`."""
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False
    )


def item(finding: Finding) -> str:
    """Return a finding as an item of a list in HTML, with its advice."""
    return (
        f"<li style='border-color:{COLOURS[finding.severity]}'>"
        f"<p><b>{html.escape(finding.kind)}</b> {html.escape(finding.sentence)}</p>"
        f"<p class='rc-advice'>{html.escape(finding.advice)} "
        f"<i>{html.escape(finding.title)}</i></p></li>"
    )


def _svg(diagnosis: Diagnosis) -> str:
    count = len(diagnosis.spectrum)
    if count < 2 or not any(diagnosis.spectrum):
        return ""
    wide, high, low = 480, 150, math.log10(FLOOR)
    # A picture of a thousand directions needs no more points than it has pixels.
    chosen = sorted({round(k * (count - 1) / 239) for k in range(240)} & set(range(count)))

    def path(shares: tuple[float, ...]) -> str:
        points = (
            f"{40 + (wide - 50) * k / (count - 1):.1f},"
            f"{10 + (high - 35) * math.log10(max(shares[k], FLOOR)) / low:.1f}"
            for k in chosen
        )
        return " ".join(points)

    verdict = html.escape(HEADLINES[diagnosis.verdict])
    return (
        f"<svg viewBox='0 0 {wide} {high}' role='img' aria-label='Spectrum. {verdict}. The dashed "
        "line is isotropic data of the same size.'>"
        f"<g fill='none' stroke='currentColor'><path d='M40 8V{high - 25}H{wide - 8}' "
        "stroke-opacity='.4'/>"
        f"<polyline points='{path(diagnosis.null_spectrum)}' stroke-dasharray='3 3' "
        "stroke-opacity='.7'/>"
        f"<polyline points='{path(diagnosis.spectrum)}' stroke='#3A86C8' stroke-width='2.2'/></g>"
        "<g fill='currentColor' font-size='11'>"
        f"<text x='36' y='14' text-anchor='end'>1</text>"
        f"<text x='36' y='{high - 25}' text-anchor='end'>10⁻⁸</text>"
        f"<text x='{wide - 8}' y='{high - 8}' text-anchor='end'>{count} directions</text>"
        f"<text x='40' y='{high - 8}'>share of variance, by direction; dashed: isotropic</text>"
        "</g></svg>"
    )


def readings(diagnosis: Diagnosis) -> list[tuple[str, str, str, str, str]]:
    """Return the readings of a report: name, label, reading, isotropic value, interval."""
    found = []
    for name, label in READINGS.items():
        if name not in diagnosis.metrics:
            continue
        null, interval = diagnosis.nulls.get(name), diagnosis.intervals.get(name)
        reading = _reading(name, diagnosis.metrics[name])
        if name == "points" and math.isnan(diagnosis.metrics["point_radius"]):
            reading = "none"  # each row is for itself: as many points as rows, by the number
        found.append(
            (
                name,
                label,
                reading,
                "" if null is None else number(null),
                "" if interval is None else " to ".join(_reading(name, end) for end in interval),
            )
        )
    return found


def _reading(name: str, value: float) -> str:
    if name != "distance" and abs(value) < ROUNDING:  # a distance has the unit of the embeddings
        value = 0.0
    return number(value)


def number(value: float) -> str:
    """Return a number with three digits that count.

    Examples
    --------
    >>> number(0.000123), number(12.345), number(50_000.0), number(float("nan"))
    ('0.000123', '12.3', '50,000', '–')
    """
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def size(diagnosis: Diagnosis) -> str:
    """Return how many rows of how many dimensions there were, in words."""
    rows = "1 row" if diagnosis.rows == 1 else f"{diagnosis.rows:,} rows"
    dimensions = (
        "1 dimension" if diagnosis.dimension == 1 else f"{diagnosis.dimension:,} dimensions"
    )
    return f"{rows} of {dimensions}"


def sampled(diagnosis: Diagnosis) -> str:
    """Return what was read from a sample of the rows, in words; nothing where all were."""
    if diagnosis.sampled == diagnosis.rows:
        return ""
    return (
        f"Pairs of rows were taken of {diagnosis.sampled:,} of the {diagnosis.rows:,} rows, drawn "
        "by their index: uniformity, intrinsic dimension, points, copies, outliers."
    )
