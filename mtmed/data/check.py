"""Every problem of a cohort, found before the first iteration and listed at once.

Each file is read once, in parallel threads: inflating, scanning and hashing all release the interpreter.
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mtmed.data.case import Case
from mtmed.data.case_check import CaseCheck
from mtmed.data.feature_check import missing_features
from mtmed.data.leak_check import leaked_patients, patients_of_both
from mtmed.data.manifest import Cohort, Manifest
from mtmed.data.mask_table_check import check_mask_tables
from mtmed.data.pairing_hints import pairing_hints
from mtmed.errors import InputError
from mtmed.transforms.reading import OtherGrids, check_other_grids

__all__ = ["CaseFacts", "CheckError", "CheckReport", "check_cases"]

_SHOWN = 20  # lines of a message: what fits on a terminal


class CheckError(InputError):
    """All problems of a check, one per line.

    Args:
        errors: the problems; the first 20 are shown.
    """

    def __init__(self, errors: Sequence[str]) -> None:
        self.errors = tuple(errors)
        super().__init__("data", f"{len(self.errors)} problems", "see the list")

    def __str__(self) -> str:
        lines = list(self.errors[:_SHOWN])
        if len(self.errors) > _SHOWN:
            lines.append(f"and {len(self.errors) - _SHOWN} more; 'mtmed check FOLDER' lists all")
        return "\n".join(lines)

    def __reduce__(self) -> Any:
        return type(self), (self.errors,)


@dataclass(frozen=True)
class CaseFacts:
    """What the check learnt of a case.

    Attributes:
        key: ``dataset/id``.
        dataset: name of the data set.
        group: the patient.
        shape: voxels along each axis of the file; None if the image cannot be read.
        spacing: distance of neighbouring voxels along each axis of the file, mm.
        voxels: number of voxels of each label value, of each organ if masks may overlap; empty if there is no readable
            label.
    """

    key: str
    dataset: str
    group: str
    shape: tuple[int, ...] | None = None
    spacing: tuple[float, ...] | None = None
    voxels: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckReport:
    """Outcome of a check.

    Attributes:
        errors: one line per problem that would stop or spoil a training.
        notices: one line per oddity that is handled; the same oddity of several cases is one line.
        cases: what was learnt of each case, in order.
    """

    errors: list[str]
    notices: list[str]
    cases: list[CaseFacts]

    def raise_if_errors(self) -> None:
        """Raise `CheckError` with all errors, if there are any."""
        if self.errors:
            raise CheckError(self.errors)


def check_cases(
    cohort_or_cases: Cohort | Sequence[Case],
    *,
    label_names: Mapping[str, Mapping[int, str]] | None = None,
    patch_size: Sequence[int] | None = None,
    spacing: Sequence[float] | None = None,
    window: Sequence[float] | None = None,
    same_affine: bool = True,
    other_grids: OtherGrids = "refuse",
    require_orientation: bool = False,
    include_test: bool = False,
    allow_duplicates: bool = False,
    features: Sequence[str] = (),
    workers: int | None = None,
) -> CheckReport:
    """Read all images, labels (of every rater) and maps once and report what is wrong with them.

    Errors: a file or folder of slices that is missing, damaged or no 3D volume (`mtmed.transforms.reading`); NaN or
    infinite voxels; a constant image of several slices; channels, label or map on another grid than the first image;
    label or map values that are not whole numbers (within 1e-3), label values outside the manifest; a table of masks
    that does not fit its cases (`mtmed.data.mask_table_check`); labelled cases without a number that the network shall
    be told; the same voxels in two images; folds or parts that divide a patient. Notices: modalities that a case lacks
    or whose contrast is another's (`mtmed.data.contrast_order`), a constant single slice, labels without foreground or
    background, labels that may be another image's (`mtmed.data.pairing_hints`), images without an intensity within the
    window, test cases of patients who have labelled ones too, scans that only a table of masks lists, volumes smaller
    than the patch (they are padded), sheared affines, affines against the manifest's ``orientation``, and other
    oddities that are handled. Negative intensities are none: interpolation leaves them.

    Args:
        cohort_or_cases: a cohort, whose manifests say what label values there are, or cases.
        label_names: names of the label values of each data set, if cases are given; without it any value passes.
        patch_size: voxels of a training patch along R, A, S.
        spacing: mm along R, A, S that the volumes will be resampled to before patches are cut; None: left as they are.
        window: lowest and highest intensity that training tells apart.
        same_affine: whether a label whose affine differs from the image's is an error (else a notice).
        other_grids: ``"resample"`` if training resamples files on other grids than the first image's: then they are a
            notice, and an error only if the fields of view share nothing.
        require_orientation: whether a file that does not declare how its axes lie in the patient is an error (else a
            notice), for training that tells left from right.
        include_test: check the test cases of a cohort too.
        allow_duplicates: whether the same voxels in two images are a notice, as they are where nothing is learnt.
        features: what the network is told of each slice beside the image, see `mtmed.data.feature_check`.
        workers: number of threads; default: one per core, at most 8, which bounds the memory.

    Returns:
        The report. Nothing is raised for bad data: see `CheckReport.raise_if_errors`.

    Raises:
        InputError: if ``other_grids`` has another value or contradicts ``same_affine``.
    """
    check_other_grids(other_grids, same_affine)
    modalities: dict[str, tuple[str, ...]] = {}
    orientations: dict[str, str | None] = {}
    notices: dict[str, list[str]] = defaultdict(list)
    manifests: tuple[Manifest, ...] = ()
    if isinstance(cohort_or_cases, Cohort):
        manifests = cohort_or_cases.manifests
        label_names = {manifest.name: manifest.label_names for manifest in manifests}
        modalities = {manifest.name: manifest.modalities for manifest in manifests}
        orientations = {manifest.name: manifest.orientation for manifest in manifests}
        cases = [case for item in manifests for case in (*item.cases, *(item.test_cases if include_test else ()))]
        for manifest in manifests:
            for case in (*manifest.cases, *manifest.test_cases):
                if any(not _is_inside(path, manifest.folder) for path in case.files):
                    notices["lies outside the folder of its manifest"].append(case.key)
    else:
        cases = list(cohort_or_cases)
    names = label_names or {}
    by_name = {manifest.name: manifest for manifest in manifests}
    if workers is None:
        workers = min(os.cpu_count() or 1, 8)

    def check(case: Case) -> CaseCheck:
        outcome = CaseCheck(
            case, same_affine=same_affine, other_grids=other_grids, require_orientation=require_orientation
        )
        packed = case.dataset in by_name and by_name[case.dataset].overlapping
        outcome.run(modalities.get(case.dataset, ("image",)), names.get(case.dataset), overlapping=packed)
        outcome.note_small(patch_size, spacing)
        outcome.note_window(window)
        return outcome

    with ThreadPoolExecutor(max(workers, 1)) as pool:
        # disable=None: no bar unless on a terminal
        outcomes = list(tqdm(pool.map(check, cases), total=len(cases), desc="checking", unit="case", disable=None))
    # cases that share a table of masks would each repeat what is wrong with it
    errors = list(dict.fromkeys(error for outcome in outcomes for error in outcome.errors))
    listed = [case for manifest in manifests for case in (*manifest.cases, *manifest.test_cases)] or cases
    table_errors, table_notices = check_mask_tables(cases, listed, by_name)
    errors += table_errors
    errors += missing_features([case for case in cases if case.labels], features)
    errors += _listed_twice(outcomes)
    for key, same in _same_voxels(outcomes):
        if allow_duplicates:
            notices[same.problem].append(key)
        else:
            errors.append(str(same))
    for manifest in manifests:
        errors += leaked_patients(manifest.cases)
        if include_test:
            for case in patients_of_both(manifest.cases, manifest.test_cases):
                notices["is a test case of a patient who has labelled cases too"].append(case.key)
    for outcome in outcomes:
        for text in outcome.notices:
            notices[text].append(outcome.case.key)
    for text, datasets in table_notices.items():
        notices[text] += datasets
    for dataset, known in orientations.items():
        others = {item.case.key: item.axes for item in outcomes if item.case.dataset == dataset and item.axes}
        others = {key: axes for key, axes in others.items() if known not in (None, axes)}
        if others:
            found = ", ".join(sorted(set(others.values())))
            problem = f"is oriented {found} by its affine, but its data set is known to be {known}"
            if require_orientation:
                remedy = f"left and right may be swapped: fetch the files again, or correct 'orientation' of {dataset}"
                first, *more = others
                culprit = f"{first} and {len(more)} more" if more else first
                errors.append(str(InputError(culprit, problem, remedy)))
            else:
                notices[problem] += others
    for dataset, values in names.items():
        labelled = [item.voxels for item in outcomes if item.case.dataset == dataset and item.voxels]
        for value, name in values.items():
            if labelled and not any(value in voxels for voxels in labelled):
                notices[f"label {value} ({name}) is in no case"].append(dataset)
        paired = [(item.case, item.brightness) for item in outcomes if item.case.dataset == dataset]
        for key, hint in pairing_hints(paired, values):
            notices[hint].append(key)
    facts = [
        CaseFacts(item.case.key, item.case.dataset, item.case.group, item.shape, item.spacing, item.voxels)
        for item in outcomes
    ]
    return CheckReport(errors, [_collapse(text, keys) for text, keys in notices.items()], facts)


def _listed_twice(outcomes: Sequence[CaseCheck]) -> Iterator[str]:
    keys: set[str] = set()
    for outcome in outcomes:
        if outcome.case.key in keys:
            yield str(InputError(outcome.case.key, "is listed twice", "remove one of the two"))
        keys.add(outcome.case.key)


def _same_voxels(outcomes: Sequence[CaseCheck]) -> Iterator[tuple[str, InputError]]:
    """Cases with an image that another case, or they themselves, have too."""
    keys: set[str] = set()
    seen: dict[bytes, str] = {}
    for outcome in outcomes:
        if outcome.case.key in keys:
            continue
        keys.add(outcome.case.key)
        for path, digest in outcome.hashes.items():
            if digest in seen:
                problem = f"has the same voxels as {seen[digest]}"
                yield outcome.case.key, InputError(path, problem, "remove one of the two")
            seen.setdefault(digest, path)


def _is_inside(path: str, folder: Path) -> bool:
    return Path(os.path.normpath(path)).is_relative_to(os.path.normpath(folder))


def _collapse(text: str, keys: Sequence[str]) -> str:
    if len(keys) == 1:
        return f"{keys[0]}: {text}"
    some = ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
    return f"{len(keys)} cases ({some}): {text}"
