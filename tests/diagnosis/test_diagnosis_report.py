"""What a person sees of a diagnosis: text, HTML, a figure, and data."""

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib as mpl
import pytest
import torch

from repcollapse import diagnose
from repcollapse.diagnosis import VERDICTS, Diagnosis, Finding, report


def normal(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def healthy():
    views = torch.stack([normal(300, 24) + 0.2 * normal(300, 24, seed) for seed in (1, 2)])
    return diagnose(normal(300, 24), labels=torch.arange(300) % 3, views=views)


@pytest.fixture(scope="module")
def nothing():
    return diagnose(torch.zeros(1, 1))


def named(text):
    finding = Finding("noise", "note", text, text, math.nan, None, None, text, text, text)
    return Diagnosis("healthy", (finding,), {}, {}, {}, 2, 3, 2, (), ())


def test_every_verdict_has_a_headline():
    assert set(report.HEADLINES) == set(VERDICTS)


def test_the_text_says_all_of_it(healthy):
    text = str(healthy)
    assert text.startswith("Healthy: 300 rows of 24 dimensions\n====")
    said = " ".join(text.split())
    for finding in healthy.findings:
        assert finding.sentence in said and finding.advice in said
    assert re.search(r"spread of directions +0\.99\d +0\.998 +0\.9\d+ to [01]", text)
    assert "intraclass correlation" in text and "nearest class mean" in text
    assert max(map(len, text.splitlines())) <= 96
    assert "Pairs of rows" not in text


def test_a_sample_is_owned_up_to():
    found = diagnose(normal(3000, 4))
    assert "Pairs of rows were taken of 2,048 of the 3,000 rows" in " ".join(str(found).split())
    assert "2,048 of the 3,000 rows" in found.to_html()


def test_what_rounding_leaves_of_nothing_is_nothing():
    found, left = diagnose(torch.ones(200, 8)), -1.78e-15
    found = replace(
        found,
        metrics=found.metrics | {"uniformity": left},
        intervals=found.intervals | {"uniformity": (left, left)},
    )
    row = next(row for row in report.readings(found) if row[0] == "uniformity")
    assert row[2] == "0" and row[4] == "0 to 0"
    tiny = report.readings(diagnose(1e-20 * normal(100, 8)))
    assert "e-20" in next(row for row in tiny if row[0] == "distance")[2]  # that is their size


def test_copies_are_not_said_to_be_distinct_points():
    z = normal(2000, 32)
    z[:300] = z[-300:]
    copies, points = diagnose(z), diagnose(normal(5, 32)[torch.arange(2000) % 5])
    said = " ".join(str(copies).split())
    assert "30 % of the 2,000 rows looked at have a copy among them, the first of each" in said
    assert "points that rows sit on none" in said
    assert "points that rows sit on 5 " in " ".join(str(points).split())


def test_data_are_json_without_nan(healthy, nothing):
    for found in (healthy, nothing, named("x")):
        data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert data["verdict"] == found.verdict
        assert len(data["findings"]) == len(found.findings)
    data = healthy.to_dict()
    assert data["metrics"]["spread"] == healthy.metrics["spread"]
    assert data["intervals"]["spread"] == list(healthy.intervals["spread"])
    assert sum(data["spectrum"]) == pytest.approx(1)
    assert named("x").to_dict()["findings"][0]["value"] is None


class Page(HTMLParser):
    """What a page is made of, and whether it is closed properly."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("br", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(html):
    page = Page()
    page.feed(html)
    page.close()
    assert page.open == []
    return page


def test_html_stands_alone(healthy, nothing):
    for found in (healthy, nothing):
        html = found.to_html()
        page = read(html)
        assert not {"script", "img", "link", "iframe"} & set(page.tags)
        assert not {"src", "href", "onclick"} & {name for name, _ in page.attributes}
        assert "http" not in html and "url(" not in html and "@import" not in html
        for finding in found.findings:
            assert finding.sentence in page.text
    assert healthy._repr_html_() == healthy.to_html()
    assert "svg" in read(healthy.to_html()).tags


def test_html_escapes_what_it_shows():
    evil = "<script>alert('1')</script>\"&"
    page = read(named(evil).to_html())
    assert "script" not in page.tags
    assert page.text.count(evil) == 3


def test_html_takes_its_ink_from_the_page(healthy):
    """Neither ink nor paper is set, so that it is legible in light and in dark."""
    html = healthy.to_html()
    assert "background:#" not in html and "color:inherit" in html
    inks = {ink.lower() for ink in re.findall(r"#[0-9A-Fa-f]{6}", html)}
    assert inks
    for ink in inks:
        assert all(contrast(ink, paper) >= 3 for paper in ("#ffffff", "#14181e")), ink


@pytest.mark.parametrize("ink", report.COLOURS.values())
def test_colours_are_legible_on_both(ink):
    assert min(contrast(ink, "#ffffff"), contrast(ink, "#14181e")) >= 3


def contrast(a, b):
    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_figure_shows_the_spectrum(healthy, nothing):
    before = dict(mpl.rcParams)
    fig = healthy.plot()
    spectrum, bars = fig.axes
    null, own = spectrum.lines
    assert own.get_ydata().tolist() == list(healthy.spectrum)
    assert null.get_ydata().tolist() == list(healthy.null_spectrum)
    assert spectrum.get_title() == "Healthy"
    widths = [patch.get_width() for patch in bars.patches]
    assert widths[::2] == [1] * 5  # what isotropic data read, and within it
    assert widths[1] == pytest.approx(healthy.metrics["spread"] / healthy.nulls["spread"])
    assert len(nothing.plot().axes[0].lines) == 0
    assert dict(mpl.rcParams) == before
    mpl.pyplot.close("all")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1234.5, "1,234"), (math.inf, "∞"), (-math.inf, "-∞"), (-3.14159, "-3.14")],
)
def test_numbers_have_three_digits(value, text):
    assert report.number(value) == text
