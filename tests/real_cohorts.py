"""Cohort folders made of the real scans beside the project, for tests and for trying the bundles by hand.

Run ``python tests/real_cohorts.py SCANS OUT`` to write ``OUT/pretraining`` (two CT data sets that label different
things), ``OUT/abdomen`` (one CT with four organs), ``OUT/left_atrium`` (five MR patients), ``OUT/acdc`` (ten hearts in
two phases), ``OUT/gi_tract_uwm_2d`` (25 slices of eight abdomens) and ``OUT/pneumothorax_siim`` (eleven X-rays). A
handful of cases: they show that the path from scan to result works on real data, nothing more.
"""

import gzip
import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

__all__ = ["abdomen", "acdc", "gi_tract_uwm_2d", "left_atrium", "lung", "pneumothorax_siim", "pretraining"]

# value in the source's 61 structures -> value and name here
_ORGANS = {5: (1, "liver"), 1: (2, "spleen"), 2: (3, "right kidney"), 3: (4, "left kidney")}
_ATRIUM_SPACING = 0.625  # mm, isotropic; the challenge's, assumed since the files store none
_HEART_SPACING = (1.5, 1.5, 10.0)  # mm; usual of the challenge, since the files store none
_SLICE_NAME = re.compile(r"(case(?P<case>\d+)_day(?P<day>\d+))_slice_(?P<slice>\d+)\.png")


def _manifest(
    folder: Path,
    modality: str,
    labels: Sequence[str] | Mapping[int, str],
    cases: Sequence[str],
    **more: Mapping[str, Any],
) -> Path:
    names = labels if isinstance(labels, Mapping) else dict(enumerate(labels, start=1))
    content = {
        "name": folder.name,
        "modality": {"0": modality},
        "labels": {str(value): name for value, name in {0: "background", **names}.items()},
        "training": [
            {"image": f"images/{case}.nii.gz", "label": f"labels/{case}.nii.gz", "patient": case, **more.get(case, {})}
            for case in cases
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
    """Five late-enhancement MR scans with the left atrium, normalised to zero mean and unit variance.

    The files store neither spacing nor place: 0.625 mm isotropic, the challenge's, is assumed, and the axes are written
    as if they grew to the right, the front and the head. Each scan counts as a patient.
    """
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


def acdc(scans: Path, folder: Path) -> Path:
    """Cine MR of ten hearts at end-diastole and end-systole, 6 to 17 slices each, grey values 0 to 1.

    The files say neither spacing nor place. Written is 1.5 x 1.5 x 10 mm, usual of the challenge but no measurement,
    and the slices in the files' order as if they went from feet to head. The frame is the visit.
    """
    import h5py

    _folders(folder)
    rows = {}
    for path in sorted((scans / "acdc_h5").glob("*.h5")):
        with h5py.File(path) as file:
            for key, kind in (("image", np.float32), ("label", np.uint8)):
                volume = np.asarray(file[key], kind).transpose(2, 1, 0)
                # columns grow to the patient's left and rows to the back, as in a picture of the slice
                affine = np.diag([-_HEART_SPACING[0], -_HEART_SPACING[1], _HEART_SPACING[2], 1.0])
                nibabel.save(nibabel.Nifti1Image(volume, affine), folder / f"{key}s" / f"{path.stem}.nii.gz")
        patient, frame = path.stem.split("_")
        rows[path.stem] = {"patient": patient, "visit": frame}
    return _manifest(folder, "MR", ["right ventricle", "myocardium", "left ventricle"], list(rows), **rows)


def gi_tract_uwm_2d(scans: Path, folder: Path) -> Path:
    """25 single slices of abdominal MR of eight patients, 512 x 512, with colours for the organs.

    Names of the colours are the source's: red stomach, green large bowel, yellow small bowel. In the pictures yellow is
    the frame of the colon, so that the source seems to have exchanged the bowels. A few pixels are magenta, which it
    does not explain: read here as both bowels. The pixel size is unknown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(scans / "gi_tract_uwm_2d", folder, dirs_exist_ok=True)
    rows: dict[str, dict[str, Any]] = {}
    for path in sorted((folder / "images").glob("*.png")):
        found = _SLICE_NAME.fullmatch(path.name)
        assert found is not None, path
        case, day, number = (int(found[name]) for name in ("case", "day", "slice"))
        rows[path.stem] = {
            "image": f"images/{path.name}",
            "label": f"masks/{path.name}",
            "patient": f"case{case}",
            "visit": f"day{day}",
            "slice": number,
            "metadata": {"case_number": case, "day_number": day, "slice_number": number},
        }
    labels = {1: "stomach", 2: "large_bowel", 3: "small_bowel", 5: "large_bowel + small_bowel"}
    return _manifest(folder, "MR", labels, list(rows), **rows)


def pneumothorax_siim(scans: Path, folder: Path) -> Path:
    """Eleven real chest X-rays, PNG and DICOM: one with pneumothorax, two without, eight that nobody labelled.

    The table is the challenge's whole one, of which the other 12,044 images are not at hand. A PNG does not say its
    pixel size (1 mm is taken), the DICOM does.
    """
    source = scans / "pneumothorax_siim"
    for part in ("images", "unlabelled"):
        shutil.copytree(source / part, folder / part, dirs_exist_ok=True)
    with gzip.open(source / "siim-pneumothorax-train-rle.csv.gz", "rb") as packed:
        (folder / "train-rle.csv").write_bytes(packed.read())
    rows = {
        path.stem: {"image": f"images/{path.name}", "label": "train-rle.csv"}
        for path in sorted((folder / "images").iterdir())
    }
    _manifest(folder, "CR", ["pneumothorax"], list(rows), **{case: {**row, "id": case} for case, row in rows.items()})
    file = folder / "dataset.json"
    content = json.loads(file.read_text())
    content["overlapping"] = True
    unlabelled = sorted((folder / "unlabelled").iterdir())
    content["test"] = [
        {"image": f"unlabelled/{path.name}", "id": path.stem, "patient": path.stem} for path in unlabelled
    ]
    file.write_text(json.dumps(content, indent=4) + "\n")
    return folder


if __name__ == "__main__":
    scans, out = Path(sys.argv[1]), Path(sys.argv[2])
    for make in (pretraining, abdomen, left_atrium, acdc, gi_tract_uwm_2d, pneumothorax_siim):
        print(make(scans, out / make.__name__))
