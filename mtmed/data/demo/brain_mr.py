"""Synthetic brain MRI of people with multiple sclerosis: four contrasts, several visits, two raters.

No result on these scans is a claim. Files and folders are those of the ISBI 2015 longitudinal lesion challenge, on
a grid three times as coarse: skull-stripped, without most of the bias field, and registered to one space.
"""

import json
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray

from mtmed.data.demo import brain_anatomy, brain_contrast, brain_lesions, shapes
from mtmed.data.demo.brain_anatomy import Brain, paint_brain
from mtmed.data.demo.brain_contrast import MODALITIES, Voxels, paint_image
from mtmed.data.demo.brain_lesions import Lesion, draw_lesions, paint_lesions, rater_mask
from mtmed.data.demo.made_once import made_once
from mtmed.data.demo.shapes import Field, smooth_noise
from mtmed.errors import InputError
from mtmed.randomness import random_generator

__all__ = ["demo_brain_ms"]

SHAPE = (61, 73, 61)
SPACING = 3.0  # mm
CORNER = (-90.0, -126.0, -72.0)  # of the first voxel, mm, RAS+
_FINER = 2  # voxels of the anatomy along one voxel of the image
_LOADS_ML = (8.0, 0.4, 33.0, 2.0, 16.0)  # of the patients' first visits, over and over
_TEST_LOADS_ML = (5.0, 12.0)
_ORIENTATIONS = ("RAS", "RAS", "LAS", "RAS", "LPS")
_SUFFIXES = {"FLAIR": "flair", "T1": "mprage", "T2": "t2", "PD": "pd"}
_THRESHOLDS = (0.44, 0.54)  # lesion fraction from which each rater draws


def demo_brain_ms(folder: str | Path = "cache/demo/brain_ms", *, seed: int = 0, patients: int = 5) -> str:
    """Make, once, a cohort of brain MRI with MS lesions: FLAIR, T1, T2 and PD, outlined by two raters.

    The first patient has three visits, the others two. Two more patients have one visit each and no masks. Lesion
    loads of the first five patients are about 8, 0.4, 33, 2 and 16 ml at the first visit. The tissue that each voxel
    holds (0 outside, 1 cerebrospinal fluid, 2 grey matter, 3 white matter with its lesions) lies in ``tissue/`` and is
    the map ``tissue`` of each row.

    Args:
        folder: where demo data are kept.
        seed: another seed makes other patients.
        patients: number of labelled patients.

    Returns:
        The folder that holds the cohort's `dataset.json`.

    Raises:
        InputError: an option out of range, or a folder that cannot be written.
    """
    if patients < 1:
        raise InputError("patients", f"is {patients}", "give 1 or more")
    if seed < 0:
        raise InputError("seed", f"is {seed}", "give 0 or more")
    sources = [__file__, *(str(module.__file__) for module in (brain_anatomy, brain_contrast, brain_lesions, shapes))]
    write = partial(_write_cohort, seed=seed, patients=patients)
    return made_once(
        folder, stamp=f"seed{seed}-patients{patients}", sources=sources, write=write, what="demo brain MRI"
    )


@dataclass(frozen=True)
class _Patient:
    """One person: name, how much is wrong, how often seen, and how the files are oriented."""

    name: str
    load_ml: float
    visits: int
    orientation: str
    labelled: bool
    seed: int
    number: int

    def draw(self, stream: str, visit: int = 0) -> np.random.Generator:
        kind = "training" if self.labelled else "test"
        return random_generator(self.seed, visit, self.number, f"brain_ms/{kind}/{stream}")

    @cached_property
    def brain(self) -> Brain:
        fine = tuple(size * _FINER for size in SHAPE)
        first = np.array(CORNER, dtype=np.float32) - np.float32((SPACING - _fine_spacing()) / 2)
        points = np.indices(fine, dtype=np.float32) * np.float32(_fine_spacing()) + first[:, None, None, None]
        return paint_brain(points, _fine_spacing(), self.draw("anatomy"))

    @cached_property
    def healthy(self) -> Voxels:
        """The images' voxels as they would be without lesions."""
        filling = _coarse(self.brain.inside)
        none = np.zeros_like(filling)
        return Voxels(
            fluid=_coarse(self.brain.cerebrospinal_fluid),
            grey=_coarse(self.brain.grey_matter),
            white=_coarse(self.brain.white_matter),
            myelin=_coarse(self.brain.myelin),
            bright=none,
            dark=none,
            inside=filling > 0.5,
            filling=filling,
        )

    @cached_property
    def tissue(self) -> NDArray[np.uint8]:
        """The tissue that most of each voxel is."""
        parts = (self.healthy.fluid, self.healthy.grey, self.healthy.white)
        return np.where(self.healthy.inside, 1 + np.argmax(parts, axis=0), 0).astype(np.uint8)

    @cached_property
    def lesions(self) -> tuple[Lesion, ...]:
        return draw_lesions(self.brain, _fine_spacing(), self.load_ml, self.visits, self.draw("lesions"))

    @cached_property
    def rough(self) -> Field:
        return smooth_noise(self.draw("rough"), self.brain.inside.shape, 30)


def _fine_spacing() -> float:
    return SPACING / _FINER


def _write_cohort(folder: Path, *, seed: int, patients: int) -> str:
    rows: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for labelled, count in ((True, patients), (False, len(_TEST_LOADS_ML))):
        for number in range(count):
            loads = _LOADS_ML if labelled else _TEST_LOADS_ML
            patient = _Patient(
                name=f"{'training' if labelled else 'test'}{number + 1:02d}",
                load_ml=loads[number % len(loads)],
                visits=(3 if number == 0 else 2) if labelled else 1,
                orientation=_ORIENTATIONS[number % len(_ORIENTATIONS)],
                labelled=labelled,
                seed=seed,
                number=number,
            )
            rows[labelled] += [_write_visit(patient, visit, folder) for visit in range(patient.visits)]
    manifest = {
        "name": "Demo_MS",
        "description": "Synthetic brain MRI with multiple sclerosis lesions, several visits, two raters",
        "reference": "Generated by mtmed; not scans of people",
        "licence": "CC0-1.0",
        "release": "1.0",
        "tensorImageSize": "4D",
        "modality": {str(channel): name for channel, name in enumerate(MODALITIES)},
        "labels": {"0": "background", "1": "lesion"},
        "numTraining": len(rows[True]),
        "numTest": len(rows[False]),
        "training": rows[True],
        "test": rows[False],
    }
    (folder / "dataset.json").write_text(json.dumps(manifest, indent=4) + "\n", encoding="utf-8")
    return f"{len(rows[True])} labelled scans of {patients} patient{'s' if patients > 1 else ''}"


def _write_visit(patient: _Patient, visit: int, folder: Path) -> dict[str, Any]:
    scan = f"{patient.name}_{visit + 1:02d}"
    place = f"{'training' if patient.labelled else 'testdata_website'}/{patient.name}"
    maps = paint_lesions(patient.brain, _fine_spacing(), patient.lesions, visit, patient.rough)
    voxels = replace(patient.healthy, bright=_coarse(maps.bright), dark=_coarse(maps.dark))

    def save(array: NDArray[np.generic], path: str) -> str:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        nib.save(_nifti(array, patient.orientation), folder / path)
        return f"./{path}"

    images = []
    for modality in MODALITIES:
        image = np.rint(paint_image(voxels, modality, patient.draw(modality, visit))).astype(np.int16)
        image[voxels.inside & (image == 0)] = -1
        images.append(save(image, f"{place}/preprocessed/{scan}_{_SUFFIXES[modality]}_pp.nii.gz"))
    row: dict[str, Any] = {"image": images}
    if patient.labelled:
        fraction = _coarse(maps.fraction)
        row["label"] = [
            save(
                rater_mask(
                    fraction,
                    patient.tissue == 3,
                    patient.draw(f"rater{rater}", visit),
                    threshold=threshold,
                    misses=rater == 2,
                ).astype(np.uint8),
                f"{place}/masks/{scan}_mask{rater}.nii.gz",
            )
            for rater, threshold in enumerate(_THRESHOLDS, 1)
        ]
    row["maps"] = {"tissue": save(patient.tissue, f"tissue/{scan}_tissue.nii.gz")}
    return {**row, "id": scan, "patient": patient.name, "visit": f"{visit + 1:02d}"}


def _coarse(field: Field) -> Field:
    """Mean over the fine voxels of each voxel of the image: partial volume."""
    corners = [field[tuple(slice(start, None, _FINER) for start in corner)] for corner in np.ndindex((_FINER,) * 3)]
    return np.asarray(np.add.reduce(corners) / _FINER**3, dtype=np.float32)


def _nifti(array: NDArray[np.generic], orientation: str) -> nib.Nifti1Image:
    """An RAS array as a file with its axes turned; every voxel stays where it is in the patient."""
    affine = np.diag([SPACING, SPACING, SPACING, 1.0])
    affine[:3, 3] = CORNER
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(orientation))
    turned = affine @ inv_ornt_aff(turn, array.shape)
    image = nib.Nifti1Image(np.ascontiguousarray(apply_orientation(array, turn)), turned)
    image.set_sform(turned, code="mni")
    image.set_qform(turned, code="mni")
    image.header.set_xyzt_units("mm")
    return image
