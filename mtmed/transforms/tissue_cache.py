"""Tissue maps kept on disk, because the same T1 comes again for every fold and variant."""

import gzip
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from mtmed.errors import InputError
from mtmed.files import atomic_file, remove_fragments, require_writable_folder
from mtmed.transforms.nifti import read_nifti
from mtmed.transforms.tissue_segmentation import segment_tissue, tissue_method
from mtmed.transforms.tissue_tables import TISSUE_NAMES

__all__ = ["cached_tissue", "tissue_key"]

logger = logging.getLogger(__name__)


def tissue_key(t1: NDArray[Any], *, spacing: Sequence[float]) -> str:
    """Name of a scan's tissue map: BLAKE2b of voxels, shape, spacing (to 1 um) and `tissue_method`.

    Raises:
        InputError: dipy is not installed.
    """
    lengths = [round(float(length), 3) for length in spacing]
    digest = hashlib.blake2b(f"{tissue_method()} {t1.shape} {lengths}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(t1, dtype=np.float32).data)
    return digest.hexdigest()


def cached_tissue(
    t1: NDArray[Any],
    *,
    affine: NDArray[np.float64],
    cache_dir: str | Path,
    name: object = "T1",
) -> NDArray[np.uint8]:
    """`segment_tissue` of a scan, from the cache if it is there.

    Each map is a file ``<key>.nii.gz`` on the scan's grid, which any viewer opens. Of several processes that want the
    same map, one makes it and the others wait. A damaged file is made again, with a notice.

    Args:
        t1: see `segment_tissue`.
        affine: voxel index to RAS+ mm; gives the spacing.
        cache_dir: folder of the maps; made if needed.
        name: what errors call the scan.

    Raises:
        InputError: see `segment_tissue`; or the folder cannot be written.
    """
    folder = require_writable_folder(Path(cache_dir).expanduser())
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    path = folder / f"{tissue_key(t1, spacing=spacing)}.nii.gz"
    kept = _read(path, t1.shape)
    if kept is not None:
        return kept
    with FileLock(path.with_name(f".{path.name}.lock")):
        kept = _read(path, t1.shape)
        if kept is not None:
            return kept
        if path.exists():
            logger.warning("%s: the tissue map is damaged and is made anew", path)
        remove_fragments(folder, name=path.name)
        tissue = segment_tissue(t1, spacing=spacing.tolist(), name=name)
        content = nib.Nifti1Image(tissue, affine).to_bytes()
        with atomic_file(path) as file:
            file.write(gzip.compress(content, 4, mtime=0))
        return tissue


def _read(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """Read a whole map, or nothing if it is missing or damaged (gzip's checksum covers all of it)."""
    try:
        tissue: NDArray[Any] = read_nifti(path).data
    except InputError:
        return None
    whole = tissue.shape == shape and tissue.dtype == np.uint8 and tissue.max() in TISSUE_NAMES
    return tissue if whole else None
