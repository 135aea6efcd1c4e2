"""The tissue step on real T1 scans: Dice with their labels, CPU time and memory.

    python benchmarks/tissue.py FOLDER

FOLDER holds the scans that are there of: ``brain_t1_seg_npz/test_scan.npz`` (voxelmorph's example scan with FreeSurfer
labels, 1 mm; its labels are grouped by the table ``synthseg``), and ``mni152_tissue`` (nilearn's copies of the template
ICBM 2009a, ``*_t1_*``, ``*_gm_*``, ``*_wm_*``; grey or white matter is where its probability exceeds a half, and fluid
the rest of the brain). Of the first, only voxels with a label count, because its labels leave out the fluid around the
brain. Each scan is segmented in a process of its own, whose peak memory is given beyond its state before.

Nothing is compared with another program, so nothing can fail but a scan that cannot be read.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

if __package__ is None or __package__ == "":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.timing import machine, print_table
from mtmed.transforms.tissue_segmentation import segment_tissue
from mtmed.transforms.tissue_tables import TISSUE_NAMES, read_tissue_table, relabel_tissue

SPACING = (1.0, 1.0, 1.0)  # mm, of all scans
HALF = 127  # of probabilities times 255

DEEP_GREY = {"thalamus": (10, 49), "caudate": (11, 50), "putamen": (12, 51), "pallidum": (13, 52)}  # FreeSurfer's

Mask = NDArray[np.bool_]
Scan = tuple[NDArray[np.float32], NDArray[np.uint8], Mask, dict[str, Mask]]


def labelled_scan(folder: Path) -> Scan:
    """T1, its tissues by FreeSurfer's labels, the voxels that have one, and the deep grey nuclei."""
    with np.load(folder / "test_scan.npz") as content:
        t1, labels = content["vol"].astype(np.float32), content["seg"]
    tissue = relabel_tissue(labels, read_tissue_table("synthseg"))
    return t1, tissue, tissue > 0, {name: np.isin(labels, values) for name, values in DEEP_GREY.items()}


def template(folder: Path) -> Scan:
    """T1 of the template, its tissues by the larger probability, its brain, and no nuclei."""

    def read(name: str) -> NDArray[Any]:
        (path,) = folder.glob(f"*_{name}_*")
        return np.asarray(nib.load(path).dataobj)

    t1, grey, white = read("t1"), read("gm"), read("wm")
    tissue = np.where((grey <= HALF) & (white <= HALF), 1, np.where(grey >= white, 2, 3))
    tissue[t1 == 0] = 0
    return t1.astype(np.float32), tissue.astype(np.uint8), t1 != 0, {}


SCANS: dict[str, Callable[[Path], Scan]] = {"brain_t1_seg_npz": labelled_scan, "mni152_tissue": template}


def child(folder: Path) -> None:
    """Segment one scan in this process."""
    t1, tissue, counted, nuclei = SCANS[folder.name](folder)
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    start = time.process_time()
    found = segment_tissue(t1, spacing=SPACING)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    scores = []
    for value in (1, 2, 3):
        ours, theirs = (found == value) & counted, (tissue == value) & counted
        scores.append(2 * int((ours & theirs).sum()) / int(ours.sum() + theirs.sum()))
    shares = {name: [float((found[mask] == value).mean()) for value in (1, 2, 3)] for name, mask in nuclei.items()}
    result = {"shape": t1.shape, "scores": scores, "seconds": seconds, "peak": peak, "nuclei": shares}
    print(json.dumps(result))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help=f"folder that holds {' or '.join(SCANS)}")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.folder)
        return 0
    folders = [options.folder / name for name in SCANS if (options.folder / name).is_dir()]
    if not folders:
        parser.error(f"{options.folder} has none of {', '.join(SCANS)}")
    print(machine())
    rows, nuclei = [], []
    for folder in folders:
        command = [sys.executable, __file__, str(folder), "--child"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
        result = json.loads(output.strip().splitlines()[-1])
        scores = [f"{score:.3f}" for score in result["scores"]]
        shape = " x ".join(map(str, result["shape"]))
        rows.append([folder.name, shape, *scores, f"{result['seconds']:.0f} s", f"{result['peak'] / 2**20:.0f} MiB"])
        for name, shares in result["nuclei"].items():
            nuclei.append([name, *(f"{share:.0%}" for share in shares)])
    tissues = [TISSUE_NAMES[value].replace("_", " ") for value in (1, 2, 3)]
    header = ["scan", "voxels", *(f"Dice {tissue}" for tissue in tissues), "CPU time", "peak"]
    print_table("Tissue maps by dipy's hidden Markov random field, at 1 mm", header, rows)
    if nuclei:
        print_table("What the deep grey nuclei of brain_t1_seg_npz became", ["nucleus", *tissues], nuclei)
    return 0


if __name__ == "__main__":
    sys.exit(main())
