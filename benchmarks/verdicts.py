"""Judge `repcollapse.diagnose` on the labelled cases that its limits may be tuned on.

    python benchmarks/verdicts.py --wrong

The second half is judged by the book, in `notebooks/31_verdicts.ipynb`, and is no business of this.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter, defaultdict

import torch
from scipy.stats import binomtest

from repcollapse.cases import Case, cases
from repcollapse.diagnosis import VERDICTS, Diagnosis, diagnose
from repcollapse.diagnosis.findings import COLLAPSES


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", help="only this one")
    parser.add_argument("--wrong", action="store_true", help="show each case that went wrong")
    given = parser.parse_args()
    torch.set_num_threads(1)
    chosen = [c for c in cases("first") if given.family in (None, c.family)]
    found: list[tuple[Case, Diagnosis]] = []
    making = judging = 0.0
    for case in chosen:
        began = time.process_time()
        z = case.embeddings()
        made = time.process_time()
        found.append((case, diagnose(z)))
        making, judging = making + made - began, judging + time.process_time() - made
    report(found, wrong=given.wrong)
    print(f"\n{len(found)} cases: {making:.0f} s to make, {judging:.0f} s to diagnose (CPU)")


def report(found: list[tuple[Case, Diagnosis]], *, wrong: bool) -> None:
    """Print the tables."""
    by_family: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for case, diagnosis in found:
        by_family[case.label, case.family][diagnosis.verdict] += 1
        if case.label != "ambiguous" and wrong and not case.right(diagnosis.verdict):
            m = diagnosis.metrics
            print(
                f"{case.name:30} N={case.rows:6} D={case.dimension:5} rank={case.rank:5} "
                f"{str(case.dtype)[6:]:9} {case.label} -> {diagnosis.verdict}  spread "
                f"{m['spread']:.3g} share {m['mean_share']:.2f} d99 {m['dimensions_99']:.2f} d999 "
                f"{m['dimensions_999']:.2f} points {m['points']:.4g} outliers {m['outliers']:.3f}"
            )
    print(f"\n{'label':12}{'family':26}", "".join(f"{v[:11]:>12}" for v in VERDICTS), "  wrong")
    for (label, family), counts in by_family.items():
        errors = sum(
            not c.right(d.verdict) for c, d in found if c.family == family and label != "ambiguous"
        )
        cells = "".join(f"{counts[v] or '':>12}" for v in VERDICTS)
        print(f"{label:12}{family:26}", cells, f"{errors or '':>7}")
    judged = [(c, d) for c, d in found if c.label != "ambiguous"]
    living = [(c, d) for c, d in judged if c.label in ("healthy", "cone")]
    false = sum(d.collapsed for _, d in living)
    print(
        f"\nhealthy and cones called a collapse: {false} of {len(living)}", _as_text(false, living)
    )
    for label in ("healthy", "cone", *COLLAPSES):
        own = [(c, d) for c, d in judged if c.label == label]
        right = sum(c.right(d.verdict) for c, d in own)
        print(f"{label:12} called by its kind: {right} of {len(own)}", _as_text(right, own))
    dead = [(c, d) for c, d in judged if c.label in COLLAPSES]
    right = sum(c.right(d.verdict) for c, d in dead)
    print(f"{'collapses':12} called by their kind: {right} of {len(dead)}", _as_text(right, dead))


def _as_text(count: int, of: list[tuple[Case, Diagnosis]]) -> str:
    if not of:
        return "[0.0, 100.0] %"
    share = binomtest(count, len(of)).proportion_ci(method="wilson")
    return f"[{100 * share.low:.1f}, {100 * share.high:.1f}] %"


if __name__ == "__main__":
    main()
