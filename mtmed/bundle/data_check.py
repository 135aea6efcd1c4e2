"""The data check as an item of a bundle's ``run``."""

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mtmed.data import Cohort, check_cases
from mtmed.data.file_state import file_state
from mtmed.data.manifest import MANIFEST_NAME
from mtmed.distributed import rank
from mtmed.errors import InputError
from mtmed.files import atomic_file
from mtmed.transforms.reading import OtherGrids

__all__ = ["check_data", "require_fitting_data"]

logger = logging.getLogger(__name__)


def _fingerprint(
    cohort: Cohort, other_grids: OtherGrids, require_orientation: bool, include_test: bool, features: Sequence[str]
) -> str:
    """Hash of what the check depends on: cases and patients, paths, sizes and times of files, labels, modalities."""
    digest = hashlib.blake2b(other_grids.encode(), digest_size=16)
    if require_orientation:
        digest.update(b"oriented")
    if features:
        digest.update(repr(list(features)).encode())
    for manifest in cohort.manifests:
        digest.update(repr(manifest.modalities).encode())
        if manifest.orientation is not None:
            digest.update(manifest.orientation.encode())
        if manifest.overlapping:
            digest.update(b"overlapping")
    test_cases = [case for one in cohort.manifests for case in one.test_cases] if include_test else []
    for case in (*cohort.cases, *test_cases):
        whose = (case.key, case.group, case.visit, case.fold)
        parts = ([path is None for path in case.image], len(case.labels), list(case.maps))
        digest.update(repr((whose, parts)).encode())
        if case.part is not None:
            digest.update(repr((case.part, case.part_key)).encode())
        if features:
            digest.update(repr([case.metadata.get(name) for name in features]).encode())
        for path in case.files:
            try:
                digest.update(_state(path).encode())
            except OSError:
                digest.update(f"{path} missing\n".encode())
    for dataset in cohort.datasets:
        digest.update(repr(sorted(cohort.label_names(dataset).items())).encode())
    return digest.hexdigest()


def _state(path: str) -> str:
    """What tells that a file or folder changed; that of files is part of the records of all runs there are."""
    if os.path.isdir(path):
        return repr(file_state(path))
    facts = os.stat(path)
    return f"{path} {facts.st_size} {facts.st_mtime_ns}\n"


def _checked_before(path: Path) -> str | None:
    """Fingerprint of the data that passed the check; None if no record of it can be read."""
    try:
        return str(json.loads(path.read_text())["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _check_options(
    patch_size: Sequence[int] | None, spacing: Sequence[float] | None, window: Sequence[float] | None
) -> None:
    for name, values in (("patch_size", patch_size), ("spacing", spacing)):
        if values is not None and not (_are_numbers(values, 3) and min(values) > 0):
            raise InputError(name, f"is {values!r}", "give three numbers above 0")
    if window is not None and not (_are_numbers(window, 2) and window[0] < window[1]):
        raise InputError("window", f"is {window!r}", "give two numbers, the lower one first")


def _are_numbers(values: Sequence[float], count: int) -> bool:
    numbers = isinstance(values, Sequence) and all(isinstance(value, int | float) for value in values)
    return numbers and len(values) == count


def _check_label_names(cohort: Cohort, label_names: Mapping[int, str]) -> None:
    """Require that label values mean the same in all data sets and count the channels of the logits."""
    values = sorted(label_names)
    if values != list(range(len(values))):
        problem = f"has the label values {', '.join(map(str, values))}, which leave some out"
        raise InputError(cohort.datasets[0], problem, f"number its labels 0 to {len(values) - 1}")
    for dataset in cohort.datasets:
        if cohort.label_names(dataset) != dict(label_names):
            problem = f"names its labels {cohort.label_names(dataset)}, but {cohort.datasets[0]} {dict(label_names)}"
            raise InputError(dataset, problem, "fine-tune on data sets with the same labels")


def require_fitting_data(
    cohort: Cohort,
    *,
    patch_size: Sequence[int] | None = None,
    spacing: Sequence[float] | None = None,
    window: Sequence[float] | None = None,
    label_names: Mapping[int, str] | None = None,
    include_test: bool = False,
) -> None:
    """Refuse settings and manifests that cannot go together, before any image is read; see `check_data`.

    Raises:
        InputError: for sizes that are none, data sets with other labels, or with other numbers of modalities.
    """
    _check_options(patch_size, spacing, window)
    if label_names is not None:
        _check_label_names(cohort, label_names)
    modalities = {manifest.name: manifest.modalities for manifest in cohort.manifests}
    if len({len(names) for names in modalities.values()}) > 1:
        text = ", ".join(f"{name} {list(names)}" for name, names in modalities.items())
        raise InputError("dataset_dir", f"the data sets differ in modalities: {text}", "train on data sets that agree")
    if not include_test and not cohort.cases:
        raise InputError(cohort.manifests[0].folder / MANIFEST_NAME, "'training' is empty", "list at least one case")


def check_data(
    cohort: Cohort,
    *,
    output_dir: str,
    patch_size: Sequence[int] | None = None,
    spacing: Sequence[float] | None = None,
    window: Sequence[float] | None = None,
    label_names: Mapping[int, str] | None = None,
    other_grids: OtherGrids = "refuse",
    require_orientation: bool = False,
    include_test: bool = False,
    features: Sequence[str] = (),
) -> None:
    """Check every case of a cohort before training; a resumed run does not read unchanged files again.

    Args:
        cohort: the cases and their label names.
        output_dir: folder of the run, which gets ``data_check.json``.
        patch_size: voxels of a training patch.
        spacing: mm that the volumes will be resampled to.
        window: lowest and highest intensity that is told apart.
        label_names: names of the label values, if one network shall segment them all: every data set must have these,
            numbered without gaps. Without it each data set may label what it likes, as in pre-training.
        other_grids: ``"resample"`` if the run's `mtmed.transforms.LoadVolumed` resamples files on other grids.
        require_orientation: refuse files that do not declare how their axes lie in the patient, if the run tells left
            from right.
        include_test: check the test cases too, if the run uses their images.
        features: what the network is told of each slice (`mtmed.data.slice_features`); every labelled case must have
            these numbers.

    Raises:
        InputError: with one line per problem; or if a run is continued on other data than it began with.
    """
    require_fitting_data(
        cohort,
        patch_size=patch_size,
        spacing=spacing,
        window=window,
        label_names=label_names,
        include_test=include_test,
    )
    if rank() != 0:
        return
    path = Path(output_dir) / "data_check.json"
    fingerprint = _fingerprint(cohort, other_grids, require_orientation, include_test, features)
    before = _checked_before(path)
    if before == fingerprint:
        return
    if before is not None and path.with_name("checkpoint.pt").is_file():
        # other cases make another split: what was trained on could now be validated on
        problem = "its files or cases are not those that this run began with"
        raise InputError("dataset_dir", problem, "restore them, or start over with --new true")
    report = check_cases(
        cohort,
        patch_size=patch_size,
        spacing=spacing,
        window=window,
        other_grids=other_grids,
        require_orientation=require_orientation,
        include_test=include_test,
        features=features,
    )
    for notice in report.notices:
        logger.info("Notice: %s", notice)
    report.raise_if_errors()
    record = {"fingerprint": fingerprint, "cases": len(report.cases), "notices": report.notices}
    with atomic_file(path) as file:
        file.write((json.dumps(record, indent=4) + "\n").encode())
