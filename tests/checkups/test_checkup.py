"""What a checkup says, alone and beside others."""

from __future__ import annotations

import json
import math

import pytest

from repcollapse.checkups import Checkup, side_by_side
from repcollapse.checkups.checkup import make_finding
from repcollapse.diagnosis.findings import COLLAPSE, NOTE, Advice

ADVICE = Advice(COLLAPSE, "Reset what is dead.", "19_codebook_collapse", "Codebook collapse")


def sick(sentence: str = "2 of 64 codes are in use.") -> Checkup:
    finding = make_finding("codebook-collapse", sentence, "used", 2.0, ADVICE, reference=60.0)
    return Checkup("64 codes, 1,000 rows.", {"used": 2.0, "perplexity": math.nan}, (finding,))


WELL = Checkup("64 of 64 codes are in use.", {"used": 64.0})


def test_the_verdict_is_the_first_finding_or_healthy() -> None:
    assert (sick().verdict, sick().severity) == ("codebook-collapse", "collapse")
    assert (WELL.verdict, WELL.severity) == ("healthy", "healthy")


def test_the_report_has_the_finding_its_advice_and_every_number() -> None:
    report = str(sick())
    assert report.startswith("✗ codebook-collapse: 64 codes")
    for part in ("2 of 64 codes are in use.", "Reset what is dead.", "Codebook collapse", "used"):
        assert part in report
    assert "–" in report.splitlines()[-1], "a number that is none is said as such"
    assert max(map(len, report.splitlines())) <= 96


def test_it_goes_to_json_without_what_json_cannot_hold() -> None:
    said = json.loads(json.dumps(sick().to_dict(), allow_nan=False))
    assert said["verdict"] == "codebook-collapse"
    assert said["metrics"] == {"used": 2.0, "perplexity": None}
    assert said["findings"][0]["reference"] == 60.0


def test_names_are_text_in_html_and_not_markup() -> None:
    page = sick("<script>alert(1)</script>")._repr_html_()
    assert "<script>" not in page and "&lt;script&gt;" in page
    beside = side_by_side({"<b>arm</b>": [sick("<script>")]})._repr_html_()
    assert "<b>arm" not in beside and "<script>" not in beside


def test_arms_are_tallied_over_seeds() -> None:
    both = side_by_side({"broken": [sick(), WELL, sick()], "mended": [WELL]})
    assert both.verdicts("broken") == {"codebook-collapse": 2, "healthy": 1}
    assert str(both).splitlines()[0] == "broken: codebook-collapse in 2 of 3, healthy in 1 of 3"
    assert "2 of 64 codes are in use." in str(both)
    assert both.typical("mended") is WELL


def test_a_seed_is_told_where_all_broken_are_found_and_all_mended_are_not() -> None:
    arms = side_by_side(
        {"a": [sick(), sick(), WELL], "b": [sick()] * 3, "c": [WELL, WELL, WELL], "d": [sick()] * 3}
    )
    kind = "codebook-collapse"
    assert arms.tells(kind, broken=["a", "b"], mended=["c"]) == [True, True, False]
    assert arms.tells("rank-collapse", broken=["a"], mended=["c"]) == [False] * 3
    assert arms.tells(kind, broken=["b"], mended=["c", "d"]) == [False] * 3
    with pytest.raises(ValueError, match="arms must be some of"):
        arms.tells(kind, broken=["z"], mended=[])
    with pytest.raises(ValueError, match="as many seeds"):
        side_by_side({"a": [sick()], "c": [WELL, WELL]}).tells(kind, broken=["a"], mended=["c"])


@pytest.mark.parametrize("arms", [{}, {"one": []}])
def test_nothing_beside_nothing_is_refused(arms: dict[str, list[Checkup]]) -> None:
    with pytest.raises(ValueError, match="checkups must have one or more"):
        side_by_side(arms)


def test_an_arm_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="arm must be one of"):
        side_by_side({"one": [WELL]}).verdicts("two")


def test_a_note_is_no_collapse() -> None:
    note = Advice(NOTE, "Look.", "19_codebook_collapse", "Codebook collapse")
    found = Checkup("x", {}, (make_finding("few-rows", "Too few.", "rows", 3.0, note),))
    assert found.severity == "note"
