"""Predictions of a public challenge's test cases, packed as its website takes them."""

import argparse
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtmed.errors import InputError
from mtmed.files import atomic_file, require_writable_folder

__all__ = ["add_arguments", "run", "write_isbi_submission"]

_PATIENTS = 14
_SCANS = 61
_GRID = (181, 217, 181)
_CASE = re.compile(r"(?<![a-z])test(\d\d)_(\d\d)(?!\d)")
_SUFFIXES = (".nii", ".nii.gz")
_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that zip knows; the same predictions always give the same bytes


def write_isbi_submission(
    predictions: str | Path | Sequence[str | Path], *, output: str | Path, method: str
) -> dict[str, Path]:
    """Pack lesion maps of the ISBI 2015 longitudinal MS lesion challenge for its evaluation website.

    The zip has one plain NIfTI file of 0 and 1 (8 bits) per scan, ``testXX_YY_<method>.nii`` for visit YY of patient
    XX, on the grid of the preprocessed test images and with the header of the prediction.

    Confirmed by the challenge's paper (Carass et al. 2017) and by public code for it: 14 patients, 61 scans, grid
    181 x 217 x 181, file names and plain ``.nii`` as in nnU-Net's script for this challenge. Not confirmed: that the
    files lie in a zip without folders, and how many visits each patient has; so visits must only be numbered from 01
    without a gap and make 61.

    Args:
        predictions: a folder of label maps, or a list of folders and label maps. Each file's name must hold
            ``testXX_YY``, as those do that ``inference.json`` writes.
        output: zip file to write.
        method: name of the method: letters, digits and ``-``.

    Returns:
        The prediction taken for each case, in order.

    Raises:
        InputError: if a case is missing, unknown or there twice, a file is not on the grid or holds other values than 0
            and 1, or the zip exists already or cannot be written.
    """
    output = Path(output)
    if not re.fullmatch(r"[A-Za-z0-9-]+", method):
        raise InputError("--method", f"is {method!r}", "use letters, digits and '-'")
    if output.suffix != ".zip":
        raise InputError(output, "does not end in .zip", "name a zip file")
    if output.exists():
        raise InputError(output, "exists already", "remove it or name another file")
    cases = _cases(_files([predictions] if isinstance(predictions, str | Path) else predictions))
    require_writable_folder(output.parent)
    with atomic_file(output) as file, zipfile.ZipFile(file, "w") as archive:
        for case, path in cases.items():
            entry = zipfile.ZipInfo(f"{case}_{method}.nii", _TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, _plain_mask(path))
    return cases


def _files(predictions: Sequence[str | Path]) -> list[Path]:
    found = []
    for one in map(Path, predictions):
        if not one.exists():
            raise InputError(one, "no such file or folder", "pass the folder of the predicted label maps")
        within = sorted(one.iterdir()) if one.is_dir() else [one]
        found += [path for path in within if path.name.endswith(_SUFFIXES) and not path.name.startswith(".")]
    if not found:
        given = ", ".join(map(str, predictions)) or "predictions"
        raise InputError(given, "has no .nii or .nii.gz file", "predict the test scans first")
    return found


def _cases(files: Sequence[Path]) -> dict[str, Path]:
    """File of each case; all cases of the challenge, each once."""
    cases: dict[str, Path] = {}
    for path in files:
        match = _CASE.search(path.name.lower())
        if match is None:
            raise InputError(path, "has no case (testXX_YY) in its name", "pass predictions of the test scans only")
        if match[0] in cases:
            problem = f"is a second file for {match[0]}, beside {cases[match[0]]}"
            raise InputError(path, problem, "pass one lesion map per scan, for example predictions/*_seg.nii.gz")
        cases[match[0]] = path
    last_visit = dict.fromkeys(range(1, _PATIENTS + 1), 1)
    for case, path in cases.items():
        patient, visit = int(case[4:6]), int(case[7:9])
        if patient not in last_visit or visit < 1:
            problem = f"is of {case}, patients are test01 to test{_PATIENTS}, visits count from 01"
            raise InputError(path, problem, "leave it out")
        last_visit[patient] = max(last_visit[patient], visit)
    expected = {f"test{patient:02}_{visit + 1:02}" for patient, last in last_visit.items() for visit in range(last)}
    missing = sorted(expected - set(cases))
    if missing:
        raise InputError(missing[0], f"and {len(missing) - 1} other scans have no prediction", "predict all test scans")
    if len(cases) != _SCANS:
        counts = ", ".join(f"test{patient:02} {last}" for patient, last in last_visit.items())
        remedy = "pass every visit of each patient once"
        raise InputError("predictions", f"are {len(cases)} scans, the challenge has {_SCANS} ({counts})", remedy)
    return dict(sorted(cases.items()))


def _plain_mask(path: Path) -> bytes:
    """A lesion map as the bytes of a plain NIfTI file of 8 bits with the prediction's header."""
    import nibabel as nib
    import numpy as np

    from mtmed.transforms.nifti import read_nifti, shape_text

    data = read_nifti(path).data
    if data.shape != _GRID:
        problem = f"has {shape_text(data.shape)} voxels, the challenge's grid has {shape_text(_GRID)}"
        raise InputError(path, problem, "predict the preprocessed images (*_pp.nii)")
    if not ((data == 0) | (data == 1)).all():
        some = ", ".join(f"{value:g}" for value in np.unique(data)[:4])
        raise InputError(path, f"holds the values {some} ..., allowed are 0 and 1", "pass the lesion maps")
    source: Any = nib.load(path)
    header = source.header.copy()
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    plain: bytes = nib.Nifti1Image(data.astype(np.uint8), None, header).to_bytes()
    return plain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``mtmed submission`` to its parser."""
    what = "lesion maps of the ISBI 2015 test scans: a folder, or files"
    parser.add_argument("predictions", nargs="+", metavar="PREDICTIONS", help=what)
    parser.add_argument("--method", required=True, metavar="NAME", help="name of the method, part of each file's name")
    parser.add_argument("--output", default="submission.zip", metavar="FILE", help="zip file to write")


def run(arguments: argparse.Namespace) -> int:
    """Pack the predictions and say what was written."""
    cases = write_isbi_submission(arguments.predictions, output=arguments.output, method=arguments.method)
    first = next(iter(cases))
    print(f"written: {arguments.output} ({len(cases)} scans, {first}_{arguments.method}.nii and so on)")
    print("next: upload it at https://smart-stats-tools.org/lesion-challenge")
    return 0
