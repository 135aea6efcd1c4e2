"""One row of a ``dataset.json``, read and written.

=============  =====================================================================================
key            meaning
=============  =====================================================================================
``image``      path relative to the file's folder, or a list with one path per modality
``label``      path of the label map (required in ``training``)
``id``         name of the case; default: the image's file name without ``.nii`` or ``.nii.gz``
``patient``    whose examination it is, the unit of splitting; in all rows or in none
``visit``      day or time point (needs ``patient``)
``slice``      slice number, for sets of 2D slices (needs ``patient``)
``fold``       fold given by the data set's authors
``metadata``   anything else that is known of the case
=============  =====================================================================================
"""

from pathlib import Path
from typing import Any

from mtmed.data.case import Case
from mtmed.errors import InputError

__all__ = ["ROW_KEYS", "file_stem", "format_row", "parse_row"]

ROW_KEYS = ("image", "label", "id", "patient", "visit", "slice", "fold", "metadata")


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
        return found

    image = value("image", (str, list), "a path, or a list of paths")
    images = [image] if isinstance(image, str) else image
    if not images or not all(isinstance(item, str) and item for item in images):
        raise InputError(culprit, f"'image' is {image!r}", "give a path, or a list of paths")
    if isinstance(image, list) and len(image) != channels:
        raise InputError(culprit, f"has {len(image)} images for {channels} modalities", "list one path per modality")
    label = value("label", str, "a path")
    if labelled and label is None:
        raise InputError(culprit, "has no 'label'", "give its path, or move the row to 'test'")
    patient = value("patient", (str, int), "a name")
    visit = value("visit", (str, int), "a name")
    slice_number = value("slice", int, "a whole number")
    if patient is None and not (visit is None and slice_number is None):
        raise InputError(culprit, "has 'visit' or 'slice' but no 'patient'", "say whose it is, so that splits keep it")
    fold = value("fold", int, "a whole number from 0")
    if fold is not None and fold < 0:
        raise InputError(culprit, f"'fold' is {fold}", "give a whole number from 0")
    case_id = str(value("id", (str, int), "a name") or file_stem(images[0]))
    case = Case(
        id=case_id,
        image=tuple(str(folder.absolute() / item) for item in images),
        label=None if label is None else str(folder.absolute() / label),
        group=case_id if patient is None else str(patient),
        dataset=dataset,
        visit=None if visit is None else str(visit),
        slice=slice_number,
        fold=fold,
        metadata=value("metadata", dict, "an object") or {},
    )
    return case, patient is not None


def format_row(case: Case, folder: Path, has_groups: bool) -> dict[str, Any]:
    """Turn a case into a row; paths inside ``folder`` become relative to it, keys at their default are left out."""

    def relative(path: str) -> str:
        return f"./{Path(path).relative_to(folder).as_posix()}" if Path(path).is_relative_to(folder) else path

    image: str | list[str] = relative(case.image[0]) if len(case.image) == 1 else [relative(p) for p in case.image]
    row = {
        "image": image,
        "label": None if case.label is None else relative(case.label),
        "id": None if case.id == file_stem(case.image[0]) else case.id,
        "patient": case.group if has_groups else None,
        "visit": case.visit,
        "slice": case.slice,
        "fold": case.fold,
        "metadata": dict(case.metadata) or None,
    }
    return {key: item for key, item in row.items() if item is not None}


def file_stem(path: str) -> str:
    """File name without ``.nii``, ``.nii.gz`` or another ending: the default name of a case."""
    name = Path(path).name
    for suffix in (".nii.gz", ".nii"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return Path(name).stem
