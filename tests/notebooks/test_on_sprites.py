"""On drawn sprites every chapter runs through, and no trained claim is judged."""

from pathlib import Path

import pytest
from elsewhere import run_through

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_sprites(tmp_path: Path) -> None:
    run_through(tmp_path, "sprites")
