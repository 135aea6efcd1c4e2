from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from mtmed.data.contrast_order import contrast_warnings, white_matter_brightness

SPACING = (2.0, 2.0, 2.0)
T1, FLAIR, T2 = (60.0, 200.0, 300.0), (30.0, 180.0, 150.0), (300.0, 180.0, 140.0)  # CSF, grey, white


def brain(csf: float, grey: float, white: float, *, noise: float = 25.0) -> NDArray[np.float64]:
    axis = (np.arange(48) - 23.5) * 2
    radius = np.sqrt(sum(a**2 for a in np.meshgrid(axis, axis, axis, indexing="ij")))
    scan = np.select([radius < 10, radius < 35, radius < 42, radius < 44], [csf, white, grey, csf], 0.0)
    return np.where(scan > 0, scan + noise * np.random.default_rng(0).standard_normal(scan.shape), 0.0)


SCANS = {"FLAIR": brain(*FLAIR), "T1": brain(*T1), "T2": brain(*T2)}


def test_right_names_give_no_warning() -> None:
    assert contrast_warnings(SCANS, spacing=SPACING) == []


@pytest.mark.parametrize("other", ["FLAIR", "T2"])
def test_swapped_names_give_a_warning_for_each(other: str) -> None:
    swapped = {**SCANS, "T1": SCANS[other], other: SCANS["T1"]}
    warnings = sorted(contrast_warnings(swapped, spacing=SPACING), key=lambda line: not line.startswith("T1"))
    assert [line.partition(":")[0] for line in warnings] == ["T1 looks like FLAIR or T2", f"{other} looks like T1"]


def test_the_chance_is_the_area_under_the_curve_of_the_two_layers() -> None:
    scan = brain(*T1, noise=60.0)
    depth = ndimage.distance_transform_edt(scan != 0, sampling=2) - 1  # the surface is half a voxel nearer
    dark, bright = np.quantile(scan[scan != 0], [0.1, 0.95])
    kept = (scan > dark) & (scan < bright)
    deep, surface = scan[kept & (depth > 9) & (depth <= 20)], scan[kept & (depth > 2) & (depth <= 5)]
    pairs = (deep[::5, None] > surface[None, ::5]).mean()
    assert 0.55 < pairs < 0.95
    assert white_matter_brightness(scan, spacing=SPACING) == pytest.approx(pairs, abs=0.02)


def test_scale_and_offset_do_not_matter() -> None:
    scan = brain(*FLAIR)
    normalised = np.where(scan != 0, scan / 40 - 4, 0)
    expected = white_matter_brightness(scan, spacing=SPACING)
    assert white_matter_brightness(normalised, spacing=SPACING) == pytest.approx(expected, abs=1e-3)


def test_nothing_is_said_of_other_names_empty_or_tiny_scans_and_heads() -> None:
    scans = {
        "T1CE": SCANS["FLAIR"],
        "FLAIR": np.zeros((8, 8, 8)),
        "T2": SCANS["T1"][20:26, 20:26, 20:26],
        "PD": np.full((64, 64, 64), 5.0),
        "T1": np.full((48, 48, 48), np.nan),
    }
    assert contrast_warnings(scans, spacing=SPACING) == []


def test_thick_voxels_that_mix_cortex_with_fluid_give_no_false_warning() -> None:
    coarse = {}
    for name, scan in SCANS.items():
        blocks = scan.reshape(24, 2, 24, 2, 24, 2)
        coarse[name] = np.where((blocks != 0).mean((1, 3, 5)) > 0.5, blocks.mean((1, 3, 5)), 0)
    assert contrast_warnings(coarse, spacing=(4, 4, 4)) == []
    assert len(contrast_warnings({"T1": coarse["FLAIR"], "FLAIR": coarse["T1"]}, spacing=(4, 4, 4))) == 2


@pytest.mark.real
def test_real_patients_are_silent_until_names_are_swapped(real_data: Path) -> None:
    for patient in ("07", "26"):
        folder = real_data / "ms_open_mni" / f"patient{patient}"
        scans = {
            name: np.asarray(nib.load(next(folder.glob(f"{name}_*"))).dataobj, np.float32)
            for name in ("FLAIR", "T1", "T2")
        }
        assert contrast_warnings(scans, spacing=(1, 1, 1)) == []
        for other in ("FLAIR", "T2"):
            swapped = {"T1": scans[other], other: scans["T1"]}
            assert len(contrast_warnings(swapped, spacing=(1, 1, 1))) == 2
    template = nib.load(next((real_data / "mni152_tissue").glob("*_t1_*")))
    assert contrast_warnings({"T1": np.asarray(template.dataobj)}, spacing=(1, 1, 1)) == []
    assert len(contrast_warnings({"FLAIR": np.asarray(template.dataobj)}, spacing=(1, 1, 1))) == 1
