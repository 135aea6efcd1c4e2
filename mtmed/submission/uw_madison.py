"""The UW-Madison GI Tract Image Segmentation competition: run lengths of its test scans."""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtmed.errors import InputError
from mtmed.files import atomic_file, require_writable_folder
from mtmed.submission.packing import prediction_files

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ORGANS", "write_uw_madison_submission"]

ORGANS = ("large_bowel", "small_bowel", "stomach")
"""The competition's classes; three rows per slice, in this order."""

_SCAN = re.compile(r"(?<![a-z0-9])case\d+_day\d+(?!\d)")
_ON_ITS_GRID = "predict the images of --images as they are, so that the label map lies on their grid"


def write_uw_madison_submission(
    predictions: str | Path | Sequence[str | Path], *, output: str | Path, images: str | Path
) -> dict[str, Path]:
    """Write the competition's ``submission.csv`` from packed label maps, one per scan.

    Columns are ``id`` (``case123_day20_slice_0001``), ``class`` and ``predicted``: run lengths of the mask, row by row,
    the first pixel is 1 (`mtmed.transforms.run_length`), empty if there is none. Each slice has three rows. What a
    value of the label map means says the JSON file beside it, as `mtmed.transforms.SaveLabelMapd` writes it.

    Confirmed by the competition's page and its ``sample_submission.csv``: the columns, the ids and the run lengths. Not
    confirmed: whether the order of the rows matters; they are sorted by scan, slice and class.

    Args:
        predictions: a folder of label maps, or a list of folders and label maps. The scan of each is found by its name,
            ``case123_day20_seg.nii.gz``, as ``inference.json`` writes it.
        output: CSV file to write.
        images: folder of the scans (``case123/case123_day20/scans/slice_0001_266_266_1.50_1.50.png``), at any depth;
            every slice in it gets its rows exactly once.

    Returns:
        The prediction taken for each scan, in order.

    Raises:
        InputError: if a scan has no prediction or two, a prediction no scan, it lies on another grid or names no organ
            of the competition, or the file exists already or cannot be written.
    """
    output = Path(output)
    if output.suffix != ".csv":
        raise InputError(output, "does not end in .csv", "name a table, for example submission.csv")
    if output.exists():
        raise InputError(output, "exists already", "remove it or name another file")
    scans = _scans(Path(images))
    chosen = _predictions_of(prediction_files(predictions), scans)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "class", "predicted"])
    for scan, path in chosen.items():
        writer.writerows(_rows(scan, scans[scan], path))
    require_writable_folder(output.parent)
    with atomic_file(output) as file:
        file.write(text.getvalue().encode())
    return chosen


def _scans(images: Path) -> dict[str, Path]:
    """Folder of slices of each scan, sorted by patient and day."""
    from mtmed.transforms.slice_stack import parse_slice_name, scan_name

    if not images.is_dir():
        raise InputError(images, "no such folder", "pass --images with the folder of the competition's scans")
    found: dict[str, Path] = {}
    for folder in sorted({path.parent for path in images.rglob("*.png") if parse_slice_name(path.name)}):
        scan = scan_name(folder)
        if _SCAN.fullmatch(scan) is None:
            raise InputError(folder, f"holds slices of {scan!r}, which is no scan", "name it as case123_day20/scans")
        if scan in found:
            raise InputError(folder, f"is a second folder of {scan}, beside {found[scan]}", "leave one of them out")
        found[scan] = folder
    if not found:
        problem = "holds no slices named as slice_0001_266_266_1.50_1.50.png"
        raise InputError(images, problem, "pass --images with the folder of the competition's scans")
    return dict(sorted(found.items(), key=lambda item: _numbers(item[0])))


def _predictions_of(files: Sequence[Path], scans: Mapping[str, Path]) -> dict[str, Path]:
    """Label map of each scan, in the order of the scans; each has one."""
    found: dict[str, Path] = {}
    for path in files:
        match = _SCAN.search(path.name)
        if match is None:
            raise InputError(path, "has no scan (case123_day20) in its name", "pass predictions of these scans only")
        scan = match[0]
        if scan not in scans:
            raise InputError(path, f"is of {scan}, which is not among the images", "leave it out")
        if scan in found:
            problem = f"is a second file for {scan}, beside {found[scan]}"
            raise InputError(path, problem, "pass one label map per scan, for example predictions/*_seg.nii.gz")
        found[scan] = path
    missing = [scan for scan in scans if scan not in found]
    if missing:
        problem = f"and {len(missing) - 1} other scans have no prediction"
        raise InputError(missing[0], problem, f"predict all {len(scans)} scans of the images")
    return {scan: found[scan] for scan in scans}


def _rows(scan: str, folder: Path, prediction: Path) -> list[tuple[str, str, str]]:
    """Three rows for each slice of a scan."""
    import numpy as np

    from mtmed.transforms.run_length import encode_run_lengths
    from mtmed.transforms.slice_stack import slice_numbers

    labels = _label_map(prediction, folder)
    values = _organ_values(prediction)
    rows = []
    for index, number in enumerate(slice_numbers(folder)):
        plane = labels[:, :, index].T  # rows, columns
        for organ in ORGANS:
            rows.append((f"{scan}_slice_{number:04d}", organ, encode_run_lengths(np.isin(plane, values[organ]))))
    return rows


def _label_map(path: Path, folder: Path) -> "NDArray[np.generic]":
    """Voxels (columns, rows, slices) of a prediction that lies on the grid of its slices."""
    import numpy as np

    from mtmed.transforms.nifti import NiftiVolume, read_nifti
    from mtmed.transforms.png import read_png
    from mtmed.transforms.reading import check_same_grid
    from mtmed.transforms.slice_stack import slice_files

    files = slice_files(folder)
    first = read_png(files[0])
    shape = (*first.data.shape[:2], len(files))
    grid = NiftiVolume(np.broadcast_to(np.uint8(0), shape), first.affine, first.spacing, {}, str(folder))
    volume = read_nifti(path)
    try:
        check_same_grid(grid, volume)
    except InputError as error:
        raise InputError(error.culprit, error.problem, _ON_ITS_GRID) from None
    return np.asarray(volume.data).reshape(shape)


def _organ_values(prediction: Path) -> dict[str, list[int]]:
    """Values of a label map in which each organ is, from the names in the JSON file beside it."""
    path = prediction.with_name(prediction.name.removesuffix(".gz").removesuffix(".nii") + ".json")
    try:
        names = {int(value): str(name) for value, name in json.loads(path.read_text())["label_names"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        problem = f"does not say what the values of {prediction.name} are ({error!r})"
        raise InputError(path, problem, "keep the JSON file that is written with each label map") from None
    parts = {value: name.casefold().replace(" + ", "+").replace(" ", "_").split("+") for value, name in names.items()}
    found = {organ: [value for value, own in parts.items() if organ in own] for organ in ORGANS}
    lacking = [organ for organ, values in found.items() if not values]
    if lacking:
        problem = f"names no {lacking[0]} among {', '.join(names.values())}"
        raise InputError(path, problem, f"predict with a network of {', '.join(ORGANS)}")
    return found


def _numbers(scan: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", scan)))
