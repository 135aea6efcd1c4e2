"""Volume store against MONAI's CacheDataset: first pass, later crops, and memory while the cohort grows.

Both get the same NIfTI files (synthetic CT-like int16, 6 organs), preprocessing (RAS, 1.5 x 1.5 x 2.0 mm, window),
number of threads and sampling rule. Run as ``python benchmarks/volume_store.py`` from the repository root; ``--quick``
takes small volumes, which shows that it works but not the ratios.
"""

import argparse
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import CacheDataset
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    Orientationd,
    RandCropByPosNegLabeld,
    ScaleIntensityRanged,
    Spacingd,
)
from timing import agreement, compare, exit_status, machine, print_table, ratio, seconds_text, spread_text

from mtmed.data import Case, CropDataset, RandomCrop, VolumeStore
from mtmed.transforms import LoadVolumed, SeparableSpacingd

KEYS = ["image", "label"]
MODES = ("bilinear", "nearest")
PIXDIM = (1.5, 1.5, 2.0)
WINDOW = {"a_min": -150, "a_max": 250, "b_min": 0.0, "b_max": 1.0, "clip": True}


def write_cohort(folder: Path, shape: Sequence[int], number: int) -> list[Case]:
    """One synthetic scan, copied: the content does not matter to either side."""
    generator = np.random.default_rng(0)
    index = np.indices(shape)
    image = generator.normal(-900, 20, shape)
    label = np.zeros(shape, np.uint8)
    for value in range(6):
        centre = [n * (0.3 + 0.4 * generator.random()) for n in shape]
        radius = [n * (0.08 + 0.12 * generator.random()) for n in shape]
        inside = sum(((i - c) / r) ** 2 for i, c, r in zip(index, centre, radius, strict=True)) < 1
        label[inside] = value + 1
        image[inside] += 950 + 30 * value
    affine = np.diag([-0.9, -0.9, 2.5, 1.0])
    for name, voxels in (("image", image.astype(np.int16)), ("label", label)):
        nib.save(nib.Nifti1Image(voxels, affine), folder / f"{name}_0.nii.gz")
    cases = []
    for copy in range(number):
        paths = [folder / f"{name}_{copy}.nii.gz" for name in KEYS]
        if copy:
            for name, path in zip(KEYS, paths, strict=True):
                shutil.copy(folder / f"{name}_0.nii.gz", path)
        cases.append(Case(str(copy), (str(paths[0]),), str(paths[1]), str(copy), "synthetic"))
    return cases


def store_chain() -> list[Any]:
    return [
        LoadVolumed(KEYS, keep_integers=True),
        Orientationd(KEYS, axcodes="RAS", labels=None),
        SeparableSpacingd(KEYS, pixdim=PIXDIM, mode=MODES),
        ScaleIntensityRanged("image", **WINDOW),
    ]


def monai_chain() -> list[Any]:
    return [
        LoadImaged(KEYS),
        EnsureChannelFirstd(KEYS),
        Orientationd(KEYS, axcodes="RAS", labels=None),
        Spacingd(KEYS, PIXDIM, mode=MODES),
        ScaleIntensityRanged("image", **WINDOW),
    ]


def cached(cases: Sequence[Case], patch: Sequence[int], threads: int) -> CacheDataset:
    crop = RandCropByPosNegLabeld(KEYS, label_key="label", spatial_size=patch, num_samples=1)
    rows = [{"image": case.image[0], "label": case.label} for case in cases]
    return CacheDataset(rows, Compose([*monai_chain(), crop]), num_workers=threads, progress=False)


def measure_speed(shape: Sequence[int], patch: Sequence[int], threads: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = write_cohort(folder, shape, 4)
        stores = (folder / f"store{number}" for number in itertools.count())
        first = compare(
            {
                "CacheDataset": lambda: cached(cases, patch, threads),
                "store": lambda: VolumeStore(next(stores), transforms=store_chain()).build(cases, workers=threads),
            },
            rounds=rounds,
        )
        store = VolumeStore(folder / "kept", transforms=store_chain())
        volumes = store.build(cases)
        expected = Compose(monai_chain())({"image": cases[0].image[0], "label": cases[0].label})
        stored = volumes[0].crop((0, 0, 0), volumes[0].shape)
        image = float(np.abs(stored["image"] - expected["image"].numpy()).max())
        labels = float((stored["label"] != expected["label"].numpy()).sum())

        torch.set_num_threads(1)  # as in a loader worker
        stock = cached(cases, patch, threads)
        ours = CropDataset(volumes, RandomCrop(patch_size=patch), seed=0, global_batch_size=1)
        count = 12
        steps = itertools.count()
        crops = compare(
            {
                "CacheDataset": lambda: [stock[index % len(cases)] for index in range(count)],
                "store": lambda: [ours[next(steps), 0] for _ in range(count)],
                "build again": lambda: store.build(cases),
            },
            rounds=3 * rounds,
        )
    per_crop = {side: [value / count for value in seconds] for side, seconds in crops.items()}
    per_case = {side: [value / len(cases) for value in seconds] for side, seconds in first.items()}
    same = agreement(max(image, labels), 1e-4, "image, labels")
    rows = [
        (
            label,
            seconds_text(s["CacheDataset"]),
            seconds_text(s["store"]),
            spread_text(ratio(s["CacheDataset"], s["store"])),
            same,
        )
        for label, s in ((f"first pass, per case, {threads} threads", per_case), ("one crop, 1 thread", per_crop))
    ]
    again = [value / len(cases) for value in crops["build again"]]
    rows.append(("second build, per case", "-", seconds_text(again), "-", "-"))
    title = f"Volumes {list(shape)}, crops {list(patch)}; {machine()}"
    print_table(title, ["stage", "CacheDataset", "volume store", "ratio", "agreement"], rows)


def anonymous_mebibytes() -> float:
    text = Path("/proc/self/smaps_rollup").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("Anonymous:")).split()[1]) / 1024


def hold(side: str, folder: Path, number: int, patch: Sequence[int]) -> None:
    """Run in a process of its own: draw two crops of each case and print the anonymous memory then held."""
    cases = [
        Case(str(i), (str(folder / f"image_{i}.nii.gz"),), str(folder / f"label_{i}.nii.gz"), str(i), "synthetic")
        for i in range(number)
    ]
    torch.set_num_threads(1)
    if side == "store":
        volumes = VolumeStore(folder / "store", transforms=store_chain()).build(cases)
        data: Any = CropDataset(volumes, RandomCrop(patch_size=patch), seed=0, global_batch_size=1)
        samples = (data[step, 0] for step in range(2 * number))
    else:
        data = cached(cases, patch, 1)
        samples = (data[index % number] for index in range(2 * number))
    for sample in samples:
        del sample
    print(anonymous_mebibytes())


def measure_memory(shape: Sequence[int], patch: Sequence[int], sizes: Sequence[int]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = write_cohort(folder, shape, max(sizes))
        VolumeStore(folder / "store", transforms=store_chain()).build(cases)
        held: dict[str, list[float]] = {}
        for side in ("CacheDataset", "store"):
            held[side] = []
            for number in sizes:
                command = [sys.executable, __file__, "--hold", side, name, str(number), *map(str, patch)]
                out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                held[side].append(float(out.split()[-1]))
    growth = held["store"][-1] / held["store"][0] - 1
    rows = [(side, *(f"{value:.0f} MiB" for value in held[side])) for side in held]
    rows = [(*row, f"{held[row[0]][-1] - held[row[0]][0]:+.0f} MiB") for row in rows]
    header = ["anonymous memory of the process", *(f"{number} cases" for number in sizes), "growth"]
    print_table(f"Volumes {list(shape)}, two crops of each case", header, rows)
    print(f"growth of the store: {agreement(max(growth, 0.0), 0.1, 'relative')}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small volumes, few rounds")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="for the first pass")
    parser.add_argument("--hold", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.hold:
        side, folder, number, *patch = options.hold
        hold(side, Path(folder), int(number), tuple(map(int, patch)))
        return 0
    if options.quick:
        measure_speed((96, 96, 48), (32, 32, 32), options.threads, 2)
        measure_memory((96, 96, 48), (32, 32, 32), (4, 16))
    else:
        measure_speed((256, 256, 128), (96, 96, 96), options.threads, 3)
        measure_memory((160, 160, 96), (64, 64, 64), (4, 8, 16, 32))
    return exit_status()


if __name__ == "__main__":
    sys.exit(main())
