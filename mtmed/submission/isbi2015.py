"""The ISBI 2015 longitudinal MS lesion challenge: lesion maps of its 61 test scans."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtmed.errors import InputError
from mtmed.submission.packing import label_map_bytes, prediction_files, require_new_zip, write_zip

if TYPE_CHECKING:
    from mtmed.transforms.nifti import NiftiVolume

__all__ = ["write_isbi_submission"]

_PATIENTS = 14
_SCANS = 61
_GRID = (181, 217, 181)
_CASE = re.compile(r"(?<![a-z])test(\d\d)_(\d\d)(?!\d)")


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
    if not re.fullmatch(r"[A-Za-z0-9-]+", method):
        raise InputError("--method", f"is {method!r}", "use letters, digits and '-'")
    output = require_new_zip(output)
    cases = _cases(prediction_files(predictions))
    maps = (
        (f"{case}_{method}.nii", label_map_bytes(path, highest=1, require=_require_grid))
        for case, path in cases.items()
    )
    write_zip(output, maps)
    return cases


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


def _require_grid(volume: "NiftiVolume") -> None:
    from mtmed.transforms.nifti import shape_text

    if volume.data.shape != _GRID:
        problem = f"has {shape_text(volume.data.shape)} voxels, the challenge's grid has {shape_text(_GRID)}"
        raise InputError(volume.path, problem, "predict the preprocessed images (*_pp.nii)")
