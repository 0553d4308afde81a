"""From numbers to findings: scale, location and shape together, each against isotropic data.

Every limit is here, with its reason. "Pilot" stands for embeddings of held-out digits from the
book's own objectives, healthy and with their remedy taken away, on seeds that judge nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from repcollapse.diagnosis.chance import fewest_dimensions, most_mean_share
from repcollapse.diagnosis.findings import (
    CLASSES,
    CLUSTER,
    COLLAPSES,
    COMPLETE,
    CONE,
    DEAD,
    DIMENSIONAL,
    DUPLICATES,
    HEALTHY,
    HEALTHY_BUT,
    LOST,
    NOISE,
    NOT_ENOUGH,
    OUTLIERS,
    SHORTCUT,
    SHRUNKEN,
    SILENT,
    VERDICTS,
    WARNING,
    ZEROS,
    Finding,
    found,
)
from repcollapse.diagnosis.readings import FEW, SHARES, Evidence

# Fewer rows say nothing about a cloud: sixteen draws from two clusters miss one of them once in
# thirty thousand times, and an interval needs some.
MIN_ROWS = 16
# Directions that differ by less are one direction: the mean cosine is above 0.9975, and bfloat16
# has a dozen steps left for all there is to say. Pilot: dead at most 0.025, untrained and living
# ones at least 0.26; between them a method that was on its way, 0.04.
DEAD_SPREAD = 0.05
# Of zero rows: dead units have answered for nearly every sample.
MOST_ZERO = 0.9
# With more zero rows than this beside one direction, the rows still say one thing: zero or not.
SOME_ZERO = 0.1
# Of D, the dimensions that hold all but a thousandth of the variance, and all but a hundredth. The
# first is strict about what is left outside, the second about how few they are: one direction with
# a trace of noise is as dead as three without. A power law of exponent 2 keeps 23 % of 2,048
# dimensions by the first and 2.9 % by the second, and more of fewer. Pilot, D = 64: collapsed at
# most 3.0 by the first or 1.1 by the second; healthy at least 28 and 3.0.
FLOORS = {"dimensions_999": 0.10, "dimensions_99": 0.03}
# Whatever D is, a line is a line, with a quarter of a dimension for what blurs it.
LINE = 1.25
# Of what isotropic data of the same size reads: with few rows every spectrum is short, and only one
# that is shorter still says something about the model.
OF_NULL = 0.5
# One dimension has no spectrum to lose.
FEWEST_DIMENSIONS = 2
# Rows that could show twice as many dimensions as make a collapse can tell it from health.
ROWS_A_FLOOR = 2.0
# Of points, as the inverse of the chance that two rows share one: less is one point and a few rows.
MORE_THAN_ONE = 1.05
# Half of the directions' energy in their mean. Rectified normal features read 0.32, CLIP's image
# and text embeddings 0.65 to 0.78.
CONE_SHARE = 0.5
# Between-sample share of the variance over views. Pilot: untrained 0.07, most collapsed ones below
# 0.15; trained by comparing views at least 0.36, and the layers before them at least 0.18.
NOISY = 0.15
# The same along one axis. Pilot: healthy at most 0.93, a code painted on both views at least 0.97.
EXACT = 0.97
# Of the variance within classes. Classifiers of even and odd digits: 0.01 where the ten digits are
# lost, 0.6 where they are not.
ONE_POINT_A_CLASS = 0.05
# Of the variance, in one feature: on another scale than the others together.
ONE_FEATURE = 0.9
# An accuracy of fewer rows is too uncertain to be called chance.
ROWS_FOR_ACCURACY = 100
# Root mean square distance from the mean. Unit rows read up to 1. Pilot: living at least 1, shrunk
# by a squared error 0.05.
SHORT = 0.1
# Of the directions that rows could show, those along which nothing varies at all. A projector onto
# fewer dimensions and a rectifier's dead units take some; most of them is news.
MANY_SILENT = 0.5
# Of an intrinsic dimension: what zero rows may change before it is said.
HUB = 0.1
# Of the rows that were looked at: one pair of copies in some hundred rows is no news.
MANY_COPIES = 0.01
# Of them, in one place: the verdict is then about the lesser part of the rows.
MOST_COPIES = 0.5


def decide(evidence: Evidence) -> list[Finding]:
    """Return everything that the evidence shows; the kind of the first is the verdict."""
    findings = list(_collapses(evidence))
    collapsed = any(each.kind in COLLAPSES for each in findings)
    short = _too_few(evidence, collapsed=collapsed)
    if short is not None:
        findings.append(short)
    findings += _cone(evidence)
    if not findings:
        findings.append(_healthy(evidence))
    findings.sort(key=lambda each: VERDICTS.index(each.kind))
    dead = any(each.kind == COMPLETE for each in findings)
    healthy = findings[0].kind == HEALTHY
    findings += _of_classes(evidence)
    findings += _of_views(evidence, "", dead=dead)
    findings += _of_views(evidence, "group_", dead=dead)
    findings += _notes(evidence, dead=dead, collapsed=collapsed)
    if healthy and len(findings) > 1:
        findings[0] = replace(findings[0], advice=HEALTHY_BUT)
    return findings


def floor_of(evidence: Evidence, name: str) -> float:
    """Return the number of dimensions at or below which a reading of `name` is a collapse."""
    return _floor(evidence, name, evidence.nulls[name])


def _floor(evidence: Evidence, name: str, null: float) -> float:
    most = max(FLOORS[name] * evidence.dimension, LINE)
    return min(most, max(OF_NULL * _reach(evidence, null), 1.0))


def _reach(evidence: Evidence, null: float) -> float:
    """Return how many dimensions the rows could show; near copies of a row show no more than it."""
    return min(null, max(evidence.metrics["distinct"] - 1, 1.0))


def _collapses(evidence: Evidence) -> Iterator[Finding]:
    rows, metrics = evidence.rows, evidence.metrics
    if rows < 2:
        return
    spread = min(metrics["spread"], metrics.get("core_spread", 1.0))
    zeros = metrics["zero_rows"]
    if zeros >= MOST_ZERO * rows:
        yield found(
            evidence,
            COMPLETE,
            f"{_of(zeros, rows)} rows are zero: they have no direction and tell nothing apart.",
            "zero_rows",
            reference=0.0,
        )
    elif metrics["distance"] == 0:
        yield found(
            evidence,
            COMPLETE,
            f"All {rows:,} rows are the same row: nothing tells one sample from another.",
            "spread",
        )
    elif spread < DEAD_SPREAD and zeros <= SOME_ZERO * rows and not _by_chance(evidence, spread):
        but = ""
        if spread < metrics["spread"]:
            but = f", {_percent(metrics['outliers'])} of rows far from the others left out"
        yield found(
            evidence,
            COMPLETE,
            f"The embeddings are one direction: their spread is {spread:.2g}{but}, where isotropic "
            f"ones read {evidence.nulls['spread']:.2f}. What still differs is residue.",
            "spread",
            value=spread,
            interval_of="core_spread" if spread < metrics["spread"] else "spread",
        )
    elif metrics["distance"] < SHORT and _agreement(evidence) < NOISY:
        yield found(
            evidence,
            COMPLETE,
            f"The embeddings have shrunk to a point: they lie {metrics['distance']:.2g} from their "
            f"mean, and of what is left {_percent(_agreement(evidence))} tells samples apart, the "
            "rest follows the view. A squared error that nothing holds up does this, and keeps "
            "the shape; so looks a network that was never trained.",
            "distance",
            reference=SHORT,
        )
    yield from _clustered(evidence, "point", "rows")
    if metrics["dimensions_99"] >= LINE:  # the directions of a line through the origin are two
        yield from _clustered(evidence, "direction", "directions")
    yield from _dimensional(evidence)


def _agreement(evidence: Evidence) -> float:
    """Return the share of the variance that lies between samples, 1 where no views say so."""
    names = ("intraclass_correlation", "group_intraclass_correlation")
    return min((evidence.metrics[name] for name in names if name in evidence.metrics), default=1.0)


def _by_chance(evidence: Evidence, spread: float) -> bool:
    """Return whether isotropic directions, as few, could have so little a spread."""
    return 1 - spread**2 <= most_mean_share(evidence.rows, evidence.dimension)


def _clustered(evidence: Evidence, kind: str, what: str) -> Iterator[Finding]:
    metrics, name = evidence.metrics, "points" if kind == "point" else f"{kind}_points"
    if math.isnan(metrics.get(f"{kind}_radius", math.nan)) or metrics[name] < MORE_THAN_ONE:
        return
    yield found(
        evidence,
        CLUSTER,
        f"The {what} sit on about {metrics[name]:.3g} points: "
        f"{_percent(metrics[f'{kind}_company'])} of them have another within "
        f"{_percent(metrics[f'{kind}_radius'])} of the distance between two, and between the "
        "points there is nothing.",
        name,
        reference=float(evidence.rows),
    )


def _dimensional(evidence: Evidence) -> Iterator[Finding]:
    metrics, dimension = evidence.metrics, evidence.dimension
    if dimension < FEWEST_DIMENSIONS or metrics["distance"] == 0:
        return
    for name, share in (("dimensions_999", "99.9 %"), ("dimensions_99", "99 %")):
        value, floor = metrics[name], floor_of(evidence, name)
        if value > floor or _as_few(evidence, name, value):
            continue
        # Where a few long rows hold the variance, and not the model: what are the others like?
        core, core_null = metrics.get(f"core_{name}", 0.0), metrics.get(f"core_null_{name}", 0.0)
        if core > _floor(evidence, name, core_null):
            continue
        yield found(
            evidence,
            DIMENSIONAL,
            f"{share} of the variance lies in {_dimensions(value)} of {dimension}; isotropic rows, "
            f"as many, would need {evidence.nulls[name]:.1f}, and {floor:.1f} or fewer are called "
            f"a collapse.{_one_feature(metrics)}",
            name,
        )
        return


def _one_feature(metrics: dict[str, float]) -> str:
    """Say which feature holds the variance, where one does and others have some, too."""
    share = metrics["largest_feature_share"]
    if share < ONE_FEATURE or metrics["dead_dimensions"] >= metrics["dimension"] - 1:
        return ""
    held = _percent(share) if share < 0.999 else "more than 99.9 %"
    return (
        f" Feature {metrics['largest_feature']:.0f}, counted from 0, alone holds {held}: if it is "
        "an identifier, or on a scale of its own, leave it out and look at the others."
    )


def _as_few(evidence: Evidence, name: str, value: float) -> bool:
    """Return whether isotropic rows, where there are few, could show as few dimensions."""
    if evidence.rows >= MIN_ROWS:  # a collapse is half of what they read, or less
        return False
    least = fewest_dimensions(evidence.rows, evidence.dimension, SHARES[name])
    return value >= least * (1 - 1e-9)  # all of two rows read the same, but for rounding


def _too_few(evidence: Evidence, *, collapsed: bool) -> Finding | None:
    rows, dimension = evidence.rows, evidence.dimension
    if rows < MIN_ROWS:
        return found(
            evidence,
            NOT_ENOUGH,
            f"{rows} {'row is' if rows == 1 else 'rows are'} too few to say anything: "
            f"{MIN_ROWS} are the least.",
            "rows",
            reference=float(MIN_ROWS),
        )
    floor = FLOORS["dimensions_999"] * dimension
    if not collapsed and rows < ROWS_A_FLOOR * floor:
        return found(
            evidence,
            NOT_ENOUGH,
            f"{rows} rows show at most {rows - 1} of {dimension} dimensions. A collapse to "
            f"{_dimensions(floor)} would look much like what they show: "
            f"{math.ceil(ROWS_A_FLOOR * floor)} rows or more could tell.",
            "rows",
            reference=float(math.ceil(ROWS_A_FLOOR * floor)),
        )
    return None


def _cone(evidence: Evidence) -> Iterator[Finding]:
    metrics = evidence.metrics
    if evidence.rows < 2:
        return
    dead = min(metrics["spread"], metrics.get("core_spread", 1.0)) < DEAD_SPREAD
    if (
        metrics["mean_share"] >= CONE_SHARE
        and not dead
        and not _by_chance(evidence, metrics["spread"])
    ):
        takes = (
            f"about the mean, 99 % of the variance takes {_dimensions(metrics['dimensions_99'])} "
            f"of {evidence.dimension}"
        )
        if _agreement(evidence) < NOISY:
            takes += ", but most of that follows the view and not the sample"
        yield found(
            evidence,
            CONE,
            "The embeddings point into a cone: their mean holds "
            f"{_percent(metrics['mean_share'])} of their energy, and cosines of different samples "
            f"are high with it. They still differ: {takes}.",
            "mean_share",
        )


def _healthy(evidence: Evidence) -> Finding:
    metrics, name = evidence.metrics, "dimensions_999"
    spread, value, null = metrics["spread"], metrics[name], evidence.nulls[name]
    without = ""
    far = 0 < metrics["outliers"] <= FEW or value <= floor_of(evidence, name)
    if far and f"core_{name}" in metrics:
        spread, value = metrics["core_spread"], metrics[f"core_{name}"]
        null, without = metrics[f"core_null_{name}"], ", a few far rows left out"
    points = "the rows do not sit on points"
    if metrics["heaviest_place"] > MOST_COPIES:
        points = f"but for {_percent(metrics['heaviest_place'])} in one place, {points}"
    elif metrics["duplicates"] >= MANY_COPIES:
        points = f"copies apart, {points}"
    return found(
        evidence,
        HEALTHY,
        f"No collapse: directions have a spread of {spread:.2f}, 99.9 % of the variance takes "
        f"{_dimensions(value)} of {evidence.dimension} (isotropic rows, as many: {null:.1f})"
        f"{without}, and {points}.",
        f"core_{name}" if without else name,
        reference=null,
    )


def _of_classes(evidence: Evidence) -> Iterator[Finding]:
    metrics = evidence.metrics
    classes = metrics.get("classes", 0)
    if classes < 2 or "within_share" not in metrics:
        return
    if metrics["within_share"] <= ONE_POINT_A_CLASS:
        yield found(
            evidence,
            CLASSES,
            f"Each of {classes:.0f} classes is nearly a point: {_percent(metrics['within_share'])} "
            f"of the variance lies within classes (NC1 = {metrics['nc1']:.2g}). Whatever tells "
            "samples of one class apart is gone.",
            "within_share",
        )
    low = evidence.intervals.get("nearest_mean_accuracy", (math.nan, math.nan))[0]
    if evidence.sampled >= ROWS_FOR_ACCURACY and low <= metrics["chance"]:
        yield found(
            evidence,
            LOST,
            f"The classes cannot be told apart: the nearest class mean is right for "
            f"{_percent(metrics['nearest_mean_accuracy'])} of rows, and guessing the largest of "
            f"{classes:.0f} classes for {_percent(metrics['chance'])}.",
            "nearest_mean_accuracy",
            reference=metrics["chance"],
        )


def _of_views(evidence: Evidence, prefix: str, *, dead: bool) -> Iterator[Finding]:
    metrics = evidence.metrics
    name, best = f"{prefix}intraclass_correlation", f"{prefix}best_intraclass_correlation"
    if name not in metrics:
        return
    if metrics[name] < NOISY:
        yield found(
            evidence,
            NOISE,
            f"Views of one sample differ nearly as much as samples do: {_percent(metrics[name])} "
            "of the variance lies between samples. The embeddings follow the view, or noise.",
            name,
            reference=1.0,
        )
    elif metrics[best] > EXACT and not dead:
        said = (
            f"Along one axis only {_little(1 - metrics[best])} of the variance follows the view, "
            f"where over all axes {_little(1 - metrics[name])} does. Content changes from view to "
            "view; something that augmentation leaves as it is, a mark, a border, a frame, does "
            "not."
        )
        if metrics[name] > EXACT:  # along every axis that matters
            said = (
                f"Views of a sample hardly differ: {_little(1 - metrics[name])} of the variance "
                "follows the view. Either they were hardly augmented, or nothing is left but what "
                "augmentation leaves as it is, a mark, a border, a frame."
            )
        yield found(evidence, SHORTCUT, said, best, reference=EXACT)


def _notes(evidence: Evidence, *, dead: bool, collapsed: bool) -> Iterator[Finding]:
    metrics, rows = evidence.metrics, evidence.rows
    if rows < 2:
        return
    if 0 < metrics["distance"] < SHORT and not dead:
        yield found(
            evidence,
            SHRUNKEN,
            f"The embeddings are short: {metrics['distance']:.2g} from their mean. If the "
            "objective compares them as they are, as a squared error does, this is how it shrinks "
            "them to a point, and no measure of direction or shape sees it. If it compares "
            "directions, it means nothing.",
            "distance",
            reference=SHORT,
        )
    zeros = metrics["zero_rows"]
    if zeros:
        yield found(
            evidence,
            ZEROS,
            f"{_of(zeros, rows)} rows are zero. They were left out of whatever needs a direction; "
            f"for distances they are a point like any other{_hub(metrics)}.",
            "zero_rows",
            reference=0.0,
        )
    yield from _silent(evidence, collapsed=collapsed)
    yield from _copies(evidence, dead=dead, collapsed=collapsed)
    if 0 < metrics["outliers"] <= FEW and not dead:
        yield found(
            evidence,
            OUTLIERS,
            f"{_percent(metrics['outliers'])} of the {evidence.sampled} rows looked at lie more "
            "than ten times as far out as the median. They weigh on every rank; the verdict was "
            "checked without them.",
            "outliers",
            reference=0.0,
        )


def _copies(evidence: Evidence, *, dead: bool, collapsed: bool) -> Iterator[Finding]:
    """Say how many rows repeat others; a warning where most are in one place, and no collapse."""
    place, copies = evidence.metrics["heaviest_place"], evidence.metrics["duplicates"]
    if place > MOST_COPIES and not collapsed:
        finding = found(
            evidence,
            DUPLICATES,
            f"{_percent(place)} of the {evidence.sampled:,} rows looked at lie in one place, "
            "within a twentieth of the distance between two. Readings are of all rows: look at "
            "which samples these are, and at the others by themselves.",
            "heaviest_place",
        )
        yield replace(finding, severity=WARNING)
    elif copies >= MANY_COPIES and not dead:
        yield found(
            evidence,
            DUPLICATES,
            f"{_percent(copies)} of the {evidence.sampled:,} rows looked at have a copy among "
            "them, the first of each counted too. Nearest neighbours were taken of distinct rows.",
            "duplicates",
            reference=0.0,
        )


def _hub(metrics: dict[str, float]) -> str:
    """Say what the origin does to the intrinsic dimension, where it does much."""
    both, without = (
        metrics.get(name, math.nan)
        for name in ("intrinsic_dimension", "intrinsic_dimension_nonzero")
    )
    if not abs(both - without) > HUB * without:  # nor where one is no number
        return ""
    return (
        f", near to many: the intrinsic dimension is {both:.3g} with them, and {without:.3g} "
        "without"
    )


def _silent(evidence: Evidence, *, collapsed: bool) -> Iterator[Finding]:
    """Say once what never varies: most directions, or else the features that do not."""
    metrics, rows, dimension = evidence.metrics, evidence.rows, evidence.dimension
    features, shown = metrics["dead_dimensions"], min(rows - 1, dimension)
    silent = shown - metrics["rank"]
    beyond = min(rows - 1, dimension - features) > metrics["rank"]  # not along the axes alone
    if silent > MANY_SILENT * shown and beyond and not collapsed:
        of = f"{dimension:,} directions"
        if shown < dimension:
            of = f"the {shown:,} directions that so few rows can show, of {dimension:,},"
        among = f" ({features:,.0f} features never change)" if features else ""
        finding = found(
            evidence,
            DEAD,
            f"{silent:,.0f} of {of} carry no variance at all{among}: the rows lie in "
            f"{metrics['rank']:,.0f} dimensions.",
            "rank",
        )
        yield replace(finding, advice=SILENT)
    elif 0 < features < dimension:
        yield found(
            evidence,
            DEAD,
            f"{_of(features, dimension)} features never change.",
            "dead_dimensions",
            reference=0.0,
        )


def _of(count: float, total: int) -> str:
    return f"{count:,.0f} of {total:,}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _little(share: float) -> str:
    return "less than 0.01 %" if share < 1e-4 else _percent(share)


def _dimensions(value: float) -> str:
    if value < LINE:
        return "one dimension"
    return f"{value:.1f} dimensions"
