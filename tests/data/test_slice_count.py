"""Slices are counted without reading voxels, along the axis that points to the head."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from mtmed.data.case import Case
from mtmed.data.slice_count import slices_of_cases
from mtmed.errors import InputError


def case(path: Path) -> Case:
    return Case(id=path.stem, image=(str(path),), label=None, group=path.stem, dataset="Toy")


def nifti(path: Path, shape: tuple[int, ...], affine: np.ndarray) -> Case:
    nib.save(nib.Nifti1Image(np.zeros(shape, np.int16), affine), path)
    return case(path)


def test_a_folder_has_as_many_slices_as_files(tmp_path: Path) -> None:
    folder = tmp_path / "case1_day0" / "scans"
    folder.mkdir(parents=True)
    for number in (1, 2, 4):
        Image.fromarray(np.zeros((6, 5), np.uint16)).save(folder / f"slice_{number:04}_5_6_1.50_1.50.png")
    assert slices_of_cases([case(folder)]) == 3


def test_a_png_is_one_slice(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((6, 5), np.uint8)).save(tmp_path / "one.png")
    assert slices_of_cases([case(tmp_path / "one.png")]) == 1


def test_axial_slices_are_counted_whatever_axis_they_lie_on(tmp_path: Path) -> None:
    straight = nifti(tmp_path / "ras.nii.gz", (4, 5, 6), np.eye(4))
    slices_first = np.eye(4)[[1, 2, 0, 3]]  # array axis 0 points to the head
    turned = nifti(tmp_path / "turned.nii.gz", (7, 4, 5), slices_first)
    assert nib.aff2axcodes(nib.load(turned.image[0]).affine)[0] == "S"
    assert slices_of_cases([straight, turned]) == 6 + 7


def test_an_image_without_slices_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"flat.nii.gz: is 2D \(4x5\), expected 3D"):
        slices_of_cases([nifti(tmp_path / "flat.nii.gz", (4, 5), np.eye(4))])


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"broken.nii.gz: cannot be read"):
        slices_of_cases([case(tmp_path / "broken.nii.gz")])
