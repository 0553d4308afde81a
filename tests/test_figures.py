"""Figures: two themes of one picture, words for those who do not see it, the same bytes again."""

from __future__ import annotations

import base64
import html.parser
import io
import json
import re

import IPython.display
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.colors import to_rgb

from repcollapse import figures
from repcollapse.figures import CELL_MIME, DARK, LIGHT, METHODS, MIME, PALETTE

WORDS = {"name": "complete-loss", "alt": "A line that falls to 0.", "caption": "Loss, *falling*."}


@pytest.fixture(autouse=True)
def _style():
    with mpl.rc_context():
        figures.use_style()
        yield
    plt.close("all")


@pytest.fixture
def shown(monkeypatch):
    calls = []

    def display(bundle, raw=False, **_):
        assert raw
        calls.append(json.loads(json.dumps(bundle)))

    monkeypatch.setattr(IPython.display, "display", display)
    return calls


def drawing(height=0.5):
    fig, ax = plt.subplots(figsize=(4, 2))
    ax.bar([0], [height], color=PALETTE["vermilion"])
    ax.axhline(0.8, color=LIGHT["ink"])
    ax.set(xlabel="training step", ylabel="loss", title="A title", ylim=(0, 1))
    return fig


def pixels(png):
    rgb = plt.imread(io.BytesIO(base64.b64decode(png)), format="png")[..., :3]
    return np.round(rgb * 255).astype(int)


def colour_counts(png, colour):
    return int((pixels(png) == np.round(np.array(to_rgb(colour)) * 255)).all(axis=-1).sum())


def is_colour(pixel, colour):
    return (pixel == np.round(np.array(to_rgb(colour)) * 255)).all()


# --- one figure


def test_show_emits_the_bundle(shown):
    figures.show(drawing(), **WORDS)
    (bundle,) = shown
    assert set(bundle) == {"image/png", "text/plain", MIME}
    assert bundle["text/plain"] == WORDS["alt"]
    record = bundle[MIME]
    assert {key: record[key] for key in WORDS} == WORDS
    assert record["width"] == 400
    ((frame),) = record["frames"]
    assert set(frame) == {"label", "light", "dark"} and frame["label"] == ""
    assert bundle["image/png"] == frame["light"] != frame["dark"]
    for theme in ("light", "dark"):
        assert base64.b64decode(frame[theme]).startswith(b"\x89PNG\r\n")
        assert pixels(frame[theme]).shape == (2 * figures.DPI, 4 * figures.DPI, 3)


def frame_of(shown, fig):
    figures.show(fig, **WORDS)
    return shown[-1][MIME]["frames"][0]


def test_paper_is_that_of_the_theme_inside_and_outside_the_axes(shown):
    frame = frame_of(shown, drawing())
    for theme, colours in (("light", LIGHT), ("dark", DARK)):
        image = pixels(frame[theme])
        assert is_colour(image[1, 1], colours["paper"])
        assert is_colour(image[-2, -2], colours["paper"])
        # Most of the picture, the axes included, is paper.
        assert colour_counts(frame[theme], colours["paper"]) > 0.4 * image[..., 0].size
        other = DARK if theme == "light" else LIGHT
        assert colour_counts(frame[theme], other["paper"]) == 0


def test_ink_changes_and_data_keep_their_colour(shown):
    frame = frame_of(shown, drawing())
    bar = colour_counts(frame["light"], PALETTE["vermilion"])
    assert bar > 1000
    assert colour_counts(frame["dark"], PALETTE["vermilion"]) == pytest.approx(bar, rel=0.02)
    ink = colour_counts(frame["light"], LIGHT["ink"])
    assert ink > 500
    assert colour_counts(frame["dark"], DARK["ink"]) == pytest.approx(ink, rel=0.05)
    assert colour_counts(frame["dark"], LIGHT["ink"]) == 0
    assert colour_counts(frame["light"], DARK["ink"]) == 0


def test_nothing_dark_is_left_on_dark(shown):
    """Text, ticks, spines, grid, legends, annotations, collections: all of them follow."""
    fig, ax = plt.subplots(figsize=(4, 3))
    ax.plot([0, 1e6], [0, 1e6], color=PALETTE["blue"], label="line")
    ax.plot([0, 1e6], [1e6, 0], color=LIGHT["ink"], linestyle=":", marker="o", label="ink")
    ax.scatter([2e5, 3e5], [2e5, 2e5], color=LIGHT["ink"])
    ax.annotate(
        "here", (5e5, 5e5), (2e5, 8e5), arrowprops={"arrowstyle": "->", "color": LIGHT["ink"]}
    )
    ax.fill_between([0, 1e6], 0, 1e5, color=LIGHT["ink"], alpha=0.5)
    ax.hlines([3e5], 0, 1e6, color=LIGHT["ink"])
    ax.text(7e5, 2e5, "boxed", bbox={"facecolor": LIGHT["paper"], "edgecolor": LIGHT["ink"]})
    ax.legend(title="legend")
    fig.suptitle("title")
    frame = frame_of(shown, fig)
    dark = pixels(frame["dark"])
    paper = np.round(np.array(to_rgb(DARK["paper"])) * 255)
    # Darker than the dark paper, or as bright as white paper: a colour that was left behind.
    assert not (dark.sum(axis=-1) < paper.sum() - 6).any()
    assert not (dark.min(axis=-1) > 240).any()
    assert colour_counts(frame["dark"], LIGHT["ink"]) == 0


def test_figures_are_closed(shown):
    fig = drawing()
    assert plt.fignum_exists(fig.number)
    figures.show(fig, **WORDS)
    pages = [drawing(), drawing(0.6)]
    figures.flipbook(pages, labels=["a", "b"], **WORDS)
    assert plt.get_fignums() == []


def test_the_same_figure_is_the_same_bytes(shown):
    assert frame_of(shown, drawing()) == frame_of(shown, drawing())
    assert frame_of(shown, drawing(0.3)) != frame_of(shown, drawing(0.6))


# --- several frames


class Images(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.images, self.inputs, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag == "img":
            self.images.append(attributes)
        if tag == "input":
            self.inputs.append(attributes)
        self.links += [v for k, v in attrs if k in ("src", "href") and not v.startswith("data:")]


def test_flipbook(shown):
    labels = ["step 0", "step 40", "<b> & step 400"]
    words = WORDS | {"alt": 'A "quoted" <thing>.'}
    figures.flipbook([drawing(h) for h in (0.2, 0.5, 0.9)], labels=labels, **words)
    (bundle,) = shown
    assert set(bundle) == {"text/html", "text/plain", MIME}
    frames = bundle[MIME]["frames"]
    assert [frame["label"] for frame in frames] == labels
    assert len({frame["light"] for frame in frames} | {frame["dark"] for frame in frames}) == 6
    page = Images()
    page.feed(bundle["text/html"])
    assert [image["alt"] for image in page.images] == [
        f"{words['alt']} ({label})" for label in labels
    ]
    for image, frame in zip(page.images, frames, strict=True):
        assert image["src"] == f"data:image/png;base64,{frame['light']}"
    assert ["hidden" in image for image in page.images] == [True, True, False]
    (slider,) = page.inputs
    assert (slider["type"], slider["min"], slider["max"]) == ("range", "0", "2")
    assert slider["aria-label"]
    # Nothing is fetched from anywhere.
    assert page.links == []


# --- errors


@pytest.mark.parametrize("name", ["", "Complete", "two words", "under_score", "-a", "a--b", "a-"])
def test_names(shown, name):
    with pytest.raises(ValueError, match="name must be lower case words joined by hyphens; got"):
        figures.show(drawing(), **WORDS | {"name": name})
    assert shown == []


@pytest.mark.parametrize("argument", ["alt", "caption"])
@pytest.mark.parametrize("text", ["", "  \n", None])
def test_words_are_required(shown, argument, text):
    with pytest.raises(ValueError, match=f"{argument} must be text"):
        figures.show(drawing(), **WORDS | {argument: text})
    with pytest.raises(ValueError, match=f"{argument} must be text"):
        figures.flipbook([drawing(), drawing()], labels=["a", "b"], **WORDS | {argument: text})
    assert shown == []
    with pytest.raises(TypeError, match=argument):
        figures.show(drawing(), **{k: v for k, v in WORDS.items() if k != argument})


@pytest.mark.parametrize(
    ("count", "labels"), [(1, ["a"]), (2, ["a"]), (2, ["a", "b", "c"]), (0, [])]
)
def test_a_flipbook_has_frames_with_labels(count, labels):
    with pytest.raises(ValueError, match="labels must be one for each of two or more frames; got"):
        figures.flipbook([drawing() for _ in range(count)], labels=labels, **WORDS)


def test_unknown_colours():
    assert figures.colour("simclr") == METHODS["simclr"] == PALETTE["blue"]
    with pytest.raises(ValueError, match=r"name must be one of .*'simclr'.*; got 'mauve'"):
        figures.colour("mauve")


# --- colours


def test_colours_differ_and_show_on_both_papers():
    def luminance(colour):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return np.dot([0.2126, 0.7152, 0.0722], linear)

    def contrast(one, other):
        low, high = sorted(luminance(to_rgb(c)) for c in (one, other))
        return (high + 0.05) / (low + 0.05)

    assert len(set(PALETTE.values())) == len(PALETTE)
    for theme in (LIGHT, DARK):
        assert contrast(theme["ink"], theme["paper"]) > 7
        assert min(contrast(shade, theme["paper"]) for shade in PALETTE.values()) > 2
    assert len({METHODS[m] for m in ("invariance", "simclr", "vicreg", "untrained")}) == 4
    # What is exchanged between themes must not be the colour of any data.
    roles = {*LIGHT.values(), *DARK.values()}
    assert roles.isdisjoint(PALETTE.values())


# --- pictures of a comparison


def frames():
    rows = [
        {"arm": arm, "seed": seed, "step": step, "spread": base / (1 + step) + 0.01 * seed}
        for arm, base in (("vicreg", 0.9), ("invariance", 0.5))
        for seed in range(3)
        for step in (0, 5, 10)
    ]
    history = pd.DataFrame(rows)
    return history, history[history["step"] == 10]


ARMS = {"vicreg": METHODS["vicreg"], "invariance": METHODS["invariance"]}


def test_curves_draw_every_seed_and_every_mean():
    history, _ = frames()
    _, ax = plt.subplots()
    figures.curves(ax, history, "spread", ARMS)
    assert len(ax.lines) == 2 * (3 + 1)
    mean = ax.lines[3]
    np.testing.assert_allclose(mean.get_ydata(), [0.91, 0.16, 0.9 / 11 + 0.01])
    assert mean.get_color() == ARMS["vicreg"]
    assert ax.get_xlabel() == "training step" and ax.get_ylabel() == "spread"
    assert ax.get_ylim() == figures.LIMITS["spread"]


def test_dots_draw_every_seed_the_interval_and_references():
    from repcollapse.evidence import mean_interval

    _, final = frames()
    _, ax = plt.subplots()
    figures.dots(ax, final, "spread", ARMS, references={"chance": 0.1})
    assert [len(c.get_offsets()) for c in ax.collections] == [3, 3]
    values = final.loc[final["arm"] == "vicreg", "spread"]
    np.testing.assert_allclose(ax.lines[0].get_xdata(), mean_interval(values)[1])
    assert [tick.get_text() for tick in ax.get_yticklabels()] == list(ARMS)
    assert "chance" in [text.get_text() for text in ax.texts]


def test_dots_take_numbers_by_seed_as_they_take_a_table():
    _, final = frames()
    by_seed = {
        arm: rows.set_index("seed")["spread"].to_dict() for arm, rows in final.groupby("arm")
    }
    _, axes = plt.subplots(1, 2)
    for ax, values in zip(axes, (final, by_seed), strict=True):
        figures.dots(ax, values, "spread", ARMS)
    for one, other in zip(axes[0].lines, axes[1].lines, strict=True):
        np.testing.assert_array_equal(one.get_xydata(), other.get_xydata())
    for one, other in zip(axes[0].collections, axes[1].collections, strict=True):
        np.testing.assert_array_equal(one.get_offsets(), other.get_offsets())
    assert axes[1].get_xlabel() == "spread" and axes[1].get_xlim() == figures.LIMITS["spread"]
    with pytest.raises(ValueError, match=r"arm must be one of \['invariance', 'vicreg'\]; got 'b'"):
        figures.dots(axes[0], by_seed, "spread", {"b": "red"})


def test_a_bundle_is_every_curve_and_their_middle():
    x, rows = [1, 10, 100], {5: [0.0, 1.0, 2.0], 6: [2.0, 5.0, 2.0], 7: [7.0, 0.0, 2.0]}
    _, axes = plt.subplots(1, 2)
    figures.bundle(axes[0], x, rows, "red", "arm")
    figures.bundle(axes[1], x, iter(rows.values()), "red", middle=np.median)
    for ax, middle in zip(axes, ([3, 2, 2], [2, 1, 2]), strict=True):
        curves = [line.get_ydata().tolist() for line in ax.lines]
        assert curves == [*rows.values(), middle]
        assert all(line.get_xdata().tolist() == x for line in ax.lines)
        assert ax.lines[-1].get_linewidth() > ax.lines[0].get_linewidth()
    assert axes[0].get_legend_handles_labels()[1] == ["arm"]
    assert axes[1].get_legend_handles_labels()[1] == []
    for bad in ({}, {0: [1.0, 2.0]}, [[1.0, 2.0, 3.0], [1.0]]):
        with pytest.raises(ValueError, match=r"rows must hold at least one curve.* \(3,\) as x"):
            figures.bundle(axes[0], x, bad, "red")


def test_a_reference_is_upright_or_level_and_says_what_it_is():
    _, ax = plt.subplots()
    figures.reference(ax, x=0.3, label="chance")
    figures.reference(ax, y=0.7, label="pixels")
    figures.reference(ax, y=0.0)
    assert [list(line.get_xdata()) for line in ax.lines] == [[0.3, 0.3], [0, 1], [0, 1]]
    assert [list(line.get_ydata()) for line in ax.lines] == [[0, 1], [0.7, 0.7], [0, 0]]
    assert {line.get_color() for line in ax.lines} == {LIGHT["ink"]}
    assert [(text.get_text(), text.xy) for text in ax.texts] == [
        ("chance", (0.3, 1.0)),
        ("pixels", (1.0, 0.7)),
    ]
    for both in ({}, {"x": 1, "y": 0}):
        with pytest.raises(ValueError, match="one of x and y must be given"):
            figures.reference(ax, **both)


def test_main_directions_are_those_of_the_largest_variance():
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    sizes = np.array([1.0, 9.0, 0.1, 4.0, 0.5])
    rows = 100 + (rng.standard_normal((400, 5)) * sizes) @ turn.T
    for count in (1, 2, 5):
        found = figures.main_directions(rows, count).numpy()
        assert found.shape == (5, count)
        np.testing.assert_allclose(found.T @ found, np.eye(count), atol=1e-12)
        spans = np.abs(found.T @ turn[:, np.argsort(-sizes)[:count]])
        np.testing.assert_allclose(spans, np.eye(count), atol=0.1)
    with pytest.raises(ValueError, match="count must be at least 1 and at most 5; got 6"):
        figures.main_directions(rows, 6)
    with pytest.raises(ValueError, match="rows must have shape"):
        figures.main_directions(rows[0])


def test_spectrum_is_relative_to_the_largest_value():
    rng = np.random.default_rng(0)
    flat, steep = rng.standard_normal((40, 6)), rng.standard_normal((40, 6)) * 10.0 ** -np.arange(6)
    _, ax = plt.subplots()
    figures.spectrum(ax, {"vicreg": [flat, flat], "invariance": [1e-6 * steep]}, ARMS)
    curves = [line.get_ydata() for line in ax.lines]
    assert len(curves) == 1 + (2 + 1) + (1 + 1)
    assert all(curve[0] == 1 for curve in curves)
    assert curves[1][-1] > 0.3 and curves[-1][-1] < 1e-4
    assert ax.get_yscale() == "log"


def test_neighbour_strip_counts_those_of_the_same_class():
    images = np.zeros((6, 1, 4, 4))
    labels = np.array([0, 0, 0, 1, 1, 1])
    angles = np.array([0.0, 0.1, 0.5, 0.2, 0.3, 2.0])
    z = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    _, axes = plt.subplots(1, 5)
    assert figures.neighbour_strip(axes, images, labels, z, 0, count=4) == 2
    # By cosine, nearest first: 1, 3, 4, 2; the query itself is not its neighbour.
    frames_ = [to_rgb(ax.spines["left"].get_edgecolor()) for ax in axes[1:]]
    same, other = to_rgb(PALETTE["sky"]), to_rgb(PALETTE["vermilion"])
    assert frames_ == [same, other, other, same]
    assert not axes[0].spines["left"].get_visible()


def test_an_arm_or_a_column_that_is_not_there_is_no_empty_picture():
    table = pd.DataFrame({"arm": ["a"], "seed": [0], "step": [0], "spread": [1.0]})
    _, ax = plt.subplots()
    for draw in (figures.curves, figures.dots):
        with pytest.raises(ValueError, match=r"arm must be one of \['a'\]; got 'b'"):
            draw(ax, table, "spread", {"b": "red"})
        with pytest.raises(ValueError, match=r"column must be one of .*; got 'rank'"):
            draw(ax, table, "rank", {"a": "red"})
    with pytest.raises(ValueError, match="matrices must hold at least one matrix"):
        figures.spectrum(ax, {}, {})
    plt.close("all")


def test_neighbours_of_nan_are_refused():
    _, axes = plt.subplots(1, 6)
    z = np.full((8, 2), np.nan)
    with pytest.raises(ValueError, match="z must be finite; row 0"):
        figures.neighbour_strip(axes, np.zeros((8, 1, 4, 4)), np.zeros(8, int), z, 0)
    plt.close("all")


# --- cells of the matrix


def cloud(kind):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(60, 8, generator=generator)
    if kind == "collapsed":
        return torch.ones(60, 8) + 1e-4 * noise
    if kind == "line":
        return torch.tensor([[1.0], [-1.0]]).repeat(30, 1) * torch.ones(60, 8) + 1e-3 * noise
    return noise


@pytest.mark.parametrize(("kind", "least", "most"), [("collapsed", 0, 0.01), ("line", 0.9, 1.1),
                                                     ("healthy", 0.4, 1.2)])  # fmt: skip
def test_a_cell_says_how_far_embeddings_reach(shown, kind, least, most):
    figures.cell("a-claim", cloud(kind), torch.arange(60) % 3)
    [bundle] = shown
    record = bundle[CELL_MIME]
    assert record["id"] == "a-claim" and bundle["image/png"] == record["light"]
    assert record["light"] != record["dark"]
    reach = float(re.search(r"at most ([\d.]+) from", record["alt"]).group(1))
    assert least <= reach <= most


def test_a_cell_has_the_same_axes_whatever_it_shows(shown):
    """What is collapsed is a dot: in its picture there is hardly more than the circle."""
    inked = {}
    for kind in ("collapsed", "healthy"):
        figures.cell("a-claim", cloud(kind), torch.zeros(60, dtype=torch.long))
        pixels = plt.imread(io.BytesIO(base64.b64decode(shown[-1]["image/png"])))
        inked[kind] = float((pixels[..., :3] < 0.95).any(axis=-1).mean())
    assert 0 < inked["collapsed"] < 0.06 < inked["healthy"]


@pytest.mark.parametrize("kind", ["cone", "line", "healthy"])
def test_no_point_leaves_the_frame(monkeypatch, kind):
    """Of a cone, one point lies farther from the mean than the frame is wide."""
    z = torch.eye(8)[torch.zeros(60, dtype=torch.long)] + 0.05 * cloud("healthy")
    z[0] = -z[0]
    drawn = []
    monkeypatch.setattr(figures, "_png", lambda fig, dark=False: drawn.append(fig.axes[0]) or "")
    figures.cell("a-claim", z if kind == "cone" else cloud(kind), torch.arange(60) % 3)
    points = np.asarray(drawn[0].collections[0].get_offsets())
    assert len(points) == 60
    assert np.linalg.norm(points, axis=1).max() <= 1 + 1e-9
    assert drawn[0].get_xlim() == drawn[0].get_ylim() == figures.CELL_LIMITS
    if kind == "cone":
        assert np.linalg.norm(points - points.mean(axis=0), axis=1).max() > 1.14


def test_a_cell_of_one_dimension(shown):
    figures.cell("a-claim", torch.randn(10, 1), torch.zeros(10, dtype=torch.long))
    assert len(shown) == 1


def test_cells_check_what_they_are_given():
    with pytest.raises(ValueError, match="z must be finite; row 0"):
        figures.cell("a", torch.full((4, 2), torch.nan), torch.zeros(4, dtype=torch.long))
    with pytest.raises(ValueError, match="labels must"):
        figures.cell("a", torch.randn(4, 2), torch.zeros(3, dtype=torch.long))
