"""The clinic: every entry says cause, remedy and evidence, and all it refers to exists."""

from __future__ import annotations

import re

import pytest
from chapters import CHAPTERS, ROOT, links

PAGE = (ROOT / "book" / "clinic.md").read_text(encoding="utf-8")
ENTRY = re.compile(
    r"^\((?P<anchor>clinic-[\w-]+)\)=\n### “[^”]+”\n(?P<body>.*?)(?=^\(clinic-|^## |\Z)",
    re.MULTILINE | re.DOTALL,
)
ENTRIES = list(ENTRY.finditer(PAGE))
CLAIMS = {name for chapter in CHAPTERS for name in chapter.identifiers("ledger.claim")}
FIGURES = {f"#{name}" for chapter in CHAPTERS for name in chapter.figures}
MENTION = re.compile(r"<!-- press:claim ([\w-]+) -->")

each_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["anchor"])


def test_the_entries_are_found() -> None:
    assert len(ENTRIES) == len(re.findall(r"^### ", PAGE, re.MULTILINE)) >= 20


@each_entry
def test_an_entry_has_a_cause_a_remedy_and_evidence(entry: re.Match[str]) -> None:
    parts = re.findall(r"^\*\*(Cause|Remedy|Evidence)\.\*\* \S", entry["body"], re.MULTILINE)
    assert parts == ["Cause", "Remedy", "Evidence"]
    evidence = entry["body"].partition("**Evidence.**")[2]
    assert MENTION.search(evidence), "no claim"
    figures = [name for _, name in links(evidence.split("\n\n")[0]) if name.startswith("#")]
    assert figures, "no figure"


@each_entry
def test_what_an_entry_rests_on_is_in_a_chapter(entry: re.Match[str]) -> None:
    assert sorted(set(MENTION.findall(entry["body"])) - CLAIMS) == []
    anchors = {f"#{other['anchor']}" for other in ENTRIES}
    targets = {target for _, target in links(entry["body"]) if target.startswith("#")}
    assert sorted(targets - FIGURES - anchors) == []


def test_the_tree_leads_to_every_entry_that_it_names_and_most_are_in_it() -> None:
    tree = PAGE.partition("## Where to begin")[2].partition("\n## ")[0]
    named = {target for _, target in links(tree) if target.startswith("#")}
    anchors = {f"#{name}" for name in re.findall(r"^\((clinic-[\w-]+)\)=$", PAGE, re.MULTILINE)}
    assert sorted(named - anchors) == []
    entries = {f"#{entry['anchor']}" for entry in ENTRIES}
    assert len(entries & named) >= 0.75 * len(entries)
