"""Which cases to predict: one by its modalities, images, or the test cases of a cohort; each with an output name."""

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mtmed.data.case import Case
from mtmed.data.feature_check import metadata_numbers
from mtmed.data.manifest import MANIFEST_NAME, load_cohort
from mtmed.data.modalities import select_modalities
from mtmed.data.rows import parse_row
from mtmed.errors import InputError
from mtmed.output_name import output_name
from mtmed.transforms.dicom import DICOM_SUFFIXES
from mtmed.transforms.dicom_folder import has_dicom_name, is_dicom_series
from mtmed.transforms.slice_stack import is_slice_stack, parse_slice_name, scan_name
from mtmed.transforms.writing import label_map_stem

__all__ = ["inference_cases", "require_checkpoint"]

_PATH = (str, Path)
_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".png", *DICOM_SUFFIXES)
_NUMBERED = re.compile(r"case(?P<case_number>\d+)_day(?P<day_number>\d+)")


def require_checkpoint(path: str | None) -> str:
    """The path of the weights, which has no default.

    Raises:
        InputError: if it is None, saying where training writes it.
    """
    if path is None:
        remedy = "pass --checkpoint runs/<run>/model.pt; fine-tuning writes it and names it in its last line"
        raise InputError("checkpoint", "is not given", remedy)
    return path


def inference_cases(
    source: str | Path | Mapping[str, Any] | Sequence[str | Path],
    *,
    modalities: Sequence[str],
    allow_missing: bool = False,
) -> list[dict[str, Any]]:
    """List the cases to predict.

    Args:
        source: one of

            * one case by the names of its modalities, ``{"FLAIR": path, "T1": path}``; further voxel maps, if any, as
              ``"maps": {"tissue": path}``;
            * a folder with a ``dataset.json``, or whose sub-folders have one, or such a file: the test cases of all of
              them, or their labelled cases if there are no test cases. Modalities are chosen by name; a network of one
              modality also takes a data set of one modality that has another name;
            * for networks of one modality, an image, a folder of slices (one scan: PNG, or a DICOM series), a folder of
              images (all images and scans below it, but no PNG beside images of other formats unless it is a slice of a
              scan; X-rays in DICOM are one case each), or a list of these.
        modalities: names of the image channels of the network, in order.
        allow_missing: take cases that lack some of the modalities, with None in their place.

    Returns:
        Per case ``{"image": list of paths or None, "output_name": name}`` and its maps, ``{"tissue": path}``. Names are
        those of the first images without their format, ``case123_day20`` for ``.../case123_day20/scans``; where several
        cases have one name, each gets its folders' names in front, as many as make it unique. ``metadata`` holds the
        numbers that a data set gives of its case, or those in the name of such a scan (``case_number``,
        ``day_number``), if there are any.

    Raises:
        InputError: if there is no image, if an image does not exist, or if a case lacks a modality of the network.
    """
    if isinstance(source, Mapping):
        cases = [_one_case(source, modalities, allow_missing)]
    else:
        cases = _cases(source, modalities, allow_missing)
    names = _unique_names([next(path for path in case["image"] if path is not None) for case in cases])
    return [{**case, "output_name": name} for case, name in zip(cases, names, strict=True)]


def _one_case(source: Mapping[str, Any], modalities: Sequence[str], allow_missing: bool) -> dict[str, Any]:
    """The case that a user describes by modalities, checked as a row of a ``dataset.json``."""
    names = {name.casefold(): name for name in modalities}
    images: dict[str, Any] = {}
    for given, path in source.items():
        if given == "maps":
            continue
        if str(given).casefold() not in names:
            close = get_close_matches(str(given).casefold(), names, n=1)
            remedy = f"did you mean '{names[close[0]]}'?" if close else f"use {', '.join(modalities)}"
            raise InputError("input", f"has '{given}', which is no modality of the network", remedy)
        images[names[str(given).casefold()]] = (
            str(Path(path).expanduser()) if path and isinstance(path, _PATH) else path
        )
    absent = [name for name in modalities if images.get(name) is None]
    if len(absent) == len(names):
        raise InputError("input", "has no image", f"give paths by name: {', '.join(modalities)}")
    if absent and not allow_missing:
        raise InputError("input", f"has no {', no '.join(absent)}", "add its path, or pass --allow_missing true")
    row = {"image": [images.get(name) for name in modalities], "maps": source.get("maps")}
    case, _ = parse_row(row, "input", Path.cwd(), "input", len(modalities), labelled=False)
    for path in case.files:
        if not Path(path).is_file() and not is_slice_stack(path) and not is_dicom_series(path):
            raise InputError(path, "no such file", "correct the path in --input")
    return {"image": list(case.image), **case.maps, **_numbers_by_name(case.images[0])}


def _cases(
    source: str | Path | Sequence[str | Path], modalities: Sequence[str], allow_missing: bool
) -> list[dict[str, Any]]:
    if not isinstance(source, str | Path):
        return [case for one in source for case in _cases(one, modalities, allow_missing)]
    path = Path(source).expanduser()
    if not path.exists():
        raise InputError(path, "no such file or folder", "pass --input with an image or a folder of images")
    if path.name == MANIFEST_NAME or (path / MANIFEST_NAME).is_file() or any(path.glob(f"*/{MANIFEST_NAME}")):
        cases = _of_cohort(path, modalities, allow_missing)
        return [{"image": list(case.image), **case.maps, **_numbers_of(case)} for case in cases]
    if path.is_file():
        if not path.name.lower().endswith(_SUFFIXES):
            raise InputError(path, f"is not one of {', '.join(_SUFFIXES)}", "convert it to .nii.gz")
        found = [path]
    else:
        found = _images_below(path)
    if not found:
        raise InputError(path, f"has no image ({', '.join(_SUFFIXES)})", "pass --input with a folder of images")
    if len(modalities) > 1:
        problem = f"does not say which modality it is; the network takes {', '.join(modalities)}"
        example = json.dumps({name: f"{name.lower()}.nii.gz" for name in modalities})
        raise InputError(found[0], problem, f"pass --input '{example}', or a folder with a {MANIFEST_NAME}")
    return [{"image": [str(file)], **_numbers_by_name(str(file))} for file in found]


def _images_below(folder: Path) -> list[Path]:
    """Images in a folder and below it, sorted; the slices of a scan are one, their folder.

    Beside images of other formats and DICOM series a PNG is a preview and no image; beside X-rays in DICOM only one of
    the same name.
    """
    found = [file for file in folder.rglob("*") if not file.name.startswith(".") and file.is_file()]
    series = set(filter(is_dicom_series, {file.parent for file in found if has_dicom_name(file)}))
    files = [
        file
        for file in found
        if file.name.lower().endswith(_SUFFIXES) and not (file.parent in series and has_dicom_name(file))
    ]
    scans = series | {file.parent for file in files if parse_slice_name(file.name)}
    single = [file for file in files if not parse_slice_name(file.name)]
    others = [file for file in single if file.suffix.lower() != ".png"]
    if not series and all(file.suffix.lower() in DICOM_SUFFIXES for file in others):
        x_rays = {file.with_suffix("") for file in others}
        others += [file for file in single if file.suffix.lower() == ".png" and file.with_suffix("") not in x_rays]
    return sorted({*scans, *others})


def _numbers_of(case: Case) -> dict[str, dict[str, float]]:
    """The numbers that a data set gives of its case, or those in the name of its scan, under ``metadata``."""
    numbers = metadata_numbers(case)
    return {"metadata": numbers} if numbers else _numbers_by_name(case.images[0])


def _numbers_by_name(image: str) -> dict[str, dict[str, float]]:
    """The numbers of patient and day in the name of a folder of slices, under ``metadata``."""
    found = _NUMBERED.fullmatch(scan_name(image)) if is_slice_stack(image) else None
    return {"metadata": {name: int(number) for name, number in found.groupdict().items()}} if found else {}


def _of_cohort(path: Path, modalities: Sequence[str], allow_missing: bool) -> list[Case]:
    cohort = load_cohort(path)
    if len(modalities) > 1 or any(len(manifest.modalities) > 1 for manifest in cohort.manifests):
        cohort = select_modalities(cohort, modalities, allow_missing=allow_missing)
    return [case for manifest in cohort.manifests for case in manifest.test_cases] or list(cohort.cases)


def _unique_names(paths: Sequence[str]) -> list[str]:
    parts = [_name_parts(path) for path in paths]
    depths = [1] * len(paths)
    while True:
        names = [output_name("_".join(reversed(own[:depth]))) for own, depth in zip(parts, depths, strict=True)]
        # compared without case: some file systems do not know it
        keys = [name.casefold() for name in names]
        counts = Counter(keys)
        doubled = [index for index, key in enumerate(keys) if counts[key] > 1]
        if not doubled:
            return names
        if all(depths[index] >= len(parts[index]) for index in doubled):
            first, second = doubled[0], next(i for i in doubled[1:] if keys[i] == keys[doubled[0]])
            problem = f"would give the same output name as {paths[first]}"
            raise InputError(paths[second], problem, "rename one of them, or predict them apart")
        for index in doubled:
            depths[index] = min(depths[index] + 1, len(parts[index]))


def _name_parts(path: str) -> list[str]:
    """Name of an image without its format, then the folders it lies in, the nearest first."""
    place = Path(os.path.abspath(path))
    if not place.is_dir():
        return [label_map_stem(path), *reversed(place.parts[1:-1])]
    own = place.parent if place.name == "scans" else place
    return [scan_name(place), *reversed(own.parts[1:-1])]
