"""Every chapter with other parameters than its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from chapters import ROOT

from press import ledger
from press.execute import execute
from press.project import Project


@dataclass(frozen=True)
class Elsewhere(Project):
    """The checkout, built in another folder: nothing kept, and no other build disturbed."""

    folder: Path

    @property
    def build(self) -> Path:
        return self.folder


def run_through(folder: Path, dataset: str) -> None:
    """Run every chapter on a data set: it gets to its end, and no trained claim is judged."""
    # Not seed 0: a chapter that counts seeds from zero would hold on to it.
    parameters = {"dataset": dataset, "seeds": 1, "first_seed": 3, "steps": 20}
    executed = execute(Elsewhere(ROOT, folder), parameters, jobs=1)
    claims = ledger.gather(executed)
    assert {claim.notebook for claim in claims} == {chapter.name for chapter in executed}
    trained = [claim for claim in claims if claim.kind == "trained"]
    exact = [claim for claim in claims if claim.kind == "exact"]
    assert trained
    assert exact
    for claim in trained:
        assert claim.verdict == ledger.NOT_JUDGED, claim.id
        assert (claim.dataset, claim.seeds) == (dataset, [3]), claim.id
        assert len(claim.measurements) == 1, claim.id
        assert claim.interval is None, claim.id
    for claim in exact:
        assert claim.verdict == claim.expected, claim.id
        assert claim.seeds is None, claim.id
