"""Files that do not declare how their axes lie in the patient are known, and refused on request."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from mtmed.errors import InputError
from mtmed.transforms import LoadVolumed
from mtmed.transforms.reading import read_volume

AFFINE = np.diag([-2.0, -2.0, 3.0, 1.0])


def save(path: Path, *, sform: int = 1, qform: int = 1) -> str:
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), None)
    image.set_sform(AFFINE, code=sform)
    image.set_qform(AFFINE, code=qform)
    nib.save(image, path)
    return str(path)


@pytest.mark.parametrize(("sform", "qform"), [(1, 0), (0, 1), (2, 1), (0, 0)])
def test_a_nifti_file_declares_its_orientation_by_sform_or_qform(tmp_path, sform, qform):
    path = save(tmp_path / "scan.nii.gz", sform=sform, qform=qform)
    volume = read_volume(path)
    assert volume.oriented == bool(sform or qform)
    assert any("neither sform nor qform" in note for note in volume.notes) != volume.oriented
    LoadVolumed("image")({"image": path})
    loading = LoadVolumed("image", require_orientation=True)
    if volume.oriented:
        assert np.allclose(loading({"image": path})["image"].affine, AFFINE)
    else:
        with pytest.raises(InputError, match=r"scan\.nii\.gz: declares no orientation \(NIfTI: neither sform nor qfo"):
            loading({"image": path})


@pytest.mark.parametrize("ending", ["nrrd", "nhdr", "mha", "mhd"])
def test_what_simpleitk_writes_declares_its_orientation(tmp_path, ending):
    path = str(tmp_path / f"scan.{ending}")
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((3, 4, 5), np.int16)), path)
    assert read_volume(path).oriented
    LoadVolumed("image", require_orientation=True)({"image": path})


HEADERS = {
    "nrrd": "NRRD0004\ntype: short\ndimension: 3\nsizes: 5 4 3\n{}encoding: raw\nendian: little\n\n",
    "mha": "ObjectType = Image\nNDims = 3\nDimSize = 5 4 3\n{}ElementType = MET_SHORT\nElementDataFile = LOCAL\n",
}
DIRECTIONS = {
    "nrrd": "space: right-anterior-superior\nspace directions: (1,0,0) (0,1,0) (0,0,2)\n",
    "mha": "TransformMatrix = 1 0 0 0 1 0 0 0 1\nElementSpacing = 1 1 2\n",
}
SPACINGS = {"nrrd": "spacings: 1 1 2\n", "mha": "ElementSpacing = 1 1 2\n"}


@pytest.mark.parametrize("ending", HEADERS)
def test_nrrd_and_metaimage_without_directions_are_known(tmp_path, ending):
    path = tmp_path / f"scan.{ending}"
    path.write_bytes(HEADERS[ending].format(DIRECTIONS[ending]).encode() + bytes(120))
    assert read_volume(path).oriented
    assert read_volume(path).notes == ()
    path.write_bytes(HEADERS[ending].format(SPACINGS[ending]).encode() + bytes(120))
    volume = read_volume(path)
    assert not volume.oriented
    assert volume.spacing == pytest.approx((1, 1, 2))
    assert volume.notes == ("declares no directions of its axes, so its orientation is a guess",)
    with pytest.raises(InputError, match="so that left and right are unknown; export it again"):
        LoadVolumed("image", require_orientation=True)({"image": str(path)})


def test_only_the_file_whose_affine_is_taken_must_declare_one(tmp_path):
    image, label = save(tmp_path / "image.nii.gz"), save(tmp_path / "label.nii.gz", sform=0, qform=0)
    keys = ["image", "label"]
    loading = LoadVolumed(keys, same_affine=False, require_orientation=True)
    assert np.allclose(loading({"image": image, "label": label})["label"].affine, AFFINE)
    with pytest.raises(InputError, match=r"label\.nii\.gz: declares no orientation"):
        loading({"image": label, "label": image})
    with pytest.raises(InputError, match=r"label\.nii\.gz: declares no orientation"):
        LoadVolumed(keys, require_orientation=True)({"image": image, "label": label})
