"""Label maps back on the grid of the image they were made from, and safely on disk."""

import gzip
import json
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray
from scipy import ndimage

from mtmed.errors import InputError
from mtmed.files import atomic_file, require_writable_folder
from mtmed.transforms.slice_stack import scan_name

__all__ = [
    "SaveLabelMapd",
    "atomic_file",
    "label_map_stem",
    "require_writable_folder",
    "resample_label_to",
    "write_nifti_label",
]

_NIFTI_SUFFIXES = (".nii.gz", ".nii")
_TOLERANCE = 1e-3  # of a voxel: rounding of affines stored in single precision


def resample_label_to(
    label: NDArray[Any], affine: NDArray[Any], like_shape: Sequence[int], like_affine: NDArray[Any]
) -> NDArray[Any]:
    """Label of the nearest voxel in world coordinates, for every voxel of another grid.

    Voxel k of the other grid lies at ``inv(affine) @ like_affine @ k`` of the label's, whose nearest index is taken.
    What lies outside of the label's outermost voxels is background (0).

    Args:
        label: labels H W D.
        affine: voxel index to mm of the label's grid, 4 x 4.
        like_shape: shape of the other grid.
        like_affine: voxel index to mm of the other grid, 4 x 4.

    Returns:
        Labels of the shape `like_shape` and the dtype of `label`.
    """
    shape = tuple(int(side) for side in like_shape)
    matrix = np.linalg.inv(np.asarray(affine, np.float64)) @ np.asarray(like_affine, np.float64)
    linear, offset = matrix[:3, :3], matrix[:3, 3]
    source_axes = [int(np.argmax(np.abs(linear[:, axis]))) for axis in range(3)]
    straight = np.zeros_like(linear)
    for axis, source in enumerate(source_axes):
        straight[source, axis] = linear[source, axis]
    astray = np.abs(linear - straight) @ np.asarray(shape)
    if sorted(source_axes) == [0, 1, 2] and astray.max() < _TOLERANCE:
        return _resample_along_axes(label, straight, offset, shape, source_axes)
    coordinates_inside = np.ones(shape, dtype=bool)
    grids = np.ogrid[tuple(slice(side) for side in shape)]
    for source, side in enumerate(label.shape):
        place = sum(linear[source, axis] * grids[axis] for axis in range(3)) + offset[source]
        coordinates_inside &= (place > -0.5 - _TOLERANCE) & (place < side - 0.5 + _TOLERANCE)
    nearest = ndimage.affine_transform(label, linear, offset, output_shape=shape, order=0, mode="nearest")
    return np.asarray(np.where(coordinates_inside, nearest, label.dtype.type(0)))


def _resample_along_axes(
    label: NDArray[Any], linear: NDArray[Any], offset: NDArray[Any], shape: tuple[int, ...], source_axes: Sequence[int]
) -> NDArray[Any]:
    picked = np.transpose(label, source_axes)
    for axis, source in enumerate(source_axes):
        side = label.shape[source]
        place = linear[source, axis] * np.arange(shape[axis]) + offset[source]
        index = np.clip(np.floor(place + 0.5).astype(np.int64), 0, side - 1)
        outside = (place <= -0.5 - _TOLERANCE) | (place >= side - 0.5 + _TOLERANCE)
        picked = np.take(picked, index, axis=axis)
        if outside.any():
            picked[(slice(None),) * axis + (outside,)] = 0
    return np.ascontiguousarray(picked)


def write_nifti_label(
    path: str | Path,
    label: NDArray[Any],
    *,
    like: str | Path,
    affine: NDArray[Any] | None = None,
    highest_label: int | None = None,
) -> None:
    """Write a label map as NIfTI with the geometry of an image: shape, affine, sform and qform codes, units.

    The same labels and image always give the same bytes (no time stamp in the gzip header).

    Args:
        path: file to write, ``.nii`` or ``.nii.gz``.
        label: labels on the image's own grid, integers.
        like: the image, a file or a folder of slices. NIfTI headers are taken over as they are.
        affine: voxel index to RAS+ mm, for images of other formats than NIfTI.
        highest_label: highest label value there can be, which decides the integer type for all cases alike; None takes
            that of this label map.

    Raises:
        InputError: if the labels are not whole numbers in the range of the type, have another number of voxels than the
            image, or the file cannot be written.
    """
    path = Path(path)
    if path.resolve() == Path(like).resolve():
        raise InputError(path, "is the input image, which is never overwritten", "choose another output_dir")
    whole = _as_smallest_integer(path, label, highest_label)
    image = _with_geometry_of(path, whole, Path(like), affine)
    with atomic_file(path) as file:
        if path.name.endswith(".gz"):
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=4, mtime=0) as zipped:
                image.to_stream(zipped)
        else:
            image.to_stream(file)


def _as_smallest_integer(path: Path, label: NDArray[Any], highest_label: int | None) -> NDArray[Any]:
    if label.size == 0:
        raise InputError(path, "the label map has no voxels", "check the input image")
    low, high = float(label.min()), float(label.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError(path, "the label map holds values that are not finite", "check the network's output")
    most = int(high) if highest_label is None else highest_label
    if low < 0 or high > most:
        raise InputError(path, f"label values {low:g} to {high:g} do not fit 0 to {most}", "check label_names")
    if label.dtype.kind == "f" and not np.array_equal(label, np.rint(label)):
        raise InputError(path, "the label map holds fractions", "write labels, not probabilities")
    dtype = next((kind for kind in (np.uint8, np.int16, np.int32) if most <= np.iinfo(kind).max), None)
    if dtype is None:
        raise InputError(path, f"label value {most} does not fit 32 bits", "renumber the labels")
    return label.astype(dtype)


def _with_geometry_of(path: Path, label: NDArray[Any], like: Path, affine: NDArray[Any] | None) -> Any:
    if not like.name.lower().endswith(_NIFTI_SUFFIXES):
        if affine is None:
            raise InputError(like, "is not a NIfTI file and its affine is unknown", "convert it to .nii.gz")
        image = nib.Nifti1Image(label, affine)
        image.header.set_xyzt_units("mm")
        return image
    source = nib.load(like)
    header = source.header.copy()
    shape = source.shape
    if int(np.prod(shape)) != label.size or shape[: label.ndim] != label.shape:
        if label.ndim != 3 or shape[:3] != label.shape:
            problem = f"the label map has the shape {label.shape}, {like} has {shape}"
            raise InputError(path, problem, "resample the label map to the image's grid first")
        shape = shape[:3]
    header.set_data_dtype(label.dtype)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    header["descrip"] = b""
    header.set_intent("none")
    second = isinstance(header, nib.Nifti2Header)
    kind = nib.Nifti2Image if second else nib.Nifti1Image
    return kind(label.reshape(shape), None, header)


def label_map_stem(source: str | Path) -> str:
    """Name of an image without folder and format: ``"ct"`` of ``"/data/ct.nii.gz"``.

    Of a folder of slices, the name of the scan: ``"case123_day20"`` of ``"/data/case123/case123_day20/scans"``.
    """
    if Path(source).is_dir():
        return scan_name(source)
    name = Path(source).name
    for suffix in _NIFTI_SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return Path(name).stem


class SaveLabelMapd(MapTransform):
    """Write predicted label maps on the grid of the images they were made from, each with a small JSON beside it.

    For a bundle's ``postprocessing``. A prediction is a `MetaTensor` (1, H, W, D) on the network's grid with the
    meta data of its image (``affine``, ``original_affine``, ``spatial_shape``, ``filename_or_obj``), as MONAI's readers
    and inferers leave them. The file is called like the image (`label_map_stem`) with a suffix; if the data have an
    entry `name_key`, then like that. Of images that are no NIfTI, PNG slices among them, it has shape and affine in mm.

    Args:
        keys: entries with label maps.
        output_dir: folder for the files; it is made and tried at once.
        label_names: name of each label value; the highest value decides the integer type.
        record: what the JSON shall say beside image and label names: model hash, version, network definition.
        suffix: appended to the image's name.
        name_key: entry with the file's name without ending, where two images have one name (see
            `mtmed.inferers.inference_cases`).

    Raises:
        InputError: if the folder cannot be written, if two images would give the same file, if a label map does not fit
            its image, or if the disk is full.
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | Path,
        *,
        label_names: Mapping[int | str, str],
        record: Mapping[str, Any] | None = None,
        suffix: str = "_seg",
        name_key: str = "output_name",
    ) -> None:
        super().__init__(keys)
        if not suffix:
            raise ValueError("suffix is empty; label maps could take the names of their images.")
        self.output_dir = require_writable_folder(output_dir)
        self.label_names = {int(value): name for value, name in label_names.items()}
        self.record = dict(record or {})
        self.suffix = suffix
        self.name_key = name_key
        self._written: dict[Path, str] = {}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write each label map; the data are passed on as they are."""
        result = dict(data)
        for key in self.key_iterator(result):
            self._save(result[key], result.get(self.name_key))
        return result

    def _save(self, prediction: MetaTensor, name: str | None) -> None:
        meta = prediction.meta
        source = str(meta["filename_or_obj"])
        path = self.output_dir / f"{name or label_map_stem(source)}{self.suffix}.nii.gz"
        if self._written.setdefault(path, source) != source:
            problem = f"would hold the label maps of both {self._written[path]} and {source}"
            raise InputError(path, problem, "predict them into different folders")
        original = np.asarray(meta["original_affine"], np.float64)
        shape = [int(side) for side in meta["spatial_shape"]]
        label = np.asarray(prediction.as_tensor()[0].cpu())
        own = resample_label_to(label, np.asarray(prediction.affine.cpu(), np.float64), shape, original)
        highest = max(self.label_names)
        write_nifti_label(path, own, like=source, affine=original, highest_label=highest)
        record = {
            "image": source,
            "label_names": {str(k): v for k, v in sorted(self.label_names.items())},
        } | self.record
        with atomic_file(path.with_name(path.name.removesuffix(".nii.gz") + ".json")) as file:
            file.write((json.dumps(record, indent=4, default=str) + "\n").encode())
