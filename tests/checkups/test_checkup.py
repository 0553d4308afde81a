"""What a checkup says."""

from __future__ import annotations

import json
import math

from repcollapse.checkups import Checkup
from repcollapse.diagnosis.findings import COLLAPSE, NOTE, Advice

ADVICE = Advice(COLLAPSE, "Reset what is dead.", "19_codebook_collapse", "Codebook collapse")


def sick(sentence: str = "2 of 64 codes are in use.") -> Checkup:
    finding = ADVICE.finding("codebook-collapse", sentence, "used", 2.0, reference=60.0)
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


def test_a_note_is_no_collapse() -> None:
    note = Advice(NOTE, "Look.", "19_codebook_collapse", "Codebook collapse")
    found = Checkup("x", {}, (note.finding("few-rows", "Too few.", "rows", 3.0),))
    assert found.severity == "note"
