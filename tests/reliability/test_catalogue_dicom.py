"""Folders of DICOM slices that are no volume, or odd, given to the real command line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from abdomen_rows import CHECK, EVALUATE, FINETUNE, INFERENCE, PRETRAIN, inference, spoil
from catalogue import NOTHING, RUN, Row, assert_refused, assert_works, parametrized
from dicom_rows import SERIES, place, remove, series, trained_series, write_abdomen_series
from series_folder import turned, write_series

from mtmed.cli import main

UPRIGHT = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
NOISE = np.random.default_rng(2).integers(0, 90, (32, 32, 32)).astype(np.int16)
SLICE = f"{SERIES}/IM0005.dcm"
WORKS: dict[str, Any] = {"legal": True, "files": frozenset({"encoder.pt"})}
PASSES: dict[str, Any] = {"legal": True, "files": NOTHING}


def at(number: int, **fields: Any) -> Any:
    """One slice has other fields; None: has them not."""

    def change(index: int, header: Any) -> None:
        for name, value in fields.items():
            if index == number and value is None:
                delattr(header, name)
            elif index == number:
                setattr(header, name, value)

    return change


def turn_from(number: int) -> Any:
    def change(index: int, header: Any) -> None:
        if index >= number:
            header.ImageOrientationPatient = list(turned(UPRIGHT, 15))

    return change


def cut(folder: Path) -> None:
    path = folder / "IM0005.dcm"
    path.write_bytes(path.read_bytes()[:-500])


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def with_second_series(folder: Path) -> None:
    write_series(folder, NOISE[:8], series=2, name="SCOUT{}.dcm", orientation=UPRIGHT)


def with_scout(folder: Path) -> None:
    write_series(folder, NOISE[:1, :20], series=1, name="SCOUT.dcm", spacing=(1.0, 1.0, 1.0), orientation=UPRIGHT)


def all_spoilt(folder: Path) -> None:
    """Every case is a series, each with something else wrong."""
    for number in range(1, 4):
        write_abdomen_series(folder, number)
    remove(14, 15)(folder / "cohort/images/1")
    cut(folder / "cohort/images/2")
    with_second_series(folder / "cohort/images/3")


ROWS = (
    Row(
        "two slices missing",
        PRETRAIN,
        (f"{SERIES}: has a gap between z=12 and z=15 mm, slices are 1 mm apart (about 2 missing)", "copy or download"),
        series(remove(14, 15)),
    ),
    Row(
        "two slices missing at inference",
        inference(input=SERIES),
        (f"{SERIES}: has a gap between z=12 and z=15 mm, slices are 1 mm apart (about 2 missing)", "copy or download"),
        trained_series(remove(14, 15)),
        files=RUN,
    ),
    Row(
        "a slice missing at an evaluation",
        EVALUATE,
        (f"{SERIES}: has a gap between z=3 and z=5 mm, slices are 1 mm apart (about 1 missing)",),
        trained_series(remove(5)),
    ),
    Row(
        "gantry tilt",
        FINETUNE,
        (f"{SERIES}: has a gantry tilt: its slices are shifted 15 degrees off their normal", "dcm2niix"),
        series(orientation=turned(UPRIGHT, 15), step=(0, 0, 1)),
    ),
    Row(
        "gantry tilt at inference",
        inference(input=SERIES),
        (f"{SERIES}: has a gantry tilt: its slices are shifted 15 degrees off their normal", "dcm2niix"),
        trained_series(orientation=turned(UPRIGHT, 15), step=(0, 0, 1)),
        files=RUN,
    ),
    Row(
        "two series in a folder",
        CHECK,
        (f"{SERIES}: holds slices of 2 series (32 from IM0001.dcm, 8 from SCOUT1.dcm)", "a folder of its own"),
        series(with_second_series),
    ),
    Row(
        "two series in a folder at inference",
        inference(input=SERIES),
        (f"{SERIES}: holds slices of 2 series (32 from IM0001.dcm, 8 from SCOUT1.dcm)", "a folder of its own"),
        trained_series(with_second_series),
        files=RUN,
    ),
    Row(
        "two slices at one place",
        PRETRAIN,
        (f"{SERIES}: has two slices at z=3 mm (IM0004.dcm and IM0005.dcm)", "leave one of each"),
        series(change=at(4, ImagePositionPatient=[0, 0, 3])),
    ),
    Row(
        "two time points in a folder",
        CHECK,
        (f"{SERIES}: has two slices at z=0 mm", "16 such pairs among 32 slices", "time point"),
        series(change=place(lambda index: index % 16)),
    ),
    Row(
        "a slice that ends early",
        PRETRAIN,
        (f"{SLICE}: cannot be read as DICOM: it is damaged, ends early", "copy or download"),
        series(cut),
    ),
    Row(
        "a slice that ends early at inference",
        inference(input=SERIES),
        (f"{SLICE}: cannot be read as DICOM: it is damaged, ends early", "copy or download"),
        trained_series(cut),
        files=RUN,
    ),
    Row(
        "fewer pixels than the header claims",
        CHECK,
        (f"{SLICE}: has 2000 bytes of pixels, its header claims 2048", "copy or download"),
        series(change=at(4, PixelData=b"\0" * 2000)),
    ),
    Row(
        "planes that turn",
        EVALUATE,
        (f"{SLICE}: is turned by 15 degrees against the first slice of its series (IM0001.dcm)", "move it out"),
        trained_series(change=turn_from(4)),
    ),
    Row(
        "empty folder",
        PRETRAIN,
        (f"{SERIES}: is a folder without slices", "without DICOM files", "name a file"),
        series(empty),
    ),
    Row(
        "empty folder at inference",
        inference(input=SERIES),
        (f"{SERIES}: has no image (", ".dcm", "pass --input"),
        trained_series(empty),
        files=RUN,
    ),
    Row(
        "unevenly apart",
        FINETUNE,
        (f"{SERIES}: has slices that are unevenly apart, by 0.6 to 1.4 mm", "a tenth of the distance", "resample it"),
        series(change=place(lambda index: index + 0.4 * (index == 9))),
    ),
    Row(
        "a slice beside the others",
        CHECK,
        (f"{SLICE}: lies 7 mm beside the line of the other slices, 0.1 mm are allowed", "move it out"),
        series(change=place(float, lambda index: 7.0 * (index == 4))),
    ),
    Row(
        "no position",
        PRETRAIN,
        (f"{SLICE}: has no position in the patient (ImagePositionPatient)", "export the series again"),
        series(change=at(4, ImagePositionPatient=None)),
    ),
    Row(
        "no orientation",
        CHECK,
        (f"{SLICE}: has no orientation in the patient (ImageOrientationPatient)", "export the series again"),
        series(change=at(4, ImageOrientationPatient=None)),
    ),
    Row(
        "a scout of another size",
        CHECK,
        (f"{SERIES}/SCOUT.dcm: is 32x20 pixels, the first slice of its series (IM0001.dcm) 32x32", "move it out"),
        series(with_scout),
    ),
    Row(
        "pixels of another size",
        CHECK,
        (f"{SLICE}: has pixels of 1 x 1.2 mm, the first slice of its series (IM0001.dcm) 1 x 1 mm",),
        series(change=at(4, PixelSpacing=["1.2", "1"])),
    ),
    Row(
        "one slice of the series as the image",
        inference(input=SLICE),
        (f"{SLICE}: is a slice of a series (CT), expected an X-ray", "name the folder with all slices"),
        trained_series(),
        files=RUN,
    ),
    # odd but legal
    Row("a series among NIfTI files", PRETRAIN, (), series(), **WORKS),
    Row(
        "a series among NIfTI files at inference",
        INFERENCE,
        (),
        trained_series(),
        legal=True,
        files=frozenset({"0*.nii.gz", "1*.nii.gz", "2*.nii.gz", "3*.nii.gz"}),
    ),
    Row(
        "from head to feet, names without an ending",
        CHECK,
        ("32 x 32 x 32  1 x 1 x 1", "0 errors"),
        series(name="1.2.840.{}", origin=(0, 0, 31), step=(0, 0, -1)),
        **PASSES,
    ),
)


@pytest.mark.parametrize(("row", "workers"), parametrized(ROWS))
def test_series_that_are_no_volume_are_refused_and_odd_ones_work(row: Row, workers: int | None, tmp_path: Path) -> None:
    (assert_works if row.legal else assert_refused)(row, tmp_path, workers)


def test_the_check_lists_the_problems_of_all_series_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(all_spoilt)(tmp_path)
    assert main(["check", str(tmp_path / "cohort"), "--workers", "2"]) == 1
    printed = "".join(capsys.readouterr())
    for said in ("1: has a gap between", "2/IM0005.dcm: cannot be read", "3: holds slices of 2 series"):
        assert f"{tmp_path}/cohort/images/{said}" in printed
