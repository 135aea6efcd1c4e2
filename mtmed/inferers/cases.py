"""Which images to predict: a file, a folder of files, or the test cases of a cohort; each with its own output name."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtmed.data.manifest import MANIFEST_NAME, load_cohort
from mtmed.errors import InputError
from mtmed.transforms.writing import label_map_stem

__all__ = ["inference_cases", "require_checkpoint"]

_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")


def require_checkpoint(path: str | None) -> str:
    """The path of the weights, which has no default.

    Raises:
        InputError: if it is None, saying where training writes it.
    """
    if path is None:
        remedy = "pass --checkpoint runs/<run>/model.pt; fine-tuning writes it and names it in its last line"
        raise InputError("checkpoint", "is not given", remedy)
    return path


def inference_cases(source: str | Path | Sequence[str | Path], *, channels: int = 1) -> list[dict[str, Any]]:
    """List the images to predict.

    Args:
        source: an image; a folder with a ``dataset.json``, or whose sub-folders have one (then the test cases of all
            of them, or their labelled cases if there are no test cases); any other folder (then all images below it);
            or a list of images, one per case.
        channels: number of image channels of the network.

    Returns:
        Per case ``{"image": list of paths, "output_name": name}``. Names are those of the first images without their
        format; where several cases have one name, each gets its folders' names in front, as many as make it unique.

    Raises:
        InputError: if there is no image, if an image does not exist, or if cases have another number of channels than
            the network.
    """
    images = _images(source)
    for paths in images:
        if len(paths) != channels:
            problem = f"has {len(paths)} image channels, the network takes {channels}"
            raise InputError(paths[0], problem, f"list the channels of a case in a {MANIFEST_NAME}")
    names = _unique_names([paths[0] for paths in images])
    return [{"image": paths, "output_name": name} for paths, name in zip(images, names, strict=True)]


def _images(source: str | Path | Sequence[str | Path]) -> list[list[str]]:
    if not isinstance(source, str | Path):
        return [paths for one in source for paths in _images(one)]
    path = Path(source).expanduser()
    if not path.exists():
        raise InputError(path, "no such file or folder", "pass --input with an image or a folder of images")
    if path.is_file() and path.name != MANIFEST_NAME:
        if not path.name.lower().endswith(_SUFFIXES):
            raise InputError(path, f"is not one of {', '.join(_SUFFIXES)}", "convert it to .nii.gz")
        return [[str(path)]]
    if path.is_file() or (path / MANIFEST_NAME).is_file() or any(path.glob(f"*/{MANIFEST_NAME}")):
        cohort = load_cohort(path)
        cases = [case for manifest in cohort.manifests for case in manifest.test_cases] or list(cohort.cases)
        return [list(case.image) for case in cases]
    found = sorted(
        file
        for file in path.rglob("*")
        if file.name.lower().endswith(_SUFFIXES) and not file.name.startswith(".") and file.is_file()
    )
    if not found:
        raise InputError(path, f"has no image ({', '.join(_SUFFIXES)})", "pass --input with a folder of images")
    return [[str(file)] for file in found]


def _unique_names(paths: Sequence[str]) -> list[str]:
    parts = [[label_map_stem(path), *reversed(Path(os.path.abspath(path)).parts[1:-1])] for path in paths]
    depths = [1] * len(paths)
    while True:
        names = ["_".join(reversed(own[:depth])) for own, depth in zip(parts, depths, strict=True)]
        # compared without case: some file systems do not know it
        keys = [name.casefold() for name in names]
        doubled = [index for index, key in enumerate(keys) if keys.count(key) > 1]
        if not doubled:
            return names
        if all(depths[index] >= len(parts[index]) for index in doubled):
            first, second = doubled[0], next(i for i in doubled[1:] if keys[i] == keys[doubled[0]])
            problem = f"would give the same output name as {paths[first]}"
            raise InputError(paths[second], problem, "rename one of them, or predict them apart")
        for index in doubled:
            depths[index] = min(depths[index] + 1, len(parts[index]))
