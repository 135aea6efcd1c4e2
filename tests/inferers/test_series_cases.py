"""Folders of DICOM slices are predicted as one case each, on their own grid."""

import sys
from pathlib import Path

import numpy as np
import pytest
from monai.transforms import Compose, Orientationd

from mtmed.errors import InputError
from mtmed.inferers import inference_cases
from mtmed.transforms import LoadVolumed, SaveLabelMapd
from mtmed.transforms.reading import read_nifti, read_volume

sys.path.append(str(Path(__file__).parents[1] / "transforms"))
from series_folder import SAGITTAL, write_series
from x_ray_file import write_x_ray

VOXELS = np.random.default_rng(5).integers(-1000, 3000, (4, 6, 5)).astype(np.int16)


def cases(source: object) -> dict[str, str]:
    """Images by the names of their outputs."""
    return {case["output_name"]: case["image"][0] for case in inference_cases(source, modalities=["CT"])}  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["IM{:04d}.dcm", "1.2.840.{}", "IM{}"])
def test_a_folder_of_slices_is_one_case(tmp_path: Path, name: str) -> None:
    folder = write_series(tmp_path / "case.7", VOXELS, name=name)
    for source in (folder, tmp_path, [folder], {"CT": str(folder)}):
        assert cases(source) == {"case.7": str(folder)}


def test_each_series_of_a_tree_is_a_case_named_apart(tmp_path: Path) -> None:
    folders = [write_series(tmp_path / place, VOXELS) for place in ("a/ct", "b/ct", "b/mr")]
    (folders[0] / "preview.png").write_bytes(b"")
    (folders[0] / "README").write_bytes(b"")
    (tmp_path / "b" / "liver.nii.gz").write_bytes(b"")
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "b" / "notes").write_text("")
    expected = {"a_ct": folders[0], "b_ct": folders[1], "mr": folders[2], "liver": tmp_path / "b" / "liver.nii.gz"}
    assert cases(tmp_path) == {name: str(path) for name, path in expected.items()}


def test_x_rays_beside_series_are_single_cases(tmp_path: Path) -> None:
    series = write_series(tmp_path / "ct", VOXELS)
    x_rays = [write_x_ray(tmp_path / "cr" / f"{name}.dcm", np.zeros((4, 6), np.uint8)) for name in "ab"]
    assert cases(tmp_path) == {"ct": str(series), "a": str(x_rays[0]), "b": str(x_rays[1])}


def test_a_series_whose_first_slice_is_damaged_is_still_one(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", VOXELS)
    (folder / "IM0001.dcm").write_bytes(b"no picture")
    assert cases(tmp_path) == {"ct": str(folder)}
    with pytest.raises(InputError, match=r"IM0001\.dcm: cannot be read as DICOM"):
        read_volume(folder)


def test_a_label_map_lies_on_the_grid_of_the_series(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", VOXELS, orientation=SAGITTAL)
    chain = Compose([LoadVolumed("image"), Orientationd("image", "RAS", labels=None)])
    (case,) = inference_cases(folder, modalities=["CT"])
    prediction = chain(case)
    prediction["image"] = prediction["image"] > 500
    SaveLabelMapd("image", tmp_path / "out", label_names={0: "background", 1: "bone"})(prediction)
    label, volume = read_nifti(tmp_path / "out" / "ct_seg.nii.gz"), read_volume(folder)
    np.testing.assert_allclose(label.affine, volume.affine, atol=1e-5)
    np.testing.assert_array_equal(label.data, volume.data > 500)
