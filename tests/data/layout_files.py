"""Folders of data sets, of files with the right names and nothing in them."""

from pathlib import Path

import nibabel as nib
import numpy as np

from mtmed.data.manifest import Manifest

__all__ = ["pairs", "text", "touch"]


def touch(folder: Path, *names: str) -> None:
    """Tiny volumes under the given names."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), path)


def text(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("not an image")


def pairs(manifest: Manifest) -> list[tuple[str, str, str, str]]:
    """Name, patient, image and label of each labelled case."""
    folder = manifest.folder
    return [
        (case.id, case.group, str(Path(case.image[0]).relative_to(folder)), str(Path(case.label).relative_to(folder)))
        for case in manifest.cases
        if case.label is not None
    ]
