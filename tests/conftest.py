"""Fixtures that every test folder shares."""

import os
from pathlib import Path

import pytest

# the tests' networks are too small for threads, and as many processes as cores run already
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real scans beside the project; tests that ask for it are skipped where it is absent."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real scans beside the project")
    return folder
