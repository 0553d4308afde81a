"""One look for every picture of the book: light and dark, one colour a method, alt text always."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
import torch.nn.functional as F
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from matplotlib.text import Text
from torch import Tensor

from repcollapse import _checks

MIME = "application/vnd.repcollapse.figure+json"
CELL_MIME = "application/vnd.repcollapse.cell+json"
DPI = 160
CELL_LIMITS = (-1.14, 1.14)  # the unit circle, with room for the width of its line and of a point

# Okabe & Ito's palette: told apart under the common forms of colour blindness, and legible on
# both backgrounds. A method keeps its colour throughout the book.
PALETTE = {
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "blue": "#3A86C8",
    "vermilion": "#D55E00",
    "purple": "#CC79A7",
    "grey": "#8C8C8C",
}
METHODS = {
    "invariance": PALETTE["vermilion"],
    "simclr": PALETTE["blue"],
    "vicreg": PALETTE["green"],
    "byol": PALETTE["orange"],
    "simsiam": PALETTE["sky"],
    "barlow_twins": PALETTE["purple"],
    # Paul Tol's muted palette goes on where Okabe and Ito's ends.
    "moco": "#6A6FCB",
    "alignment_uniformity": "#44AA99",
    "spectral_contrastive": "#2F9FB5",
    "directpred": "#B5862B",
    "w_mse": "#A0527F",
    "swav": "#999933",
    "dino": "#C4607A",
    "sigreg": "#5B8C3A",
    "rotation": "#8A7A5C",
    "jigsaw": "#B07A8F",
    "inpainting": "#7D8FA9",
    "supervised": "#7A5FA8",
    "untrained": PALETTE["grey"],
    "chance": PALETTE["grey"],
}

# Ink and paper of the two themes: the only colours that differ between them.
LIGHT = {"ink": "#1F2328", "paper": "#FFFFFF", "rule": "#D4D9DF"}
DARK = {"ink": "#E6E8EB", "paper": "#14181E", "rule": "#3B434D"}

LABELS = {
    "step": "training step",
    "loss": "loss",
    "spread": "spread",
    "mean_share": "mean share",
    "feature_std": "feature std",
    "raw_std": "std, not normalised",
    "rankme": "RankMe",
    "effective_rank": "effective rank",
    "participation_ratio": "participation ratio",
    "stable_rank": "stable rank",
    "alignment": "alignment",
    "uniformity": "uniformity",
    "intraclass_correlation": "intraclass correlation",
    "resolution_probe_z": "resolution probe of z",
    "resolution_probe_h": "resolution probe of h",
    "linear_probe_z": "linear probe of z",
    "linear_probe_h": "linear probe of h",
    "knn_z": "5 nearest neighbours of z",
}
# The same instrument has the same axis in every chapter.
LIMITS = {
    "spread": (-0.04, 1.04),
    "mean_share": (-0.04, 1.04),
    "feature_std": (-0.04, 1.04),
    "intraclass_correlation": (-0.04, 1.04),
    "resolution_probe_z": (0, 1),
    "resolution_probe_h": (0, 1),
    "linear_probe_z": (0, 1),
    "linear_probe_h": (0, 1),
    "knn_z": (0, 1),
    "uniformity": (-4.1, 0.1),
}


def use_style() -> None:
    """Set matplotlib's defaults to the book's."""
    sns.set_theme(
        style="ticks",
        rc={
            "figure.figsize": (6.5, 3.2),
            "figure.dpi": 100,
            "figure.constrained_layout.use": True,
            "figure.facecolor": LIGHT["paper"],
            "axes.facecolor": LIGHT["paper"],
            "savefig.facecolor": LIGHT["paper"],
            "axes.edgecolor": LIGHT["ink"],
            "axes.labelcolor": LIGHT["ink"],
            "axes.titlecolor": LIGHT["ink"],
            "text.color": LIGHT["ink"],
            "xtick.color": LIGHT["ink"],
            "ytick.color": LIGHT["ink"],
            "grid.color": LIGHT["rule"],
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "font.family": "DejaVu Sans",
            "font.size": 11,
            "axes.titlesize": 12,
            "axes.titleweight": "bold",
            "axes.labelsize": 11,
            "xtick.labelsize": 11,
            "ytick.labelsize": 11,
            "legend.fontsize": 11,
            "legend.frameon": False,
            "lines.linewidth": 2,
            "patch.edgecolor": LIGHT["ink"],
            "image.cmap": "gray",
        },
    )


def colour(name: str) -> str:
    """Return the colour of a method or of the palette.

    Raises
    ------
    ValueError
        For a name that is neither.

    Examples
    --------
    >>> colour("simclr") == PALETTE["blue"]
    True
    """
    known = METHODS | PALETTE
    if name not in known:
        raise ValueError(f"name must be one of {sorted(known)}; got {name!r}")
    return known[name]


def curves(
    ax: Axes, history: pd.DataFrame, column: str, colours: Mapping[str, str], *, x: str = "step"
) -> None:
    """Draw `column` against `x`: a thin line for every seed, a thick one for each arm's mean."""
    for arm, shade in colours.items():
        table = _rows_of(history, arm, column).pivot(index=x, columns="seed", values=column)
        bundle(ax, table.index, table.to_dict("list"), shade, arm)
    dress(ax, column, x=x)


def _rows_of(table: pd.DataFrame, arm: str, column: str) -> pd.DataFrame:
    """Return the rows of `arm`; an empty picture would say that nothing happened."""
    _checks.choice("column", column, list(table.columns))
    _checks.choice("arm", arm, sorted(set(table["arm"])))
    return table[table["arm"] == arm]


def dress(ax: Axes, column: str, *, x: str | None = "step") -> None:
    """Give `ax` the label and the limits of the instrument `column`."""
    ax.set_ylabel(LABELS.get(column, column))
    if x is not None:
        ax.set_xlabel(LABELS.get(x, x))
    if column in LIMITS:
        ax.set_ylim(*LIMITS[column])


def bundle(
    ax: Axes,
    x: Any,
    rows: Mapping[int, Any] | Iterable[Any],
    colour: str,
    label: str | None = None,
    *,
    middle: Callable[..., Any] = np.mean,
) -> None:
    """Draw every seed's curve as a thin line, and their mean as a thick one.

    Parameters
    ----------
    ax, x
        Where, and the places of the points, shape (P,).
    rows
        One curve a seed, shape (P,) each, or such curves by seed.
    colour, label
        Of all lines, a colour as matplotlib takes it; the label is that of the mean.
    middle
        Of the curves, shape (S, P), at every point, called with ``axis=0``: their mean, or another
        such as :func:`numpy.median`.

    Raises
    ------
    ValueError
        Without a curve, or for curves that do not have a value at each point.
    """
    curves_ = list(rows.values() if isinstance(rows, Mapping) else rows)
    each, places = [np.asarray(row, dtype=float) for row in curves_], np.asarray(x)
    if not each or any(row.shape != places.shape for row in each):
        raise ValueError(
            f"rows must hold at least one curve, each of shape {places.shape} as x has; "
            f"got {[row.shape for row in each]}"
        )
    for row in each:
        ax.plot(places, row, color=colour, linewidth=0.8, alpha=0.45)
    ax.plot(places, middle(np.stack(each), axis=0), color=colour, linewidth=2.4, label=label)


def reference(
    ax: Axes, *, x: float | None = None, y: float | None = None, label: str | None = None
) -> None:
    """Draw a thin dotted line through the whole picture, as of chance: upright at x, or level at y.

    Parameters
    ----------
    ax
        Where.
    x, y
        One of the two.
    label
        What it is; written above an upright line, at the right end of a level one.

    Raises
    ------
    ValueError
        For neither x nor y, or both.
    """
    end: tuple[float, float]
    ends_in: tuple[str, str]
    if x is not None and y is None:
        ax.axvline(x, color=LIGHT["ink"], linewidth=1, linestyle=":")
        end, ends_in, shift, rotation, side = (x, 1.0), ("data", "axes fraction"), 2, 35, "left"
    elif y is not None and x is None:
        ax.axhline(y, color=LIGHT["ink"], linewidth=1, linestyle=":")
        end, ends_in, shift, rotation, side = (1.0, y), ("axes fraction", "data"), -2, 0, "right"
    else:
        raise ValueError(f"one of x and y must be given, and not both; got {x} and {y}")
    if label is not None:
        ax.annotate(
            label,
            end,
            xycoords=ends_in,
            xytext=(shift, 2),
            textcoords="offset points",
            fontsize=11,
            rotation=rotation,
            ha=side,
            va="bottom",
        )


def dots(
    ax: Axes,
    values: pd.DataFrame | Mapping[str, Mapping[int, float]],
    column: str,
    colours: Mapping[str, str],
    *,
    references: Mapping[str, float] | None = None,
) -> None:
    """Draw one number of every seed by arm, its mean with the 95 % interval, and reference lines.

    Parameters
    ----------
    ax
        Where.
    values
        By arm, the number of each seed; or a table with the columns "arm" and `column`.
    column
        What the number is: the name of the table's column, and of the axis.
    colours
        The arms to draw, from above, and the colour of each.
    references
        Upright lines by name (:func:`reference`).

    Raises
    ------
    ValueError
        For an arm or a column that is not there.
    """
    from repcollapse.evidence import mean_interval

    for row, (arm, shade) in enumerate(colours.items()):
        each = _values_of(values, arm, column)
        ax.scatter(each, np.full(len(each), row), s=22, color=shade, alpha=0.55, linewidths=0)
        mean, bounds = mean_interval(each)
        if bounds is not None:
            ax.plot(bounds, (row, row), color=shade, linewidth=2.4)
        ax.plot(mean, row, marker="D", markersize=6, color=shade)
    for name, value in (references or {}).items():
        reference(ax, x=value, label=name)
    ax.set_yticks(range(len(colours)), labels=list(colours))
    ax.set_ylim(len(colours) - 0.5, -0.5)
    ax.set_xlabel(LABELS.get(column, column))
    if column in LIMITS:
        ax.set_xlim(*LIMITS[column])
    ax.grid(axis="y", visible=False)


def _values_of(values: Any, arm: str, column: str) -> np.ndarray:
    if isinstance(values, pd.DataFrame):
        return _rows_of(values, arm, column)[column].to_numpy(dtype=float)
    _checks.choice("arm", arm, sorted(values))
    return np.array(list(values[arm].values()), dtype=float)


def spectrum(ax: Axes, matrices: Mapping[str, Sequence[Any]], colours: Mapping[str, str]) -> None:
    """Draw the spectrum of each arm's embeddings (one matrix a seed) over that of isotropic data.

    Singular values of the centred matrix over the largest, so that shape shows and scale does not.
    """
    from scipy.stats import gmean

    from repcollapse.diagnostics import singular_values

    if not matrices or not all(len(seeds) for seeds in matrices.values()):
        raise ValueError("matrices must hold at least one matrix of every arm")
    shape = next(iter(matrices.values()))[0].shape
    null = np.random.default_rng(0).standard_normal(shape)
    reference = singular_values(null).numpy()
    index = np.arange(1, len(reference) + 1)
    ax.plot(index, reference / reference[0], color=LIGHT["ink"], linestyle=":")
    ax.annotate("isotropic", (index[-1], reference[-1] / reference[0]), ha="right", va="top")
    for arm, seeds in matrices.items():
        stacked = np.stack([singular_values(z).numpy() for z in seeds])
        relative = np.maximum(stacked / stacked[:, :1], 1e-8)
        bundle(ax, index, relative, colours[arm], middle=gmean)
    ax.set(yscale="log", ylim=(1e-4, 1.5), xlabel="index k", ylabel=r"$\sigma_k / \sigma_1$")


def main_directions(rows: Any, count: int = 2) -> Tensor:
    r"""Return the orthogonal directions in which rows vary most, as columns.

    Parameters
    ----------
    rows
        Shape (N, D), N and D >= `count`.
    count
        k >= 1, how many.

    Returns
    -------
    Tensor
        Shape (D, k), float64, orthonormal, the direction of the largest variance first:
        ``rows @ main_directions(rows)`` are places in a plane. Their signs are free.

    Raises
    ------
    TypeError, ValueError
        For rows or a count other than these.

    Examples
    --------
    >>> rows = torch.tensor([[0.0, 5.0, 1.0], [0.0, -5.0, 1.0], [2.0, 0.0, 1.0], [-2.0, 0.0, 1.0]])
    >>> main_directions(rows).abs().tolist()
    [[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]
    """
    matrix = _checks.as_matrix("rows", rows)
    count = _checks.integer("count", count, at_least=1, at_most=min(matrix.shape))
    centred = matrix.detach().cpu().double()
    centred = centred - centred.mean(dim=0)
    return torch.linalg.svd(centred, full_matrices=False).Vh[:count].T


def neighbour_strip(
    axes: Sequence[Axes],
    images: np.ndarray,
    labels: np.ndarray,
    z: Any,
    query: int,
    *,
    count: int = 5,
) -> int:
    """Draw a query image and its nearest neighbours by cosine; return how many share its class.

    `axes` are count + 1; neighbours of another class are framed.
    """
    unit = _checks.as_matrix("z", z).detach().cpu().double().numpy()
    unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-300)
    similarity = unit @ unit[query]
    similarity[query] = -np.inf
    nearest = np.argsort(-similarity)[:count]
    for ax, index in zip(axes, [query, *nearest], strict=True):
        right = labels[index] == labels[query]
        picture(ax, images[index])
        for spine in ax.spines.values():
            spine.set_visible(index != query)
            spine.set_linewidth(2.5)
            spine.set_color(PALETTE["sky"] if right else PALETTE["vermilion"])
    return int((labels[nearest] == labels[query]).sum())


def picture(ax: Axes, image: np.ndarray) -> None:
    """Draw one standardised view, shape (C, H, W), without axes."""
    grey = len(image) == 1
    ax.imshow(
        image[0] if grey else np.clip((image.transpose(1, 2, 0) + 2) / 4, 0, 1), vmin=-1.5, vmax=3
    )
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def show(fig: Figure, *, name: str, alt: str, caption: str) -> None:
    """Show a finished figure in the notebook, with a dark twin for the book.

    Parameters
    ----------
    fig
        The figure; closed afterwards.
    name
        Its name, unique in the book: lower case, digits, hyphens.
    alt
        What a reader who cannot see it needs to know, in words.
    caption
        The sentence below it, in Markdown.

    Raises
    ------
    ValueError
        For a name of another form, or an empty text.
    """
    _emit([fig], [""], name=name, alt=alt, caption=caption)


def flipbook(
    figs: Sequence[Figure], *, labels: Sequence[str], name: str, alt: str, caption: str
) -> None:
    """Show figures as frames under a slider; works without a kernel.

    Parameters
    ----------
    figs
        The frames, all of one size; closed afterwards.
    labels
        What the slider says at each frame.
    name, alt, caption
        As in :func:`show`.

    Raises
    ------
    ValueError
        For fewer than two frames, labels of another number, or texts as in :func:`show`.
    """
    if len(figs) < 2 or len(labels) != len(figs):
        raise ValueError(
            f"labels must be one for each of two or more frames; "
            f"got {len(labels)} for {len(figs)} frames"
        )
    _emit(figs, labels, name=name, alt=alt, caption=caption)


def cell(id: str, z: Any, labels: Any) -> None:
    """Show embeddings as the small picture that stands for a claim or a cell in the book's matrix.

    The unit embeddings, seen along the two directions in which they vary most. Seen along any two
    directions a unit vector is within the unit circle, so the circle is the frame of every picture
    and holds every point. A complete collapse is a dot, one direction is a line.

    Parameters
    ----------
    id
        Identifier of a claim that has a place in the matrix, or of a cell.
    z
        Embeddings, shape (N, D), of one seed.
    labels
        Classes, shape (N,), which give the points their colours.

    Raises
    ------
    TypeError, ValueError
        For embeddings or labels other than these.
    """
    from IPython.display import display

    matrix = _checks.as_matrix("z", z)
    classes = _checks.as_labels("labels", labels, len(matrix)).cpu().numpy()
    rows = F.pad(F.normalize(matrix.detach().double().cpu(), dim=1), (0, 1))  # two, even if D = 1
    centred = rows - rows.mean(dim=0)
    directions = main_directions(rows)
    reach = float((centred @ directions).norm(dim=1).max())
    points = (rows @ directions).numpy()
    hues = np.array(sns.color_palette("husl", int(classes.max()) + 1))
    fig, ax = plt.subplots(figsize=(0.9, 0.9))
    ax.add_patch(
        plt.Circle((0, 0), 1.08, fill=False, edgecolor=LIGHT["rule"], linewidth=0.8, zorder=0)
    )
    ax.scatter(points[:, 0], points[:, 1], c=hues[classes], s=4, linewidths=0)
    ax.set(xlim=CELL_LIMITS, ylim=CELL_LIMITS, aspect="equal", xticks=[], yticks=[])
    ax.grid(visible=False)
    sns.despine(ax=ax, left=True, bottom=True)
    alt = f"Unit embeddings along their two main directions, at most {reach:.2f} from their mean"
    record = {"id": id, "alt": alt, **_pictures(fig)}
    plt.close(fig)
    display({"image/png": record["light"], "text/plain": alt, CELL_MIME: record}, raw=True)


def _emit(
    figs: Sequence[Figure], labels: Sequence[str], *, name: str, alt: str, caption: str
) -> None:
    from IPython.display import display  # only a notebook has somewhere to show it

    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ValueError(f"name must be lower case words joined by hyphens; got {name!r}")
    for argument, text in (("alt", alt), ("caption", caption)):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{argument} must be text: every figure needs it; got {text!r}")
    width = round(figs[0].get_figwidth() * 100)
    frames = [{"label": label, **_pictures(fig)} for fig, label in zip(figs, labels, strict=True)]
    for fig in figs:
        plt.close(fig)
    record = {"name": name, "alt": alt, "caption": caption, "width": width, "frames": frames}
    shown = (
        {"image/png": frames[0]["light"]}
        if len(frames) == 1
        else {"text/html": _player(frames, alt, width)}
    )
    display({**shown, "text/plain": alt, MIME: record}, raw=True)


def _pictures(fig: Figure) -> dict[str, str]:
    """Return the figure in both themes."""
    # Colours move nothing: laid out once and drawn twice it costs half of two `savefig`, which
    # would lay out and draw anew on the way.
    fig.set_dpi(DPI)
    fig.draw_without_rendering()
    fig.set_layout_engine("none")
    light = _png(fig)
    _recolour(fig)
    return {"light": light, "dark": _png(fig)}


def _png(fig: Figure) -> str:
    buffer = io.BytesIO()
    # No version: the same figure is the same bytes.
    FigureCanvasAgg(fig).print_png(buffer, metadata={"Software": None})
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _recolour(fig: Figure) -> None:
    """Exchange the light theme's ink, paper and rule for the dark one's, and nothing else."""
    exchange = [(LIGHT[role], DARK[role]) for role in LIGHT]
    artists = fig.findobj()
    # A box around a text and the arrow of an annotation are not among the figure's artists.
    for text in fig.findobj(Text):
        patches = (text.get_bbox_patch(), getattr(text, "arrow_patch", None))
        artists += [patch for patch in patches if patch is not None]
    for artist in artists:
        for part in ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor"):
            _exchange(artist, part, exchange)


def _exchange(artist: Artist, part: str, exchange: list[tuple[str, str]]) -> None:
    getter = getattr(artist, f"get_{part}", None)
    setter = getattr(artist, f"set_{part}", None)
    if getter is None or setter is None:
        return
    current = getter()
    if isinstance(current, np.ndarray) and current.ndim == 2 and len(current) == 1:
        current = current[0]
    if not mpl.colors.is_color_like(current):
        return
    alpha = mpl.colors.to_rgba(current)[3]
    for old, new in exchange:
        if alpha > 0 and same_color(mpl.colors.to_rgb(current), old):
            setter(mpl.colors.to_rgba(new, alpha))
            return


def _player(frames: list[dict[str, str]], alt: str, width: int) -> str:
    """Return a small self-contained slider over the light frames, for a notebook elsewhere."""
    images = "".join(
        f'<img src="data:image/png;base64,{frame["light"]}" alt="{html.escape(alt)} '
        f'({html.escape(frame["label"])})" style="max-width:100%;width:{width}px"'
        f"{'' if index == len(frames) - 1 else ' hidden'}>"
        for index, frame in enumerate(frames)
    )
    script = (
        "const b=this.parentNode,i=+this.value;b.querySelectorAll('img')"
        ".forEach((m,k)=>m.hidden=k!==i);"
    )
    return (
        f'<div>{images}<br><input type="range" min="0" max="{len(frames) - 1}" '
        f'value="{len(frames) - 1}" '
        f'aria-label="frame" oninput="{script}" style="width:min(100%,{width}px)"></div>'
    )
