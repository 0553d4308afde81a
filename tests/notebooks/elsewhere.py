"""Every chapter with other parameters than its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chapters import ROOT

from press import ledger
from press.execute import execute
from press.project import Project

SEED = 3  # not 0: a chapter that counts seeds from zero would hold on to it
BRIEF = {"seeds": 1, "first_seed": SEED, "steps": 20}


@dataclass(frozen=True)
class Elsewhere(Project):
    """The checkout, built in another folder: nothing kept, and no other build disturbed."""

    folder: Path

    @property
    def build(self) -> Path:
        return self.folder


def run_through(folder: Path, dataset: str) -> None:
    """Run every chapter briefly on a data set, each to its end."""
    executed = execute(Elsewhere(ROOT, folder), {"dataset": dataset, **BRIEF}, jobs=1)
    claims = ledger.gather(executed)
    assert {claim.notebook for claim in claims} == {chapter.name for chapter in executed}
    assert {claim.kind for claim in claims} >= {"trained", "exact"}
    require_brief(claims, dataset)


def require_brief(claims: Sequence[ledger.Claim], dataset: str) -> None:
    """Of a brief run no trained claim is judged, and every exact one is."""
    for claim in claims:
        if claim.kind == "trained":
            assert claim.verdict == ledger.NOT_JUDGED, claim.id
            assert claim.dataset == dataset, claim.id
            # What needs no training is measured on twice as many seeds.
            assert claim.seeds in ([SEED], [SEED, SEED + 1]), claim.id
            assert len(claim.measurements) == len(claim.seeds), claim.id
        elif claim.kind == "exact":
            assert claim.verdict == claim.expected, claim.id
            assert claim.seeds is None, claim.id
