"""Write libraries.json: what other libraries read on one matrix. Not part of the test run.

In an environment of its own, with torch and scikit-learn:

    pip install --no-deps scikit-dimension==0.5.0 reptrix==0.1.0 lightly==1.6.0
    python tests/diagnostics/frozen/make_libraries.py

lightly's function is compiled from the source of its file alone: what is around it wants
torchvision. scikit-dimension needs numba.
"""

from __future__ import annotations

import ast
import importlib.util
import json
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

N, D = 150, 30


def embeddings() -> np.ndarray:
    """Return rows on a curved surface of some four dimensions, far from the origin, with noise."""
    rng = np.random.default_rng(0)
    hidden = rng.uniform(-1, 1, (N, 4))
    bent = np.concatenate([hidden, np.sin(2 * hidden), hidden**2], axis=1)
    z = bent @ rng.standard_normal((12, D)) + 0.02 * rng.standard_normal((N, D)) + 0.5
    # Four digits, so that JSON holds the very numbers that were used.
    return z.round(4)


def lightly_std(z: torch.Tensor) -> float:
    root = Path(str(importlib.util.find_spec("lightly").submodule_search_locations[0]))
    tree = ast.parse((root / "utils" / "debug.py").read_text(encoding="utf-8"))
    wanted = [node for node in tree.body if getattr(node, "name", "") == "std_of_l2_normalized"]
    scope = {"torch": torch}
    exec(compile(ast.Module(wanted, []), "debug.py", "exec"), scope)
    return float(scope["std_of_l2_normalized"](z))


def main() -> None:
    from reptrix.alpha import get_alpha
    from reptrix.rankme import get_rankme
    from skdim.id import TwoNN

    z = embeddings()
    tensor = torch.from_numpy(z)
    frozen = {
        "script": "make_libraries.py",
        "versions": {
            name: metadata.version(name) for name in ("scikit-dimension", "reptrix", "lightly")
        },
        "licences": {"scikit-dimension": "BSD-3-Clause", "reptrix": "MIT", "lightly": "MIT"},
        "z": z.tolist(),
        "twonn": {
            str(discard): float(TwoNN(discard_fraction=discard).fit(z).dimension_)
            for discard in (0.1, 0.25)
        },
        "reptrix_rankme": float(get_rankme(tensor)),
        "reptrix_alpha": {
            "11-30": float(get_alpha(tensor, fit_range=np.arange(10, 30))[0]),
            "3-20": float(get_alpha(tensor, fit_range=np.arange(2, 20))[0]),
        },
        "lightly_std_of_l2_normalized": lightly_std(tensor),
    }
    path = Path(__file__).with_name("libraries.json")
    path.write_text(json.dumps(frozen, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
