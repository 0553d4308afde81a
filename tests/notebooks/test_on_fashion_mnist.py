"""On Fashion-MNIST every chapter runs through, and no trained claim is judged."""

import os
from pathlib import Path

import pytest
from elsewhere import run_through

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        not os.environ.get("REPCOLLAPSE_DATA"),
        reason="REPCOLLAPSE_DATA does not name a folder with the official files",
    ),
    pytest.mark.skipif(
        os.environ.get("REPCOLLAPSE_COLAB") == "1",
        reason="with REPCOLLAPSE_COLAB=1, test_colab.py runs every chapter on one or the other",
    ),
]


def test_fashion_mnist(tmp_path: Path) -> None:
    run_through(tmp_path, "fashion_mnist")
