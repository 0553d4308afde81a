"""Checkups of several models beside each other."""

from __future__ import annotations

import pytest

from repcollapse.checkups import Checkup, side_by_side
from repcollapse.diagnosis.findings import CODEBOOK, COLLAPSE, Advice

ADVICE = Advice(COLLAPSE, "Reset what is dead.", "19_codebook_collapse", "Codebook collapse")
SICK = Checkup(
    "64 codes, 1,000 rows.",
    {"used": 2.0},
    (ADVICE.finding(CODEBOOK, "2 of <64> codes are in use.", "used", 2.0, reference=60.0),),
)
WELL = Checkup("64 of 64 codes are in use.", {"used": 64.0})


def test_each_arm_says_what_was_found_or_else_what_was_read() -> None:
    assert str(
        side_by_side({"broken": [SICK, WELL, SICK], "mended": {100: WELL}})
    ).splitlines() == [
        "broken: codebook-collapse in 2 of 3, healthy in 1 of 3",
        "  2 of <64> codes are in use.",
        "mended: healthy in 1 of 1",
        "  64 of 64 codes are in use.",
    ]


def test_html_has_the_names_as_text() -> None:
    page = side_by_side({"<b>arm</b>": [SICK]})._repr_html_()
    assert "<b>arm" not in page and "<64>" not in page


def test_seeds_are_kept() -> None:
    checkups = side_by_side({"broken": {100: SICK, 101: WELL}, "mended": {100: WELL, 101: WELL}})
    told = checkups.tells(CODEBOOK, broken=["broken"], mended=["mended"])
    assert told == {100: 1.0, 101: 0.0}
    assert checkups.values("broken", "used") == {100: 2.0, 101: 64.0}


@pytest.mark.parametrize("arms", [{}, {"one": []}])
def test_nothing_beside_nothing_is_refused(arms: dict[str, list[Checkup]]) -> None:
    with pytest.raises(ValueError, match="by_arm must have an answer or more"):
        side_by_side(arms)
