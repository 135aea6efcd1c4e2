"""A tiny cohort of brains with MS lesions, and settings so small that the bundle runs on it in seconds."""

import contextlib
import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from running import run_in_process
from scipy import ndimage

__all__ = [
    "MS_LESION",
    "SHAPE",
    "SPACING",
    "TINY_MS",
    "paint_brain",
    "rough_in_process",
    "run_ms_lesion",
    "write_brains",
]

MS_LESION = Path(__file__).parents[2] / "bundles" / "ms_lesion"
SHAPE = (24, 36, 22)
SPACING = 4.0
TINY_MS: dict[str, Any] = {
    "device": "cpu",
    # torch's bfloat16 gradients on CPU differ between runs for feature maps of a few voxels
    "precision": "float32",
    "spacing": [SPACING] * 3,
    "patch_size": [16, 32, 16],
    "network_def#features": [3, 4, 4, 4, 4, 3],
    "epochs": 2,
    "iterations_per_epoch": 2,
    "rough_epochs": 1,
    "folds": 5,
}
# what CSF, grey matter, white matter and lesion look like
_BRIGHTNESS = {
    "FLAIR": (60.0, 220.0, 160.0, 340.0),
    "T1": (80.0, 220.0, 340.0, 230.0),
    "T2": (420.0, 230.0, 150.0, 330.0),
    "PD": (300.0, 280.0, 200.0, 330.0),
}


def paint_brain(seed: int, visit: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Tissue map (0 outside, 1 CSF, 2 grey matter, 3 white matter) and lesions of a patient at a visit, H W D."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(-1.1, 1.1, side) for side in SHAPE), indexing="ij"))
    radius = np.sqrt(((grid / generator.uniform(0.95, 1.05, 3)[:, None, None, None]) ** 2).sum(0))
    tissue = np.select([radius < 0.4, radius < 0.76, radius < 0.98], [1, 3, 2], 0).astype(np.uint8)
    deep = ndimage.binary_erosion(tissue == 3)
    lesions = np.zeros(SHAPE, bool)
    # the second visit keeps the lesions of the first and has one more
    for place in generator.permutation(np.argwhere(deep))[: 3 + visit]:
        distance = ((np.indices(SHAPE) - place[:, None, None, None]) ** 2).sum(0)
        lesions |= (distance < 3.5) & (tissue == 3)
    return tissue, lesions


def write_brains(
    folder: Path,
    *,
    patients: int = 5,
    visits: int = 2,
    modalities: Sequence[str] = ("FLAIR", "T1", "T2"),
    raters: int = 2,
    name: str = "Toy_MS",
    seed: int = 0,
    lacking: Mapping[str, Sequence[str]] | None = None,
    lesions: bool = True,
    more: Mapping[str, Any] | None = None,
) -> str:
    """Write a skull-stripped cohort with its `dataset.json`; returns the folder.

    Every row has the maps ``tissue`` (mtmed's values) and ``brain_mask``, ``p<number>_<visit>`` as its id and
    ``p<number>`` as its patient. The second rater outlines a voxel less on one side of each lesion.

    Args:
        folder: made by this.
        patients: number of patients.
        visits: of each patient.
        modalities: of every case, out of FLAIR, T1, T2 and PD.
        raters: 0 to 2 label maps.
        name: of the data set.
        seed: another one makes other patients.
        lacking: modalities that a case lacks, by the id of the case.
        lesions: whether there are any.
        more: further keys of `dataset.json`.
    """
    for kind in ("images", "labels", "maps"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    affine = np.diag([SPACING, SPACING, SPACING, 1.0])
    affine[:3, 3] = -SPACING * (np.array(SHAPE) - 1) / 2
    rows = []

    def save(array: NDArray[Any], path: str) -> str:
        nib.Nifti1Image(array, affine).to_filename(folder / path)
        return f"./{path}"

    for patient in range(patients):
        for visit in range(visits):
            case = f"p{patient}_{visit}"
            tissue, drawn = paint_brain(1000 * seed + patient, visit)
            drawn &= lesions
            classes = np.where(drawn, 4, tissue)
            images: list[str | None] = []
            for modality in modalities:
                noise = np.random.default_rng([seed, patient, visit, *modality.encode()]).normal(0, 12, SHAPE)
                image = np.array([0.0, *_BRIGHTNESS[modality]])[classes] + noise
                image = np.where(tissue > 0, np.rint(image), 0).astype(np.int16)
                missing = modality in (lacking or {}).get(case, ())
                images.append(None if missing else save(image, f"images/{case}_{modality}.nii.gz"))
            row: dict[str, Any] = {"image": images, "id": case, "patient": f"p{patient}", "visit": str(visit)}
            masks = [drawn, drawn & np.roll(drawn, 1, 0)][:raters]
            if masks:
                files = [
                    save(mask.astype(np.uint8), f"labels/{case}_rater{rater}.nii.gz")
                    for rater, mask in enumerate(masks, 1)
                ]
                row["label"] = files if len(files) > 1 else files[0]
            row["maps"] = {
                "tissue": save(tissue, f"maps/{case}_tissue.nii.gz"),
                "brain_mask": save((tissue > 0).astype(np.uint8), f"maps/{case}_brain.nii.gz"),
            }
            rows.append(row)
    content = {
        "name": name,
        "modality": {str(channel): modality for channel, modality in enumerate(modalities)},
        "labels": {"0": "background", "1": "lesion"},
        "training": rows if raters else [],
        "test": [] if raters else rows,
        **(more or {}),
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return str(folder)


def run_ms_lesion(stage: str, given: Mapping[str, Any], *overlays: str) -> Path:
    """Run a stage of the bundle in this process; rough lesion networks still get one of their own."""
    return run_in_process(stage, given, *overlays, bundle=MS_LESION)


@contextlib.contextmanager
def rough_in_process() -> Iterator[list[dict[str, Any]]]:
    """Train rough lesion networks in this process too, which saves the imports; gives the configs that were run."""
    # the package has a function of this name
    module = importlib.import_module("mtmed.bundle.rough_networks")
    started: list[dict[str, Any]] = []

    def run_config(config: dict[str, Any], path: Path, *, what: str, bundle: Path) -> None:
        path.write_text(json.dumps(config))
        started.append(config)
        run_ms_lesion(str(path), {"output_dir": config["output_dir"]})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "run_config", run_config)
        yield started
