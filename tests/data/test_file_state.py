"""A file that changed is seen, also inside a folder of slices."""

import os
from pathlib import Path
from typing import Any

import pytest
from png_cohort import SCANS, rewrite_table, scan_folder, slice_path, write_png_cohort

from mtmed.data import VolumeStore, load_cohort
from mtmed.data.file_state import file_state
from mtmed.errors import InputError
from mtmed.transforms import LoadVolumed


def changes(folder: Path) -> dict[str, Any]:
    """By name, what can happen to the first scan of a cohort."""
    first = slice_path(folder, SCANS[0], 1)
    return {
        "slice with another content": lambda: first.write_bytes(slice_path(folder, SCANS[0], 2).read_bytes()),
        "slice of the same size at another time": lambda: os.utime(first, ns=(1, 1)),
        "slice removed": first.unlink,
        "slice renamed": lambda: first.rename(first.with_name(first.name.replace("0001", "0009"))),
        "slice added": lambda: slice_path(folder, SCANS[0], 9).write_bytes(first.read_bytes()),
        "row of the table": lambda: rewrite_table(folder, f"{SCANS[2]}_slice_0002,stomach,35 1", "x"),
    }


@pytest.mark.parametrize("name", changes(Path()))
def test_a_store_keeps_no_voxels_of_a_scan_that_changed(tmp_path: Path, name: str) -> None:
    (case, other, _) = load_cohort(write_png_cohort(tmp_path)).cases
    store = VolumeStore(tmp_path / "store", transforms=[LoadVolumed(["image", "label"])])
    before = store.key(case), store.key(other)
    assert (store.key(case), store.key(other)) == before
    changes(tmp_path)[name]()
    assert store.key(case) != before[0]
    # the table belongs to both
    assert (store.key(other) != before[1]) == (name == "row of the table")


def test_what_a_system_leaves_beside_images_is_no_change(tmp_path: Path) -> None:
    folder = scan_folder(write_png_cohort(tmp_path), SCANS[0])
    before = file_state(str(folder))
    (folder / ".DS_Store").write_bytes(b"x")
    assert file_state(str(folder)) == before


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    case = load_cohort(write_png_cohort(tmp_path)).cases[0]
    (tmp_path / "train").rename(tmp_path / "elsewhere")
    store = VolumeStore(tmp_path / "store", transforms=[LoadVolumed(["image", "label"])])
    with pytest.raises(InputError, match=rf"{SCANS[0]}/scans: cannot be read \(No such file"):
        store.key(case)
