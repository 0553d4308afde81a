"""Sphinx side of the book: figures with a dark version, flipbooks, and the badges of claims.

``rc-figure`` reads the small JSON file that the press writes beside a figure's images::

    {"alt": "...", "width": 640,
     "frames": [{"label": "", "light": "a-light.png", "dark": "a-dark.png"}]}

and makes an ordinary docutils figure of it, so that ``:name:`` is a target, the caption is numbered
and ``numref`` works. Several frames make a flipbook; ``_static/flipbook.js`` gives it its controls.
"""

import json
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective, SphinxRole


def about_pictures(env: BuildEnvironment, name: str) -> tuple[dict[str, Any], str]:
    """Return what the file beside some pictures says, and the folder they are in."""
    relative, absolute = env.relfn2path(name)
    env.note_dependency(relative)
    about: dict[str, Any] = json.loads(Path(absolute).read_text(encoding="utf-8"))
    return about, "/" + Path(relative).parent.as_posix()


def pictures(
    about: dict[str, Any], frame: dict[str, str], folder: str, *classes: str
) -> list[nodes.Node]:
    """One image for each theme; the reader's theme hides the other."""
    alt = f"{about['alt']} ({frame['label']})" if frame["label"] else about["alt"]
    images: list[nodes.Node] = []
    for theme in ("light", "dark"):
        image = nodes.image(uri=f"{folder}/{frame[theme]}", alt=alt)
        image["classes"] = [f"only-{theme}", "no-scaled-link", *classes]
        if about.get("width"):
            image["width"] = f"{about['width']}px"
        images.append(image)
    return images


class FigureDirective(SphinxDirective):
    """A figure, still or flipbook; the content is its caption."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec = {  # noqa: RUF012  (docutils declares it so)
        "name": directives.unchanged_required,
        "autoplay": directives.flag,
    }

    def run(self) -> list[nodes.Node]:
        """Build the figure."""
        about, folder = about_pictures(self.env, self.arguments[0])
        figure = nodes.figure(classes=["rc-figure"])
        self.set_source_info(figure)
        if len(about["frames"]) == 1:
            # In a container: the theme hides a caption that follows an image of the other theme.
            still = nodes.container(classes=["rc-still"])
            still += pictures(about, about["frames"][0], folder)
            figure += still
        else:
            figure += self.flipbook(about, folder)
        figure += self.caption()
        self.add_name(figure)
        return [figure]

    def flipbook(self, about: dict[str, Any], folder: str) -> nodes.container:
        """Build all frames; ``flipbook.js`` makes them something to leaf through."""
        classes = ["rc-flipbook"] + (["rc-autoplay"] if "autoplay" in self.options else [])
        book = nodes.container(classes=classes)
        for frame in about["frames"]:
            page = nodes.container(classes=["rc-frame"])
            page += pictures(about, frame, folder)
            page += nodes.paragraph("", frame["label"], classes=["rc-frame-label"])
            book += page
        return book

    def caption(self) -> list[nodes.Node]:
        """Make the caption of the content's first paragraph, and the legend of what follows it."""
        holder = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, holder)
        if not holder.children or not isinstance(holder[0], nodes.paragraph):
            raise self.error("rc-figure needs a caption: a paragraph of text as its content")
        first = holder[0]
        caption = nodes.caption(first.rawsource, "", *first.children)
        caption.source, caption.line = first.source, first.line
        legend = holder.children[1:]
        return [caption, nodes.legend("", *legend)] if legend else [caption]


class CellRole(SphinxRole):
    """The embeddings of a claim or a cell, as a small picture in the matrix, which is a target."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Build the picture, once for each theme."""
        about, folder = about_pictures(self.env, f"/figures/cell-{self.text}.json")
        target = nodes.inline(ids=[f"cell-{self.text}"])
        target += pictures(about, about["frames"][0], folder, "rc-cell")
        return [target], []


class OutcomeRole(SphinxRole):
    """What became of a collapse in a cell of the matrix."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Build the word, with a sign of its own."""
        classes = ["rc-outcome", f"rc-outcome-{self.text.replace(' ', '-')}"]
        return [nodes.inline(self.rawtext, self.text, classes=classes)], []


class VerdictRole(SphinxRole):
    """A claim's verdict as a badge."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Build the badge."""
        classes = ["rc-verdict", f"rc-verdict-{self.text.replace(' ', '-')}"]
        return [nodes.inline(self.rawtext, self.text, classes=classes)], []


class IdentifierRole(SphinxRole):
    """A claim's identifier."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Build the identifier."""
        return [nodes.inline(self.rawtext, self.text, classes=["rc-claim-id"])], []


def tidy_scripts(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Keep each script once, and Thebe's not at all.

    Sphinx 7.4 lists an inline script twice, once under the file name None and once under the empty
    one. For Thebe's, which declares constants, that is an error in the console of every page; and
    as no page here starts a kernel, none needs it.
    """
    kept: dict[str, Any] = {}
    for script in context["script_files"]:
        text = f"{getattr(script, 'filename', script) or ''}{getattr(script, 'attributes', '')}"
        if "thebe" not in text:
            kept.setdefault(text, script)
    context["script_files"][:] = kept.values()


def mend_bibliography(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Give the entries of a bibliography the role that their list allows.

    docutils marks them ``doc-biblioentry``, a role that its successor withdrew and that screen
    readers do not expect inside ``role="list"``.
    """
    if "body" in context:
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_directive("rc-figure", FigureDirective)
    app.add_role("rc-cell", CellRole())
    app.add_role("rc-outcome", OutcomeRole())
    app.add_role("rc-verdict", VerdictRole())
    app.add_role("rc-claim-id", IdentifierRole())
    app.connect("html-page-context", tidy_scripts, priority=900)
    app.connect("html-page-context", mend_bibliography)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
