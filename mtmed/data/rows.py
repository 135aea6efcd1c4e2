"""One row of a ``dataset.json``, read and written.

=============  =====================================================================================
key            meaning
=============  =====================================================================================
``image``      path relative to the file's folder, or a list with one path per modality (null: missing); a
               folder is a stack of slices
``label``      path of the label map (required in ``training``), or a list with one path per rater; several
               rows may name the same table of masks
``maps``       further voxel maps of whole numbers on the image's grid, ``{"tissue": path}``
``id``         name of the case; default: the image's file name without ``.nii`` or ``.nii.gz``
``patient``    whose examination it is, the unit of splitting; in all rows or in none
``visit``      day or time point (needs ``patient``)
``slice``      slice number, for sets of 2D slices (needs ``patient``)
``fold``       fold given by the data set's authors
``part``       ``training``, ``validation`` or ``test``, which the row keeps (`mtmed.data.parts`); in all rows
               of ``training`` or in none, and in no row of ``test``
``metadata``   anything else that is known of the case
=============  =====================================================================================
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unicodedata import category

from mtmed.data.case import Case
from mtmed.data.recorded_split import PARTS
from mtmed.errors import InputError

__all__ = ["RESERVED_MAPS", "ROW_KEYS", "file_stem", "format_row", "parse_row", "refuse_duplicates"]

ROW_KEYS = ("image", "label", "maps", "id", "patient", "visit", "slice", "fold", "part", "metadata")
RESERVED_MAPS = ("image", "label", "patient", "case", "output_name", "volume", "distance", "foreground")
"""Names that a map cannot have, since the samples made of a case have entries of these names."""

_NAME = "a name"
_UNPRINTED = ("Cc", "Cs")  # Unicode's control characters and lone surrogates


def parse_row(
    row: object, culprit: str, folder: Path, dataset: str, channels: int, *, labelled: bool
) -> tuple[Case, bool]:
    """Turn a row into a case.

    Args:
        row: the row; in ``test`` it may be the path of the image alone.
        culprit: file and row, for messages.
        folder: what the paths are relative to.
        dataset: name of the data set.
        channels: number of modalities.
        labelled: whether a label is required.

    Returns:
        The case, and whether the row says whose it is.

    Raises:
        InputError: naming the row, if it lacks a key, has an unknown one or a value of the wrong type.
    """
    if isinstance(row, str) and not labelled:
        row = {"image": row}
    if not isinstance(row, dict):
        raise InputError(culprit, f"is {row!r}, not a row", 'write {"image": path, "label": path}')
    unknown = sorted(set(row) - set(ROW_KEYS))
    if unknown:
        raise InputError(culprit, f"has the unknown key '{unknown[0]}'", f"use {', '.join(ROW_KEYS)}")

    def value(key: str, kind: type | tuple[type, ...], wanted: str) -> Any:
        found = row.get(key)
        if found is not None and (not isinstance(found, kind) or isinstance(found, bool) or found == ""):
            raise InputError(culprit, f"'{key}' is {found!r}", f"give {wanted}")
        if wanted == _NAME and any(category(letter) in _UNPRINTED for letter in str(found or "")):
            raise InputError(culprit, f"'{key}' is {found!r}", "give a name without control characters")
        return found

    def absolute(path: str) -> str:
        return str(folder.absolute() / path)

    image = value("image", (str, list), "a path, or a list of paths")
    images = [image] if isinstance(image, str) else image
    present = [item for item in images or () if item is not None]
    if not images or not present or not all(isinstance(item, str) and item for item in present):
        raise InputError(culprit, f"'image' is {image!r}", "give a path, or a list of paths")
    if isinstance(image, list) and len(image) != channels:
        raise InputError(culprit, f"has {len(image)} images for {channels} modalities", "list one path per modality")
    label = value("label", (str, list), "a path, or a list with one path per rater")
    labels = [label] if isinstance(label, str) else label or []
    if not all(isinstance(item, str) and item for item in labels):
        raise InputError(culprit, f"'label' is {label!r}", "give a path, or a list with one path per rater")
    if labelled and not labels:
        raise InputError(culprit, "has no 'label'", "give its path, or move the row to 'test'")
    maps = value("maps", dict, "an object of names and paths") or {}
    if not all(isinstance(item, str) and item for item in maps.values()):
        raise InputError(culprit, f"'maps' is {maps!r}", 'give names and paths: {"tissue": path}')
    reserved = sorted(set(maps) & set(RESERVED_MAPS))
    if reserved:
        raise InputError(culprit, f"'maps' has the name '{reserved[0]}', which is taken", "give the map another name")
    patient = value("patient", (str, int), _NAME)
    visit = value("visit", (str, int), _NAME)
    slice_number = value("slice", int, "a whole number")
    if patient is None and not (visit is None and slice_number is None):
        raise InputError(culprit, "has 'visit' or 'slice' but no 'patient'", "say whose it is, so that splits keep it")
    fold = value("fold", int, "a whole number from 0")
    if fold is not None and fold < 0:
        raise InputError(culprit, f"'fold' is {fold}", "give a whole number from 0")
    part = value("part", str, "a name")
    if part is not None and (part not in PARTS or not labelled):
        remedy = f"use one of {', '.join(PARTS)}" if labelled else "give parts to rows of 'training' only"
        raise InputError(culprit, f"'part' is '{part}'", remedy)
    case_id = str(value("id", (str, int), _NAME) or file_stem(present[0]))
    case = Case(
        id=case_id,
        image=tuple(None if item is None else absolute(item) for item in images),
        label=absolute(labels[0]) if labels else None,
        group=case_id if patient is None else str(patient),
        dataset=dataset,
        visit=None if visit is None else str(visit),
        slice=slice_number,
        fold=fold,
        part=part,
        metadata=value("metadata", dict, "an object") or {},
        raters=tuple(map(absolute, labels[1:])),
        maps={name: absolute(item) for name, item in maps.items()},
    )
    return case, patient is not None


def format_row(case: Case, folder: Path, has_groups: bool) -> dict[str, Any]:
    """Turn a case into a row; paths inside ``folder`` become relative to it, keys at their default are left out."""

    def relative(path: str | None) -> str | None:
        inside = path is not None and Path(path).is_relative_to(folder)
        return f"./{Path(path).relative_to(folder).as_posix()}" if path is not None and inside else path

    image = [relative(path) for path in case.image]
    labels = [relative(path) for path in case.labels]
    row = {
        "image": image[0] if len(image) == 1 else image,
        "label": (labels[0] if len(labels) == 1 else labels) if labels else None,
        "maps": {name: relative(path) for name, path in case.maps.items()} or None,
        "id": None if case.id == file_stem(case.images[0]) else case.id,
        "patient": case.group if has_groups else None,
        "visit": case.visit,
        "slice": case.slice,
        "fold": case.fold,
        "part": case.part,
        "metadata": dict(case.metadata) or None,
    }
    return {key: item for key, item in row.items() if item is not None}


def refuse_duplicates(file: Path, lists: Mapping[str, Sequence[Case]]) -> None:
    """Refuse two rows with the same id or image.

    Args:
        file: the manifest, for messages.
        lists: cases of each list of the file, in its order.

    Raises:
        InputError: naming the second row.
    """
    ids: dict[str, str] = {}
    images: dict[str, str] = {}
    for name, cases in lists.items():
        for index, case in enumerate(cases):
            row = f"{name}[{index}]"
            # the same file name in two folders is common, so the remedy names "id"
            if case.id in ids:
                problem = f"has the same id '{case.id}' as {ids[case.id]}"
                raise InputError(f"{file} {row}", problem, "remove one row, or give them different 'id'")
            ids[case.id] = row
            for image in map(os.path.normpath, case.images):
                if image in images:
                    raise InputError(f"{file} {row}", f"has the same image as {images[image]}: {image}", "remove one")
                images[image] = row


def file_stem(path: str) -> str:
    """File name without ``.nii``, ``.nii.gz`` or another ending: the default name of a case."""
    name = Path(path).name
    for suffix in (".nii.gz", ".nii"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return Path(name).stem
