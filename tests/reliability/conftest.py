"""The lists use the cohorts and settings of the bundles' tests, and what writes DICOM."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

for folder in ("bundles", "transforms"):
    sys.path.append(str(Path(__file__).parents[1] / folder))

from launching import Launcher  # noqa: E402
from trained_stages import Stages  # noqa: E402


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    started = Launcher()
    yield started
    started.close()


@pytest.fixture(scope="module")
def stages(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Stages:
    """Cohorts and commands of the stages, made when they are asked for."""
    return Stages(tmp_path_factory.mktemp("stages"), launcher)
