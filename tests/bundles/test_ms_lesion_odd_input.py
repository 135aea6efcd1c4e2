"""What is unusual but legal in MS scans is trained on, with a notice where it may be a mistake."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fire
import nibabel as nib
import numpy as np
import pytest
from monai.bundle.scripts import run
from ms_lesion_inputs import Prepare, command, image, label, rewrite, with_head
from ms_lesion_runs import write_brains

pytestmark = pytest.mark.usefixtures("program_state")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a cohort of three patients of two visits."""
    write_brains(tmp_path / "cohort", patients=3, visits=2)
    return tmp_path


def with_ringing(data: np.ndarray) -> np.ndarray:
    """Slightly negative along the edge of the brain."""
    inside = np.argwhere(data != 0)
    ringing = data.copy()
    ringing[tuple(inside[::40].T)] = -3
    return ringing


@dataclass(frozen=True)
class OddInput:
    """What is unusual but legal, and the notice that it gets, if any."""

    name: str
    prepare: Prepare
    notice: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


def cropped_and_moved(path: Path) -> None:
    """The same scan on a smaller grid of its own, in its place in the patient."""
    volume = nib.load(path)
    volume.slicer[1:-1, 2:-1, :].to_filename(path)


def swap(folder: Path) -> None:
    for case in (f"p{patient}_{visit}" for patient in range(3) for visit in range(2)):
        flair, t1 = (folder / image(case, modality) for modality in ("FLAIR", "T1"))
        first, second = flair.read_bytes(), t1.read_bytes()
        flair.write_bytes(second)
        t1.write_bytes(first)


ODD_INPUTS = (
    OddInput(
        "T1 on another grid",
        lambda f: cropped_and_moved(f / image("p0_0", "T1")),
        "Toy_MS/p0_0: has files on other grids than its first image; they are resampled onto it",
    ),
    OddInput("FLAIR given as T1", swap, "T1 looks like FLAIR or T2: white matter is not brighter than cortex"),
    OddInput("heads without a tissue step", lambda f: rewrite(f / image("p0_0", "T1"), with_head)),
    OddInput(
        "lesion mask of 0 and 0.9999",
        lambda f: rewrite(f / label("p0_1"), lambda data: data * np.float32(0.9999)),
        "Toy_MS/p0_1: has label values within 0.001 of whole numbers; they are rounded",
    ),
    OddInput("negative ringing", lambda f: [rewrite(p, with_ringing) for p in (f / "cohort/images").iterdir()]),
)


@pytest.mark.parametrize("odd", ODD_INPUTS, ids=lambda odd: odd.name)
def test_odd_but_legal_input_trains_with_a_notice(odd: OddInput, folder: Path) -> None:
    odd.prepare(folder)
    fire.Fire(run, command=command(folder, "train", ("--variant", "single")))
    notices = [line for line in (folder / "out" / "log.txt").read_text().splitlines() if "Notice: " in line]
    assert any(odd.notice in line for line in notices) if odd.notice else not notices
    assert (folder / "out" / "model.pt").is_file()
