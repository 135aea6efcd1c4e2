"""The KiTS19 challenge: label maps of its 90 hidden cases."""

import gzip
import re
import zlib
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from mtmed.errors import InputError
from mtmed.submission.packing import label_map_bytes, prediction_files, require_new_zip, write_zip

if TYPE_CHECKING:
    from mtmed.transforms.nifti import NiftiVolume

__all__ = ["write_kits_submission"]

_CASES = range(210, 300)
_CASE = re.compile(r"(?<![a-z])case_(\d{5})(?!\d)")
_ORIENTATION = ("I", "P", "L")
_HIGHEST = 2  # 0 background, 1 kidney, 2 tumour
_ON_ITS_GRID = "predict the challenge's image as it is, so that the label map lies on its grid"


def write_kits_submission(
    predictions: str | Path | Sequence[str | Path], *, output: str | Path, images: str | Path | None = None
) -> dict[str, Path]:
    """Pack label maps of the KiTS19 challenge's hidden cases for its evaluation website.

    The zip has one file of 0 background, 1 kidney and 2 tumour (8 bits) per case, ``prediction_00210.nii.gz`` to
    ``prediction_00299.nii.gz``, without folders, on the grid of the case's image and with the header of the prediction.

    Confirmed by the challenge's rules (kits19.grand-challenge.org/rules): names, compression, label values, the 90
    cases and a zip made inside their folder; a missing case counts as all background. Confirmed by its repository
    (neheller/kits19): arrays are slices, rows, columns with the axes I, P, L, and its evaluation compares arrays of the
    same shape voxel by voxel without a look at the affine. Not confirmed: that the website runs that evaluation
    unchanged. It also asks for a PDF manuscript, which is not part of the zip.

    Args:
        predictions: a folder of label maps, or a list of folders and label maps. Each file's name must hold
            ``case_XXXXX``, as those do that ``inference.json`` writes for several cases.
        output: zip file to write.
        images: folder of the challenge's cases (``case_00210/imaging.nii.gz``, or ``data`` above them), with whose
            shapes and affines the predictions are compared; None compares nothing.

    Returns:
        The prediction taken for each case, in order.

    Raises:
        InputError: if a case is missing, unknown or there twice, a file is not three-dimensional, has other axes or
            other values, is not on its image's grid, or the zip exists already or cannot be written.
    """
    output = require_new_zip(output)
    cases = _cases(prediction_files(predictions))
    grids = {} if images is None else {case: _grid(_image(Path(images), case)) for case in cases}
    maps = (
        (
            f"prediction_{case[-5:]}.nii.gz",
            _zipped(label_map_bytes(path, highest=_HIGHEST, require=partial(_require_grid, grids.get(case)))),
        )
        for case, path in cases.items()
    )
    write_zip(output, maps)
    return cases


def _cases(files: Sequence[Path]) -> dict[str, Path]:
    """File of each case; all hidden cases, each once."""
    cases: dict[str, Path] = {}
    for path in files:
        match = _CASE.search(path.name.lower())
        if match is None:
            raise InputError(path, "has no case (case_XXXXX) in its name", "pass predictions of the hidden cases only")
        if int(match[1]) not in _CASES:
            problem = f"is of {match[0]}, the hidden cases are case_{_CASES[0]:05} to case_{_CASES[-1]:05}"
            raise InputError(path, problem, "leave it out")
        if match[0] in cases:
            problem = f"is a second file for {match[0]}, beside {cases[match[0]]}"
            raise InputError(path, problem, "pass one label map per case, for example predictions/*_seg.nii.gz")
        cases[match[0]] = path
    missing = [case for case in (f"case_{number:05}" for number in _CASES) if case not in cases]
    if missing:
        problem = f"and {len(missing) - 1} other cases have no prediction"
        raise InputError(missing[0], problem, f"predict all {len(_CASES)} hidden cases")
    return dict(sorted(cases.items()))


def _image(folder: Path, case: str) -> Path:
    """The image of a case below the challenge's folder."""
    for path in (folder / case / "imaging.nii.gz", folder / "data" / case / "imaging.nii.gz"):
        if path.is_file():
            return path
    raise InputError(folder, f"has no {case}/imaging.nii.gz", "pass --images with the folder of the challenge's cases")


def _grid(path: Path) -> "NiftiVolume":
    """Shape and affine of an image; its voxels, which may be many, are not read."""
    import nibabel as nib
    import numpy as np
    from nibabel.filebasedimages import ImageFileError

    from mtmed.transforms.nifti import NiftiVolume, check_file

    check_file(path)
    try:
        image = nib.load(path)
    except (ImageFileError, OSError, EOFError, zlib.error) as error:
        raise InputError(path, f"cannot be read ({error})", "copy or download the file again") from error
    spacing = tuple(float(length) for length in nib.affines.voxel_sizes(image.affine))
    return NiftiVolume(np.broadcast_to(np.uint8(0), image.shape), image.affine, spacing, {}, str(path))


def _require_grid(image: "NiftiVolume | None", prediction: "NiftiVolume") -> None:
    import nibabel as nib

    from mtmed.transforms.nifti import shape_text
    from mtmed.transforms.reading import check_same_grid

    shape = prediction.data.shape
    if len(shape) != 3:
        raise InputError(prediction.path, f"has {shape_text(shape)} voxels, not three axes", "pass the label maps")
    axes = nib.aff2axcodes(prediction.affine)
    if axes != _ORIENTATION:
        given, wanted = (", ".join(map(str, codes)) for codes in (axes, _ORIENTATION))
        raise InputError(prediction.path, f"has the axes {given}, the challenge's are {wanted}", _ON_ITS_GRID)
    if image is not None:
        try:
            check_same_grid(image, prediction)
        except InputError as error:
            raise InputError(error.culprit, error.problem, _ON_ITS_GRID) from None


def _zipped(content: bytes) -> bytes:
    """Gzip without name and time."""
    stream = BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=stream, compresslevel=4, mtime=0) as zipped:
        zipped.write(content)
    return stream.getvalue()
