"""The data check as an item of a bundle's ``run``."""

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from mtmed.data import Cohort, check_cases
from mtmed.distributed import rank
from mtmed.errors import InputError

__all__ = ["check_data"]

logger = logging.getLogger(__name__)


def _fingerprint(cohort: Cohort) -> str:
    """Hash of what the check depends on: paths, sizes and times of all files, and the label names."""
    digest = hashlib.blake2b(digest_size=16)
    for case in cohort.cases:
        for path in (*case.image, *([case.label] if case.label else [])):
            try:
                facts = os.stat(path)
                digest.update(f"{path} {facts.st_size} {facts.st_mtime_ns}\n".encode())
            except OSError:
                digest.update(f"{path} missing\n".encode())
    for dataset in cohort.datasets:
        digest.update(repr(sorted(cohort.label_names(dataset).items())).encode())
    return digest.hexdigest()


def check_data(
    cohort: Cohort, *, output_dir: str, patch_size: Sequence[int] | None = None, spacing: Sequence[float] | None = None
) -> None:
    """Check every case of a cohort before training; a resumed run does not read unchanged files again.

    Args:
        cohort: the cases and their label names.
        output_dir: folder of the run, which gets ``data_check.json``.
        patch_size: voxels of a training patch.
        spacing: mm that the volumes will be resampled to.

    Raises:
        InputError: with one line per problem.
    """
    modalities = {manifest.name: manifest.modalities for manifest in cohort.manifests}
    if len({len(names) for names in modalities.values()}) > 1:
        text = ", ".join(f"{name} {list(names)}" for name, names in modalities.items())
        raise InputError("dataset_dir", f"the data sets differ in modalities: {text}", "train on data sets that agree")
    if rank() != 0:
        return
    path, fingerprint = Path(output_dir) / "data_check.json", _fingerprint(cohort)
    if path.is_file() and json.loads(path.read_text()).get("fingerprint") == fingerprint:
        return
    report = check_cases(cohort, patch_size=patch_size, spacing=spacing)
    for notice in report.notices:
        logger.info("Notice: %s", notice)
    report.raise_if_errors()
    record = {"fingerprint": fingerprint, "cases": len(report.cases), "notices": report.notices}
    path.write_text(json.dumps(record, indent=4) + "\n")
