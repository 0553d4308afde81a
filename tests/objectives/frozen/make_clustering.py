"""Write clustering.json: outputs of lightly's SwAV and DINO. Not part of the test run.

In an environment of its own, with torch:

    pip install --no-deps lightly==1.6.0
    python tests/objectives/frozen/make_clustering.py

The files are loaded by their path: the package's own import wants all its dependencies.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

SIZE = (12, 5)
CASES = [
    {"temperature": 0.1, "epsilon": 0.05, "iterations": 3},
    {"temperature": 0.5, "epsilon": 0.2, "iterations": 1},
    {"temperature": 0.2, "epsilon": 0.1, "iterations": 10},
]
TEMPERATURES = [(0.1, 0.04), (0.2, 0.07)]
STEPS = 3


def load(name: str) -> ModuleType:
    root = Path(str(importlib.util.find_spec("lightly").submodule_search_locations[0]))
    spec = importlib.util.spec_from_file_location(name, root / "loss" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_dino() -> ModuleType:
    """Load DINO with the one module that it imports from lightly, itself free of imports."""
    root = Path(str(importlib.util.find_spec("lightly").submodule_search_locations[0]))
    spec = importlib.util.spec_from_file_location("center", root / "models/modules/center.py")
    center = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(center)
    package = ModuleType("lightly.models.modules")
    package.center = center
    sys.modules.update(
        {
            "lightly.models": ModuleType("lightly.models"),
            "lightly.models.modules": package,
            "lightly.models.modules.center": center,
        }
    )
    return load("dino_loss")


def waves(phase: float) -> Tensor:
    """Return scores in (-1, 1) that need no random numbers."""
    index = torch.arange(math.prod(SIZE), dtype=torch.float64).reshape(SIZE)
    return torch.sin(1.7 * index + 0.1 * index.sqrt() + phase)


def value_and_gradients(loss: Tensor, *inputs: Tensor) -> dict[str, object]:
    gradients = torch.autograd.grad(loss, inputs)
    return {"value": loss.item(), "gradients": [g.tolist() for g in gradients]}


def swav_case(lightly: ModuleType, case: dict[str, float]) -> dict[str, object]:
    a, b = waves(0.0).requires_grad_(), waves(0.4).requires_grad_()
    objective = lightly.SwaVLoss(
        temperature=case["temperature"],
        sinkhorn_iterations=case["iterations"],
        sinkhorn_epsilon=case["epsilon"],
    )
    codes = lightly.sinkhorn(a.detach(), case["iterations"], case["epsilon"])
    loss = objective([a, b], []).sum()
    return {"options": case, "codes": codes.tolist(), **value_and_gradients(loss, a, b)}


def dino_case(lightly: ModuleType, temperatures: tuple[float, float]) -> dict[str, object]:
    """Three steps: each a symmetric loss of two views, and an update of the centre."""
    objective = lightly.DINOLoss(
        SIZE[1], student_temp=temperatures[0], teacher_temp=temperatures[1]
    ).double()
    steps = []
    for step in range(STEPS):
        students = [waves(step).requires_grad_(), waves(step + 0.4).requires_grad_()]
        teachers = [waves(step + 0.2), waves(step + 0.6)]
        loss = objective(teachers, students)
        frozen = value_and_gradients(loss, *students)
        steps.append({**frozen, "center": objective.center.flatten().tolist()})
    names = ("student_temperature", "teacher_temperature")
    return {"options": dict(zip(names, temperatures, strict=True)), "steps": steps}


def main() -> None:
    swav = load("swav_loss")
    frozen = {
        "library": "lightly",
        "version": importlib.metadata.version("lightly"),
        "licence": "MIT",
        "torch": torch.__version__,
        "script": "make_clustering.py",
        "inputs": {f"{phase:g}": waves(phase).tolist() for phase in PHASES},
        "swav": [swav_case(swav, case) for case in CASES],
        "dino": [dino_case(load_dino(), temperatures) for temperatures in TEMPERATURES],
    }
    path = Path(__file__).with_name("clustering.json")
    path.write_text(json.dumps(frozen, separators=(",", ":")) + "\n", encoding="utf-8")


PHASES = sorted({step + part for step in range(STEPS) for part in (0.0, 0.2, 0.4, 0.6)})

if __name__ == "__main__":
    main()
