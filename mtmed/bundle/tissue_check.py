"""Whether tissue maps can be made or used, asked before hours go into rough lesion networks."""

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from mtmed.data import Case, CheckError
from mtmed.distributed import rank
from mtmed.errors import InputError
from mtmed.transforms.reading import LoadVolumed, read_volume
from mtmed.transforms.tissue_segmentation import check_tissue_scan, tissue_method
from mtmed.transforms.tissue_tables import read_tissue_table, relabel_tissue

__all__ = ["check_tissue_input"]


def check_tissue_input(
    cases: Sequence[Case],
    *,
    tissue: str,
    channel: int,
    table: str | Mapping[int | str, int | str] | None,
    masked: bool,
    output_dir: str | Path,
) -> None:
    """Check what the cases' tissue maps come from; a run that has a checkpoint was checked when it began.

    For maps that are made: dipy is installed, and each T1 is there, skull-stripped and not empty. For maps of the
    user: their values stand in the table.

    Args:
        cases: the cases of the run.
        tissue: ``"hmrf"`` if maps are made of the T1, ``"files"`` if they are the cases' own map ``tissue``.
        channel: which modality is the T1.
        table: from the values of the user's maps to mtmed's, see `mtmed.transforms.tissue_tables`.
        masked: whether the images are skull-stripped by the cases' map ``brain_mask``.
        output_dir: folder of the run.

    Raises:
        InputError: with one line per case.
    """
    if rank() != 0 or (Path(output_dir) / "checkpoint.pt").is_file():
        return
    check: Callable[[Case], None]
    if tissue == "files":
        check = partial(_check_map, table=read_tissue_table(table))
    else:
        tissue_method()
        check = partial(_check_scan, channel=channel, masked=masked)
    # few threads: each holds a volume
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 4)) as pool:
        problems = [problem for problem in pool.map(partial(_problem, check), cases) if problem]
    if problems:
        raise CheckError(problems)


def _problem(check: Callable[[Case], None], case: Case) -> str | None:
    try:
        check(case)
    except InputError as error:
        return str(error)
    return None


def _check_map(case: Case, table: Mapping[int, int]) -> None:
    path = case.maps["tissue"]
    relabel_tissue(np.asarray(read_volume(path).data), table, name=path)


def _check_scan(case: Case, channel: int, masked: bool) -> None:
    several = len(case.image) > 1  # else one file holds all modalities
    path = case.image[channel if several else 0]
    if path is None:
        problem = "lacks the modality that its tissue map is made of"
        raise InputError(case.key, problem, 'leave it out, or give tissue maps (tissue: "files")')
    files: dict[Hashable, str] = {"image": path}
    if masked:
        files["brain_mask"] = case.maps["brain_mask"]
    volumes = LoadVolumed(list(files), other_grids="resample")(files)
    scan = volumes["image"][0 if several else channel].numpy()
    if masked:
        scan = np.where(volumes["brain_mask"][0].numpy() > 0, scan, 0)
    spacing = np.linalg.norm(volumes["image"].affine.numpy()[:3, :3], axis=0)
    check_tissue_scan(scan, spacing=spacing.tolist(), name=path)
