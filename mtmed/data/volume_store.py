"""Deterministic preprocessing, done once per case and kept on disk.

An entry is keyed by what the transforms compute and by the identity of the source files, so that a changed parameter,
a new version or a replaced file can never return old voxels. Entries are built by threads, each under its own lock, in
a temporary folder that is renamed when whole.
"""

import copy
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock, Timeout
from monai.transforms import MapTransform
from numpy.typing import NDArray

from mtmed.data.case import Case
from mtmed.data.distance import DISTANCE_UNITS, DistanceUnit
from mtmed.data.file_state import file_state
from mtmed.data.fingerprint import fingerprint
from mtmed.data.store_entries import whole_entries, whole_record, with_bar
from mtmed.data.volume_writing import write_volume
from mtmed.data.volumes import Record, Volume, Volumes, open_arrays
from mtmed.data.voxel_check import finite_extremes, whole_labels
from mtmed.errors import DISK_FULL, InputError

__all__ = ["Volume", "VolumeStore", "Volumes"]

logger = logging.getLogger(__name__)

_FORMAT = 5
_TEMPORARY = "building-"


class _Prepared(NamedTuple):
    """What the transforms make of a case, see `write_volume`."""

    image: torch.Tensor
    labels: dict[str, NDArray[Any]]
    affine: NDArray[np.float64]
    remarks: tuple[str, ...]
    facts: dict[str, float]


class VolumeStore:
    """A folder of prepared volumes.

    Images are kept as uint16 with one linear scale per channel (rounding at most 1/131070 of the channel's range; 0,
    the outside of masked images, stays 0), labels and maps as uint8 or int16, with tables of voxel coordinates per
    class of the label, and the bounding box of each value of label and maps.

    Args:
        folder: where the entries are kept; may be shared by processes and cohorts.
        transforms: MONAI dictionary transforms on the keys ``image`` and ``label``, beginning with the one that loads
            (`mtmed.transforms.LoadVolumed`). They are given the case's paths under ``image``, ``label`` (a list, if
            several raters drew one) and the names of its maps, and its key under ``case``; a label that none of them
            loads is left out. What they append to the list ``remarks`` is kept,
            and so are the numbers in the dictionary ``facts``. Random transforms are refused.
        distance: unit in which `mtmed.data.distance.boundary_distance` of the label is kept too; None leaves it out.
        maps: names of further integer maps that the transforms give (1, H, W, D) and that crops shall have, for
            example ``("tissue",)``.

    Raises:
        InputError: a transform is random or cannot be fingerprinted.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        transforms: Sequence[Callable[[Any], Any]],
        distance: DistanceUnit | None = None,
        maps: Sequence[str] = (),
    ) -> None:
        self.folder = Path(folder).expanduser().absolute()
        self.transforms = tuple(transforms)
        if distance is not None and distance not in DISTANCE_UNITS:
            raise InputError("distance", f"is {distance!r}", f"choose one of {', '.join(DISTANCE_UNITS)} or null")
        self.distance = distance
        self.maps = tuple(maps)
        self._chain = fingerprint([_FORMAT, distance, self.maps, list(self.transforms)])

    def key(self, case: Case) -> str:
        """Name of a case's entry: SHA-256 of transforms, case, patient, and path, size and time stamp of its files."""
        missing = [path is None for path in case.image]
        identity: list[Any] = [self._chain, missing, len(case.labels), list(case.maps), case.key, case.group]
        for name in case.files:
            try:
                identity.append(file_state(name))
            except OSError as error:
                raise InputError(name, f"cannot be read ({error.strerror})", "correct the data list") from error
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]

    def build(self, cases: Sequence[Case], *, workers: int | None = None) -> Volumes:
        """Prepare the cases that are not in the store yet and open all.

        Each entry is read and compared with its checksum first, once per call: one flipped bit and it is prepared
        anew, with a notice.

        Args:
            cases: the cohort; unlabelled cases pass the transforms without the key ``label``.
            workers: threads; by default one per available core.

        Raises:
            InputError: a case cannot be prepared (all such cases are named), or there is no space left.
        """
        try:
            (self.folder / "locks").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(self.folder, f"cannot be created ({error.strerror})", "choose another folder") from error
        self._sweep()
        entries: dict[int, Path] = {}
        errors: list[InputError] = []
        for index, case in enumerate(cases):
            try:
                entries[index] = self.folder / self.key(case)
            except InputError as error:
                errors.append(error)
        workers = workers or len(os.sched_getaffinity(0))
        found = whole_entries(entries, workers=workers)
        missing = {index: entry for index, entry in entries.items() if index not in found}
        for index, entry in missing.items():
            if entry.exists():
                logger.warning("%s: its volume in the store is damaged (%s) and is made anew", cases[index].key, entry)
        threads = max(1, min(workers, len(missing)))
        torch_threads = torch.get_num_threads()
        if missing:
            torch.set_num_threads(max(1, torch_threads // threads))
        executor = ThreadPoolExecutor(threads)
        try:
            jobs = {executor.submit(self._prepare, cases[i], entry): i for i, entry in missing.items()}
            for job in with_bar(as_completed(jobs), "Preparing volumes", len(jobs)):
                try:
                    found[jobs[job]] = missing[jobs[job]], job.result()
                except InputError as error:
                    errors.append(error)
                    if error.problem.startswith("no space left"):
                        raise
        finally:
            executor.shutdown(cancel_futures=True)
            torch.set_num_threads(torch_threads)
        if len(errors) == 1:
            raise errors[0]
        if errors:
            culprit = f"{len(errors)} of {len(cases)} cases"
            raise InputError(culprit, "cannot be prepared", "mend these files or leave them out", errors)
        return Volumes([(case, *found[index]) for index, case in enumerate(cases)])

    def _sweep(self) -> None:
        """Remove what dead builds left: a temporary folder whose lock nobody holds."""
        for left in self.folder.glob(f"{_TEMPORARY}*"):
            try:
                with FileLock(self.folder / "locks" / left.name.removeprefix(_TEMPORARY), timeout=0):
                    shutil.rmtree(left, ignore_errors=True)
            except Timeout:
                continue

    def _prepare(self, case: Case, entry: Path) -> Record:
        temporary = self.folder / f"{_TEMPORARY}{entry.name}"
        try:
            with FileLock(self.folder / "locks" / entry.name):
                record = whole_record(entry)
                if record:
                    return record
                prepared = self._transform(case)
                shutil.rmtree(temporary, ignore_errors=True)
                temporary.mkdir()
                try:
                    record = write_volume(
                        temporary, paths=_channel_names(case), distance=self.distance, **prepared._asdict()
                    )
                    shutil.rmtree(entry, ignore_errors=True)
                    os.replace(temporary, entry)
                finally:
                    shutil.rmtree(temporary, ignore_errors=True)
                open_arrays.cache_clear()
                return record
        except OSError as error:
            if error.errno in DISK_FULL:
                raise InputError(self.folder, "no space left", "free some space and run again") from error
            raise InputError(case.images[0], f"cannot be prepared ({error})", "check file and folder") from error

    def _transform(self, case: Case) -> _Prepared:
        data: dict[Any, Any] = {"image": case.image[0] if len(case.image) == 1 else list(case.image), **case.maps}
        data["case"] = case.key
        if case.label:
            data["label"] = list(case.labels) if case.raters else case.label
        loaded = False
        for shared in self.transforms:
            transform = copy.deepcopy(shared)  # readers keep state
            if not case.label and isinstance(transform, MapTransform):
                transform.allow_missing_keys = True
            try:
                data = transform(data)
            except (MemoryError, torch.OutOfMemoryError) as error:
                raise InputError(case.images[0], "does not fit into memory", "use fewer workers") from error
            except Exception as error:
                known = _input_error(error)
                if known:
                    raise known from error
                reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
                problem = f"{type(transform).__name__} failed ({reason})"
                raise InputError(case.images[0], problem, "check the file and the preprocessing") from error
            if not loaded and isinstance(data["image"], torch.Tensor):
                loaded = True  # checked here as well: a window would clip infinity, resampling would spread NaN
                finite_extremes(_channel_names(case), data["image"])
        image = torch.as_tensor(data["image"])
        affine = getattr(image, "affine", torch.eye(image.ndim))
        image = (image.as_tensor() if hasattr(image, "as_tensor") else image).to(torch.float32)
        if image.ndim not in (3, 4):
            raise InputError(case.images[0], f"has shape {tuple(image.shape)} after preprocessing", "expected C H W D")
        labels: dict[str, NDArray[Any]] = {}
        # a label that no transform loads is still the name of its file
        labelled = case.label and isinstance(data.get("label"), torch.Tensor | np.ndarray)
        for name in (*(["label"] if labelled else []), *self.maps):
            path = str(case.label if name == "label" else case.maps.get(name, f"{name} of {case.key}"))
            if name not in data:
                raise InputError(path, "no transform gives it", "list its path under 'maps', or add the transform")
            labels[name] = whole_labels(path, torch.as_tensor(data[name]))
            if labels[name].shape != tuple(image.shape[1:]):
                problem = f"has shape {labels[name].shape} after preprocessing, its image has {tuple(image.shape[1:])}"
                raise InputError(path, problem, "give both the same grid and one label channel")
        remarks, facts = tuple(data.get("remarks", ())), dict(data.get("facts", {}))
        return _Prepared(image, labels, np.asarray(affine, np.float64), remarks, facts)


def _channel_names(case: Case) -> list[str]:
    return [path or f"a missing modality of {case.key}" for path in case.image]


def _input_error(error: BaseException | None) -> InputError | None:
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__ or error.__context__
    return error
