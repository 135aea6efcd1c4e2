"""The check of a cohort against one plain read of the same files.

    OMP_NUM_THREADS=1 python benchmarks/data_check.py [FOLDER]

50 synthetic cases (CT-like int16 of 192 x 192 x 96, 6 organs), and the volumes of each folder below FOLDER that has
NIfTI files, without label maps. Reading is nibabel's, in as many threads as the
check takes; nibabel stops before the checksum of a gzip stream, which the check verifies beside all else. The goal: a
check takes at most twice the time of reading. It counts for the exit status, as does that the check finds nothing in
sound volumes. ``--quick`` takes small volumes, which shows that it works but not the ratio.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np

if __package__ is None or __package__ == "":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.timing import agreement, compare, exit_status, machine, print_table, ratio, seconds_text, spread_text
from mtmed.data import Case, check_cases

MOST = 2.0  # times one read
LABELS = ("mask", "segmentation", "multiclass")  # in the names of label maps


def write_cohort(folder: Path, shape: Sequence[int], number: int) -> list[Case]:
    """Ellipsoids in noise, other noise in each case."""
    generator = np.random.default_rng(0)
    index = np.indices(shape)
    affine = np.diag([-0.9, -0.9, 2.5, 1.0])
    cases = []
    for name in map(str, range(number)):
        image = generator.normal(-900, 20, shape)
        label = np.zeros(shape, np.uint8)
        for value in range(1, 7):
            centre = [n * (0.3 + 0.4 * generator.random()) for n in shape]
            radius = [n * (0.08 + 0.12 * generator.random()) for n in shape]
            inside = sum(((i - c) / r) ** 2 for i, c, r in zip(index, centre, radius, strict=True)) < 1
            label[inside] = value
            image[inside] = generator.normal(30 * value, 20, np.count_nonzero(inside))
        paths = [folder / f"{part}_{name}.nii.gz" for part in ("image", "label")]
        for voxels, path in zip((image.astype(np.int16), label), paths, strict=True):
            nib.save(nib.Nifti1Image(voxels, affine), path)
        cases.append(Case(name, (str(paths[0]),), str(paths[1]), name, "synthetic"))
    return cases


def found_cohorts(folder: Path) -> dict[str, list[Case]]:
    """Volumes below each folder of a folder, each as an image."""
    cohorts = {}
    for inside in sorted(item for item in folder.iterdir() if item.is_dir()):
        volumes = sorted(file for file in inside.rglob("*.nii*") if not file.name.startswith("."))
        files = [file for file in volumes if not any(word in file.name.lower() for word in LABELS)]
        if files:
            cohorts[inside.name] = [
                Case(str(n), (str(file),), None, str(n), inside.name) for n, file in enumerate(files)
            ]
    return cohorts


def read(cases: Sequence[Case], workers: int) -> int:
    """Bytes of all voxels, by nibabel."""

    def size(path: str) -> int:
        return int(np.asarray(nib.load(path).dataobj).nbytes)

    with ThreadPoolExecutor(workers) as pool:
        return sum(pool.map(size, [path for case in cases for path in case.files]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="folder of folders with real volumes")
    parser.add_argument("--workers", type=int, default=1, help="threads of either side; default: 1")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        shape, number = ((48, 48, 32), 6) if arguments.quick else ((192, 192, 96), 50)
        cohorts = {f"{number} synthetic cases": write_cohort(Path(folder), shape, number)}
        if arguments.folder is not None:
            cohorts |= found_cohorts(arguments.folder)
        rows = []
        for name, cases in cohorts.items():
            seconds = compare(
                {
                    "read": lambda cases=cases: read(cases, arguments.workers),
                    "check": lambda cases=cases: check_cases(cases, workers=arguments.workers, allow_duplicates=True),
                },
                rounds=arguments.rounds,
            )
            times = ratio(seconds["check"], seconds["read"])
            errors = check_cases(cases, workers=arguments.workers, allow_duplicates=True).errors
            sound = agreement(len(errors), 0, "errors")
            goal = "-" if arguments.quick else agreement(statistics.median(times), MOST, "times a read")
            size = f"{read(cases, arguments.workers) / 1e6:.0f} MB"
            cells = (seconds_text(seconds["read"]), seconds_text(seconds["check"]), spread_text(times), goal, sound)
            rows.append((name, str(sum(len(case.files) for case in cases)), size, *cells))
    header = ("cohort", "files", "voxels", "read", "check", "check / read", "goal", "agreement")
    print_table("Check of a cohort against one read of its files", header, rows)
    return exit_status()


if __name__ == "__main__":
    sys.exit(main())
