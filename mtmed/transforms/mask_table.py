"""Masks of a table ``id,class,segmentation``, one row per slice and organ, as the UW-Madison ``train.csv``."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtmed.errors import InputError
from mtmed.organ_masks import MOST_ORGANS
from mtmed.transforms.csv_table import KeptTables, table_header, table_rows
from mtmed.transforms.nifti import NiftiVolume
from mtmed.transforms.run_length import decode_run_lengths
from mtmed.transforms.slice_stack import is_slice_stack, parse_slice_name, scan_name, slice_numbers

__all__ = ["MaskTable", "read_mask_table", "table_problems", "unlisted_scans"]

_ID = re.compile(r"(?P<scan>.+)_slice_(?P<number>\d{1,18})")
_MASKS = ("segmentation", "predicted")


@dataclass(frozen=True)
class MaskTable:
    """A table of masks as run lengths (`mtmed.transforms.run_length`), parsed but not decoded.

    Attributes:
        path: the file.
        classes: names of the organs in alphabetical order; organ k is bit k of the packed masks.
        scans: for each scan (``case123_day20``), for each number of a slice, the run lengths of each organ.
        doubled: for each scan that has rows of the same slice and organ, the first such row's id and organ.
    """

    path: str
    classes: tuple[str, ...]
    scans: Mapping[str, Mapping[int, Mapping[str, str]]]
    doubled: Mapping[str, str]

    @classmethod
    def read(cls, path: str | Path) -> "MaskTable":
        """Read a table; one that did not change since it was read last is not read again.

        The columns ``id`` (``case123_day20_slice_0001``), ``class`` and ``segmentation``, or ``predicted`` as in a
        submission, are needed; others are passed over. An empty mask is an empty field (or ``nan``).

        Raises:
            InputError: the file is missing or no such table; there are more organs than `MOST_ORGANS`.
        """
        return _tables.read(path)


def read_mask_table(path: str | Path, image: NiftiVolume) -> NiftiVolume:
    """Read the masks of one scan, packed (`mtmed.organ_masks.pack_masks`), on the grid of its image.

    Args:
        path: the table.
        image: the scan, read from a folder of slices or from one slice; its name and the numbers of its slices give
            the ids of its rows.

    Returns:
        uint8 (W, H, D): bit k of a voxel is set where it belongs to organ k of `MaskTable.classes`.

    Raises:
        InputError: naming the table and the row, if it cannot be decoded for this image, or if a slice lacks a row.
    """
    table = MaskTable.read(path)
    scan, numbers = _slices(table, image)
    rows = table.scans.get(scan)
    if rows is None:
        raise InputError(path, f"has no row for the scan {scan} ({image.path})", "complete it, or leave the scan out")
    if scan in table.doubled:
        raise InputError(path, f"has two rows for {table.doubled[scan]}", "leave one of them")
    width, height, depth = (*image.data.shape, 1)[:3]
    if len(numbers) != depth:
        problem = f"holds {len(numbers)} slices now, {depth} were read"
        raise InputError(image.path, problem, "leave the folder alone while it is read")
    masks = np.zeros((depth, height, width), np.uint8)
    for index, number in enumerate(numbers):
        if number not in rows:
            problem = f"has no row for {_id(scan, number)}, whose image is in {image.path}"
            raise InputError(path, problem, "complete it with rows of an empty mask, or remove the image")
        _paint(masks[index], rows[number], table, _id(scan, number))
    return NiftiVolume(masks.T, image.affine, image.spacing[:3], {}, str(path), oriented=image.oriented)


def table_problems(path: str | Path, folders: Iterable[str | Path]) -> list[str]:
    """Rows of a table for slices that a scan lacks, one line per scan.

    Images without a row are found by `read_mask_table`, for each scan. Rows of scans in other folders are no problem of
    these, see `unlisted_scans`.

    Args:
        path: the table.
        folders: folders of slices that the table is about.

    Raises:
        InputError: see `MaskTable.read` and `mtmed.transforms.slice_stack.slice_files`.
    """
    table = MaskTable.read(path)
    problems = []
    for folder in folders:
        scan = scan_name(folder)
        rows = table.scans.get(scan, {})
        missing = sorted(set(rows) - set(slice_numbers(folder)))
        if missing:
            some = f"{len(missing)} of its {len(rows)} slices, as {_id(scan, missing[0])}"
            problem = f"has rows for {scan} without an image of {some}"
            problems.append(str(InputError(path, problem, "add the images, or remove the rows")))
    return problems


def unlisted_scans(path: str | Path, folders: Iterable[str | Path]) -> list[str]:
    """Names of the scans that a table has rows for, but that are in none of the folders.

    Raises:
        InputError: see `MaskTable.read`.
    """
    listed = {scan_name(folder) for folder in folders}
    return [scan for scan in MaskTable.read(path).scans if scan not in listed]


def _slices(table: MaskTable, image: NiftiVolume) -> tuple[str, list[int]]:
    """Name of the scan and numbers of the slices of an image."""
    place = Path(image.path)
    if is_slice_stack(place):
        return scan_name(place), slice_numbers(place)
    name = parse_slice_name(place.name)
    if name is None:
        problem = f"has masks of numbered slices, but {image.path} is no folder of slices"
        raise InputError(table.path, problem, "give the folder of slices as the image, or a label map as the label")
    return scan_name(place.parent), [name.number]


def _paint(masks: NDArray[np.uint8], row: Mapping[str, str], table: MaskTable, row_id: str) -> None:
    """Set the bits of the organs in one slice (rows, columns)."""
    rows, columns = masks.shape
    for bit, organ in enumerate(table.classes):
        if organ not in row:
            problem = f"has no row for {row_id} and {organ}"
            raise InputError(table.path, problem, "complete it; the mask of an absent organ is empty")
        if not row[organ]:
            continue
        try:
            mask = decode_run_lengths(row[organ], (rows, columns))
        except InputError as error:
            problem = f"run lengths {error.problem}"
            raise InputError(f"{table.path}: {row_id}, {organ}", problem, error.remedy) from error
        masks |= mask.view(np.uint8) << np.uint8(bit)


def _id(scan: str, number: int) -> str:
    return f"{scan}_slice_{number:04d}"


def _parse(path: Path) -> MaskTable:
    scans: dict[str, dict[int, dict[str, str]]] = {}
    doubled: dict[str, str] = {}
    header = table_header(path)
    for line, (row_id, organ, text) in table_rows(path, _columns(path, header)):
        found = _ID.fullmatch(row_id)
        if found is None or not organ:
            problem = f"line {line} has the id '{row_id}' and the class '{organ}'"
            raise InputError(path, problem, "write ids as case123_day20_slice_0001 and name the organ")
        row = scans.setdefault(found["scan"], {}).setdefault(int(found["number"]), {})
        if organ in row:
            doubled.setdefault(found["scan"], f"{row_id} and {organ}")
        row[organ] = "" if text.lower() == "nan" else text
    classes = tuple(sorted({organ for rows in scans.values() for row in rows.values() for organ in row}))
    if not 1 <= len(classes) <= MOST_ORGANS:
        problem = f"names {len(classes)} classes, expected 1 to {MOST_ORGANS}"
        raise InputError(path, problem, "give a table of masks")
    return MaskTable(str(path), classes, scans, doubled)


def _columns(path: Path, header: list[str]) -> tuple[int, int, int]:
    names = [name.strip().lower() for name in header]
    masks = next((name for name in _MASKS if name in names), None)
    if masks is None or "id" not in names or "class" not in names:
        problem = f"has the columns {', '.join(header) or 'none'}, expected id, class and {' or '.join(_MASKS)}"
        raise InputError(path, problem, "give the table of masks, with commas between its fields")
    return names.index("id"), names.index("class"), names.index(masks)


_tables = KeptTables(lambda path: _parse(path))
