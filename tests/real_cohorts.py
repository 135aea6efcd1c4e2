"""Cohort folders made of the real scans beside the project, for tests and for trying the bundles by hand.

Run ``python tests/real_cohorts.py SCANS OUT`` to write ``OUT/pretraining`` (two CT data sets that label different
things), ``OUT/abdomen`` (one CT with four organs) and ``OUT/left_atrium`` (five MR patients). A handful of cases: they
show that the path from scan to result works on real data, nothing more.
"""

import json
import shutil
import sys
from pathlib import Path

import nibabel
import numpy as np

__all__ = ["abdomen", "left_atrium", "lung", "pretraining"]

# value in the source's 61 structures -> value and name here
_ORGANS = {5: (1, "liver"), 1: (2, "spleen"), 2: (3, "right kidney"), 3: (4, "left kidney")}
_ATRIUM_SPACING = 0.625  # mm; the challenge's, since the files store none


def _manifest(folder: Path, modality: str, labels: list[str], cases: list[str]) -> Path:
    content = {
        "name": folder.name,
        "modality": {"0": modality},
        "labels": {str(value): name for value, name in enumerate(["background", *labels])},
        "training": [
            {"image": f"images/{case}.nii.gz", "label": f"labels/{case}.nii.gz", "patient": case} for case in cases
        ],
        "test": [],
    }
    (folder / "dataset.json").write_text(json.dumps(content, indent=4) + "\n")
    return folder


def _folders(folder: Path) -> Path:
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return folder


def abdomen(scans: Path, folder: Path) -> Path:
    """One abdominal CT, 3 mm, with liver, spleen and kidneys; the labels are a model's, not manual."""
    _folders(folder)
    source = scans / "totalseg_ct"
    shutil.copy(source / "example_ct.nii.gz", folder / "images" / "totalseg.nii.gz")
    label = nibabel.load(source / "example_seg_fast_force_split.nii.gz")
    values = np.asarray(label.dataobj)
    organs = np.zeros(values.shape, np.uint8)
    for value, (ours, _) in _ORGANS.items():
        organs[values == value] = ours
    nibabel.save(nibabel.Nifti1Image(organs, label.affine), folder / "labels" / "totalseg.nii.gz")
    return _manifest(folder, "CT", [name for _, name in _ORGANS.values()], ["totalseg"])


def lung(scans: Path, folder: Path) -> Path:
    """One chest CT with a tumour."""
    _folders(folder)
    source = scans / "lung_ct_ibsi"
    shutil.copy(source / "phantom.nii.gz", folder / "images" / "ibsi.nii.gz")
    shutil.copy(source / "mask.nii.gz", folder / "labels" / "ibsi.nii.gz")
    return _manifest(folder, "CT", ["tumour"], ["ibsi"])


def pretraining(scans: Path, folder: Path) -> Path:
    """Two CT data sets that label different things, as MixCL needs."""
    abdomen(scans, folder / "abdomen")
    lung(scans, folder / "lung")
    return folder


def left_atrium(scans: Path, folder: Path) -> Path:
    """Five late-enhancement MR scans with the left atrium, normalised to zero mean and unit variance."""
    import h5py

    _folders(folder)
    cases = sorted(path.name for path in (scans / "la_lge_h5").iterdir() if path.is_dir())
    affine = np.diag([_ATRIUM_SPACING] * 3 + [1.0])
    for case in cases:
        with h5py.File(scans / "la_lge_h5" / case / "mri_norm2.h5") as file:
            image, label = np.asarray(file["image"], np.float32), np.asarray(file["label"], np.uint8)
        nibabel.save(nibabel.Nifti1Image(image, affine), folder / "images" / f"{case}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(label, affine), folder / "labels" / f"{case}.nii.gz")
    return _manifest(folder, "MR", ["left atrium"], cases)


if __name__ == "__main__":
    scans, out = Path(sys.argv[1]), Path(sys.argv[2])
    for make in (pretraining, abdomen, left_atrium):
        print(make(scans, out / make.__name__))
