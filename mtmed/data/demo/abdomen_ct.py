"""Synthetic abdominal CT: several data sets that each label only some organs, and one that labels four.

No result on these scans is a claim. They are written as NIfTI in the layout of the Medical Segmentation Decathlon,
with the voxel spacings, orientations and oblique grids that readers have to cope with.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform
from numpy.typing import NDArray

from mtmed.data.demo import abdomen_anatomy, abdomen_patient, shapes
from mtmed.data.demo.abdomen_anatomy import ORGANS, paint
from mtmed.data.demo.abdomen_patient import draw_patient
from mtmed.data.demo.made_once import made_once
from mtmed.errors import InputError
from mtmed.randomness import random_generator

__all__ = ["demo_abdomen_ct", "demo_abdomen_organs"]

FIELD_OF_VIEW = np.array([336.0, 280.0, 320.0])  # mm


@dataclass(frozen=True)
class _DataSet:
    """One data set: its folder, the label value that each organ gets, and how its scans are made."""

    name: str
    prefix: str
    labels: Mapping[str, tuple[str, ...]]  # label name -> organs painted with it; values count from 1
    spacing: tuple[float, float, float]
    orientations: tuple[str, ...]
    oblique: int | None = None  # number of the scan whose grid is turned by a few degrees
    cancer: str | None = None
    repeated: bool = False  # whether the first patient is scanned twice


PARTIAL = (
    _DataSet(
        "Demo_Liver",
        "liver",
        {"liver": ("liver",), "cancer": ("liver cancer",)},
        (3.5, 3.5, 5.0),
        ("RAS", "LAS", "LPS"),
        oblique=3,
        cancer="liver",
    ),
    _DataSet("Demo_Spleen", "spleen", {"spleen": ("spleen",)}, (3.4, 3.4, 5.5), ("LAS",)),
    _DataSet(
        "Demo_Kidney",
        "kidney",
        {"left kidney": ("left kidney",), "right kidney": ("right kidney",), "cancer": ("kidney cancer",)},
        (3.6, 3.6, 4.6),
        ("LPS", "RAS"),
        cancer="kidney",
        repeated=True,
    ),
    _DataSet("Demo_Pancreas", "pancreas", {"pancreas": ("pancreas",)}, (3.3, 3.3, 5.0), ("LAS", "RPI")),
)

ORGAN_SET = _DataSet(
    "Demo_Organs",
    "organs",
    {
        "liver": ("liver", "liver cancer"),
        "spleen": ("spleen",),
        "left kidney": ("left kidney",),
        "right kidney": ("right kidney",),
    },
    (3.5, 3.5, 5.0),
    ("RAS", "LPS", "LAS"),
    oblique=4,
)


def demo_abdomen_ct(folder: str | Path = "cache/demo/abdomen_ct", *, seed: int = 0, cases_per_dataset: int = 5) -> str:
    """Make, once, the cohort to pre-train on: four data sets that each label only some organs.

    `Demo_Liver` labels liver and cancer, `Demo_Spleen` the spleen, `Demo_Kidney` the left and the right kidney and
    cancer, with two scans of its first patient, `Demo_Pancreas` the pancreas. Each has a `dataset.json`, labelled scans
    and one scan without label. Scans have about 96x80x64 voxels of 3.5x3.5x5 mm.

    Args:
        folder: where generated cohorts are kept; each set of options gets a folder of its own in it.
        seed: the same seed gives the same files, bit for bit.
        cases_per_dataset: labelled scans of each data set.

    Returns:
        The folder that holds the four data sets.

    Raises:
        InputError: an option out of range, or a folder that cannot be written.
    """
    return _made("demo abdominal CT", folder, PARTIAL, seed=seed, cases=cases_per_dataset)


def demo_abdomen_organs(
    folder: str | Path = "cache/demo/abdomen_organs", *, seed: int = 0, cases_per_dataset: int = 8
) -> str:
    """Make, once, the data set to fine-tune on: liver, spleen, left kidney and right kidney of other patients.

    Args: see `demo_abdomen_ct`.

    Returns:
        The folder that holds the data set's `dataset.json`.
    """
    made = _made("demo abdominal organs", folder, (ORGAN_SET,), seed=seed, cases=cases_per_dataset)
    return str(Path(made) / ORGAN_SET.name)


def _made(what: str, folder: str | Path, datasets: tuple[_DataSet, ...], *, seed: int, cases: int) -> str:
    if cases < 1:
        raise InputError("cases_per_dataset", f"is {cases}", "give 1 or more")
    if seed < 0:
        raise InputError("seed", f"is {seed}", "give 0 or more")

    def write(target: Path) -> str:
        for dataset in datasets:
            _write_dataset(dataset, target / dataset.name, seed=seed, cases=cases)
        return f"{len(datasets)} data set{'s' if len(datasets) > 1 else ''} of {cases} labelled scans"

    sources = [__file__, *(str(module.__file__) for module in (abdomen_anatomy, abdomen_patient, shapes))]
    return made_once(folder, stamp=f"seed{seed}-cases{cases}", sources=sources, write=write, what=what)


def _write_dataset(dataset: _DataSet, folder: Path, *, seed: int, cases: int) -> None:
    for part in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / part).mkdir(parents=True)
    training: list[dict[str, str]] = []
    test: list[str] = []
    for number in range(cases + 1):
        # the second scan of a repeated patient is drawn from the first one's numbers
        person = 0 if dataset.repeated and number == 1 and cases > 1 else number
        file = f"{dataset.prefix}_{number:03d}.nii.gz"
        image, label = _scan(dataset, seed=seed, number=number, person=person)
        if number < cases:
            nib.save(image, folder / "imagesTr" / file)
            nib.save(label, folder / "labelsTr" / file)
            row = {"image": f"./imagesTr/{file}", "label": f"./labelsTr/{file}"}
            training.append(
                {**row, "id": f"{dataset.prefix}_{number:03d}", "patient": f"{dataset.prefix}_p{person:02d}"}
            )
        else:
            nib.save(image, folder / "imagesTs" / file)
            test.append(f"./imagesTs/{file}")
    manifest = {
        "name": dataset.name,
        "description": f"Synthetic abdominal CT, labelled: {', '.join(dataset.labels)}",
        "reference": "Generated by mtmed; not scans of people",
        "licence": "CC0-1.0",
        "release": "1.0",
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": {"0": "background", **{str(value): name for value, name in enumerate(dataset.labels, 1)}},
        "numTraining": len(training),
        "numTest": len(test),
        "training": training,
        "test": test,
    }
    (folder / "dataset.json").write_text(json.dumps(manifest, indent=4) + "\n", encoding="utf-8")


def _scan(dataset: _DataSet, *, seed: int, number: int, person: int) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    draw = partial(random_generator, seed)
    sick = person % 2 == 0
    patient = draw_patient(
        draw(0, person, f"{dataset.name}/patient"),
        liver_cancer=sick and dataset.cancer == "liver",
        kidney_cancer=sick and dataset.cancer == "kidney",
    )
    generator = draw(0, number, f"{dataset.name}/scan")
    affine, shape, origin = _grid(dataset, number, generator)
    index = np.indices(shape, dtype=np.float32).reshape(3, -1)
    points = affine[:3, :3].astype(np.float32) @ index + (affine[:3, 3] - origin).astype(np.float32)[:, None]
    hu, organs = paint(patient, points.reshape(3, *shape), generator)
    label = np.zeros(shape, dtype=np.uint8)
    for value, painted in enumerate(dataset.labels.values(), 1):
        label[np.isin(organs, [ORGANS[organ] for organ in painted])] = value
    return _nifti(np.rint(hu).astype(np.int16), affine), _nifti(label, affine)


def _grid(
    dataset: _DataSet, number: int, generator: np.random.Generator
) -> tuple[NDArray[np.float64], tuple[int, int, int], NDArray[np.float64]]:
    """Affine and shape of a scan, and where the patient's origin lies in scanner coordinates."""
    in_plane, through = generator.uniform((0.94, 0.92), (1.06, 1.1))
    spacing = np.round(np.array(dataset.spacing) * (in_plane, in_plane, through), 3)
    shape = np.rint(FIELD_OF_VIEW / spacing).astype(int)
    rotation = np.eye(3)
    if number == dataset.oblique:
        about_x, about_z = np.deg2rad(6.0), np.deg2rad(4.0)
        rotation = np.array(
            [[np.cos(about_z), -np.sin(about_z), 0], [np.sin(about_z), np.cos(about_z), 0], [0, 0, 1]]
        ) @ np.array([[1, 0, 0], [0, np.cos(about_x), -np.sin(about_x)], [0, np.sin(about_x), np.cos(about_x)]])
    # the table's height and the patient's place on it differ; z counts from a landmark somewhere above
    origin = generator.uniform((-10, -6, -640), (10, 6, -360))
    middle = origin + generator.uniform((-6, -4, -14), (6, 4, 14))
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing
    affine[:3, 3] = middle - affine[:3, :3] @ ((shape - 1) / 2)
    codes = dataset.orientations[number % len(dataset.orientations)]
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    affine = np.round(affine @ inv_ornt_aff(turn, shape), 5)
    height, width, depth = (int(size) for size in shape)
    return affine, (height, width, depth), origin


def _nifti(array: NDArray[np.generic], affine: NDArray[np.float64]) -> nib.Nifti1Image:
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    image.header.set_xyzt_units("mm")
    return image
