"""What tissue maps come from is checked before rough lesion networks are trained."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from mtmed.bundle import check_tissue_input
from mtmed.data import Case
from mtmed.errors import InputError

AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
OPTIONS: dict[str, Any] = {"tissue": "hmrf", "channel": 1, "table": "mtmed", "masked": False}


def ball(radius: float) -> np.ndarray:
    distance = np.linalg.norm(np.indices((24, 24, 24)) - 11.5, axis=0)
    return (300 - 10 * distance) * (distance < radius)


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> str:
    nib.Nifti1Image(array.astype(np.float32), affine).to_filename(path)
    return str(path)


def case(*images: str | None, **maps: str) -> Case:
    return Case(id="1", image=images, label=None, group="a", dataset="Toy", maps=maps)


@pytest.fixture
def brain(tmp_path: Path) -> str:
    return save(tmp_path / "brain.nii.gz", ball(9))


@pytest.fixture
def head(tmp_path: Path) -> str:
    return save(tmp_path / "head.nii.gz", ball(9) + 20)


def test_only_the_t1_must_be_skull_stripped(brain: str, head: str, tmp_path: Path) -> None:
    check_tissue_input([case(head, brain)], output_dir=tmp_path, **OPTIONS)
    with pytest.raises(InputError, match=r"head\.nii\.gz: is not skull-stripped"):
        check_tissue_input([case(brain, head)], output_dir=tmp_path, **OPTIONS)


def test_channel_of_a_file_with_all_modalities_is_checked(tmp_path: Path) -> None:
    path = save(tmp_path / "both.nii.gz", np.stack([ball(9) + 20, ball(9)], -1))
    check_tissue_input([case(path)], output_dir=tmp_path, **OPTIONS)
    with pytest.raises(InputError, match="not skull-stripped"):
        check_tissue_input([case(path)], output_dir=tmp_path, **OPTIONS | {"channel": 0})


def test_head_within_its_brain_mask_passes_even_on_another_grid(brain: str, head: str, tmp_path: Path) -> None:
    finer = np.diag([2.0, 2.0, 2.0, 1.0])
    finer[:3, 3] = -1
    mask = save(tmp_path / "mask.nii.gz", np.kron(ball(9) > 0, np.ones((2, 2, 2))), finer)
    check_tissue_input([case(brain, head, brain_mask=mask)], output_dir=tmp_path, **OPTIONS | {"masked": True})


def test_missing_t1_names_the_case(brain: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Toy/1: lacks the modality that its tissue map is made of"):
        check_tissue_input([case(brain, None)], output_dir=tmp_path, **OPTIONS)


def test_run_with_a_checkpoint_is_not_checked_again(brain: str, head: str, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").touch()
    check_tissue_input([case(brain, head)], output_dir=tmp_path, **OPTIONS)


def test_values_of_own_maps_must_stand_in_the_table(brain: str, tmp_path: Path) -> None:
    own = case(brain, None, tissue=save(tmp_path / "tissue.nii.gz", (ball(9) > 0) * 4))
    files = OPTIONS | {"tissue": "files"}
    check_tissue_input([own], output_dir=tmp_path, **files | {"table": {"4": "white_matter"}})
    with pytest.raises(InputError, match=r"tissue\.nii\.gz: holds the values 4"):
        check_tissue_input([own], output_dir=tmp_path, **files)
