"""Synthetic chest X-rays in the layout of the SIIM-ACR pneumothorax data: DICOM files and a csv of run lengths.

No result on these images is a claim. As in the challenge's files, each image lies in a folder of its study and its
series, has 8 bits and no name of a person, and the table's second column has a leading space in its name. Images
without a row in the table are unlabelled, not negative.
"""

import csv
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from mtmed.data.demo import chest_anatomy, chest_patient, dicom_file, shapes
from mtmed.data.demo.chest_anatomy import paint_chest
from mtmed.data.demo.chest_patient import draw_chest_patient, draw_pneumothorax
from mtmed.data.demo.dicom_file import write_dicom
from mtmed.data.demo.made_once import made_once
from mtmed.errors import InputError
from mtmed.randomness import random_generator
from mtmed.transforms.relative_run_length import encode_relative_run_lengths

__all__ = ["demo_chest_xray"]

TABLE = "train-rle.csv"
MOST_CASES = 1000  # of each kind
_FIELD_OF_VIEW = 320.0  # mm, of the longer side
_GRIDS = ((128, 128), (128, 128), (128, 128), (112, 128), (128, 128))  # columns, rows
_GOLDEN = 0.618034  # spreads sizes evenly, however many there are


def demo_chest_xray(
    folder: str | Path = "cache/demo/chest_xray", *, seed: int = 0, labelled: int = 72, unlabelled: int = 120
) -> str:
    """Make, once, a cohort of frontal chest X-rays with outlines of pneumothoraces.

    ``dicom-images-train/<study>/<series>/<image>.dcm``, each of another patient, and ``train-rle.csv`` with the columns
    ``ImageId`` and ``" EncodedPixels"``: relative run lengths in column order, ``-1`` for no pneumothorax, two rows for
    some images. A third of the images shows a pneumothorax on one side: a rim of gas at the apex and along the wall,
    from a few millimetres to half a lung, darker than lung, without its vessels, behind a thin line. Exposure differs;
    tubes, folds of the skin and denser patches are seen whether or not there is one. Images have 128 x 128 pixels of
    2.5 mm, every fifth has 112 x 128 (width x height); every seventh is stored with bright air (MONOCHROME1).

    Args:
        folder: where demo data are kept.
        seed: another seed makes other patients.
        labelled: number of images with a row in the table.
        unlabelled: number of images without.

    Returns:
        The folder that holds the cohort's `dataset.json`, in which unlabelled images are test cases.

    Raises:
        InputError: an option out of range, or a folder that cannot be written.
    """
    for name, value, least in (("labelled", labelled, 1), ("unlabelled", unlabelled, 0)):
        if not least <= value <= MOST_CASES:
            raise InputError(name, f"is {value}", f"give {least} to {MOST_CASES}")
    if seed < 0:
        raise InputError("seed", f"is {seed}", "give 0 or more")
    sources = [__file__, *(str(module.__file__) for module in (chest_anatomy, chest_patient, dicom_file, shapes))]
    write = partial(_write_cohort, seed=seed, labelled=labelled, unlabelled=unlabelled)
    stamp = f"seed{seed}-labelled{labelled}-unlabelled{unlabelled}"
    return made_once(folder, stamp=stamp, sources=sources, write=write, what="demo chest X-rays")


@dataclass(frozen=True)
class _Image:
    """One X-ray: grey values with dark air and the outline, both (rows, columns), its pixels' size and its names."""

    grey: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    pixel: float
    study: str
    series: str
    name: str
    bright_air: bool

    @property
    def path(self) -> str:
        return f"dicom-images-train/{self.study}/{self.series}/{self.name}.dcm"

    def row(self) -> dict[str, str]:
        return {"image": f"./{self.path}", "id": self.name, "patient": self.study}


def _write_cohort(folder: Path, *, seed: int, labelled: int, unlabelled: int) -> str:
    training: list[dict[str, str]] = []
    positive = 0
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("ImageId", " EncodedPixels"))
        for number in range(labelled):
            image = _image(number, "labelled", seed)
            _write_image(folder, image)
            table.writerows((image.name, text) for text in _outlines(image.mask, number))
            training.append({**image.row(), "label": f"./{TABLE}"})
            positive += bool(image.mask.any())
    test: list[dict[str, str]] = []
    for number in range(unlabelled):
        image = _image(number, "unlabelled", seed)
        _write_image(folder, image)
        test.append(image.row())
    manifest = {
        "name": "Demo_Pneumothorax",
        "description": "Synthetic chest X-rays, some with outlines of a pneumothorax, most without any label",
        "reference": "Generated by mtmed; not X-rays of people",
        "licence": "CC0-1.0",
        "release": "1.0",
        "tensorImageSize": "2D",
        "modality": {"0": "CR"},
        "labels": {"0": "background", "1": "pneumothorax"},
        "overlapping": True,
        "numTraining": len(training),
        "numTest": len(test),
        "training": training,
        "test": test,
    }
    (folder / "dataset.json").write_text(json.dumps(manifest, indent=4) + "\n", encoding="utf-8")
    return f"{labelled} labelled images, {positive} with a pneumothorax, and {unlabelled} unlabelled"


def _image(number: int, kind: str, seed: int) -> _Image:
    """Make an image; every third shows a pneumothorax, whose sizes are spread evenly."""

    def draw(stream: str) -> np.random.Generator:
        return random_generator(seed, 0, number, f"chest_xray/{kind}/{stream}")

    pneumothorax = None
    if number % 3 == 0:
        offset = float(random_generator(seed, 0, 0, f"chest_xray/{kind}/size").uniform())
        pneumothorax = draw_pneumothorax((offset + _GOLDEN * (number // 3)) % 1, draw("pneumothorax"))
    columns, rows = _GRIDS[number % len(_GRIDS)]
    pixel = _FIELD_OF_VIEW / max(columns, rows)
    # rows go from head to feet, columns to the patient's left
    z, x = np.indices((rows, columns), dtype=np.float32) - np.array([rows - 1, columns - 1]).reshape(2, 1, 1) / 2
    middle = draw("place").uniform((-8, -14), (8, 6))
    points = np.stack([pixel * x + middle[0], -pixel * z + middle[1]]).astype(np.float32)
    absorption, mask = paint_chest(draw_chest_patient(draw("patient")), pneumothorax, points, draw("texture"))
    names = draw("names")
    study, series, name = (f"2.25.{uuid.UUID(bytes=names.bytes(16), version=4).int}" for _ in range(3))
    return _Image(_exposed(absorption, draw("exposure")), mask, pixel, study, series, name, number % 7 == 3)


def _exposed(absorption: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.uint8]:
    """Grey values of a detector: blurred, noisier where fewer rays arrive, under a window that differs."""
    sharp = gaussian_filter(absorption, 0.5)
    noise = generator.uniform(0.012, 0.03) * np.exp(0.35 * (sharp - 1.5))
    seen = sharp + noise * generator.standard_normal(sharp.shape, dtype=np.float32)
    low, high = generator.uniform((0.05, 2.6), (0.45, 3.3))
    window = np.clip((seen - low) / (high - low), 0, 1) ** generator.uniform(0.8, 1.25)
    return np.asarray(np.rint(250 * window), dtype=np.uint8)


def _outlines(mask: NDArray[np.bool_], number: int) -> Iterator[str]:
    """Run lengths of an image's rows in the table: an upper and a lower part, which share a row of pixels, for some."""
    if not mask.any():
        yield "-1" if number % 2 else " -1"  # both are met in copies of the table
        return
    filled = np.flatnonzero(mask.any(axis=1))
    cut = int(filled[len(filled) // 2])
    if number % 2 or len(filled) < 4:
        yield encode_relative_run_lengths(mask)
        return
    for part in (slice(None, cut + 1), slice(cut, None)):
        outline = np.zeros_like(mask)
        outline[part] = mask[part]
        yield encode_relative_run_lengths(outline)


def _write_image(folder: Path, image: _Image) -> None:
    path = folder / image.path
    path.parent.mkdir(parents=True)
    stored = 255 - image.grey if image.bright_air else image.grey
    fields = {
        "0008,0018 UI": image.name,
        "0008,0060 CS": "CR",
        "0008,0064 CS": "WSD",
        "0008,103e LO": "view: PA",
        "0010,0010 PN": image.study,
        "0010,0020 LO": image.study,
        "0018,0015 CS": "CHEST",
        "0018,5101 CS": "PA",
        "0020,000d UI": image.study,
        "0020,000e UI": image.series,
        "0020,0013 IS": "1",
    }
    write_dicom(path, stored, pixel=image.pixel, bright_air=image.bright_air, fields=fields)
