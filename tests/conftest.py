"""Fixtures that every test folder shares."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# the tests' networks are too small for threads, and as many processes as cores run already
os.environ.setdefault("OMP_NUM_THREADS", "1")

# the same examples in every run, so that a failure can be repeated
settings.register_profile("same examples", derandomize=True, database=None)
settings.load_profile("same examples")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real scans beside the project; tests that ask for it are skipped where it is absent."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real scans beside the project")
    return folder
