import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from tissue_phantom import SPACING, tissue_ball

from mtmed.errors import InputError
from mtmed.transforms.tissue_segmentation import segment_tissue
from mtmed.transforms.tissue_tables import read_tissue_table, relabel_tissue

pytest.importorskip("dipy")


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return 2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second))


def dice_of_tissues(found: NDArray[np.uint8], expected: NDArray[np.uint8]) -> list[float]:
    return [dice(found == value, expected == value) for value in (1, 2, 3)]


@pytest.mark.parametrize("noise", [0.0, 15.0])
def test_tissues_of_a_phantom_are_found(noise: float) -> None:
    t1, tissue = tissue_ball(noise=noise)
    found = segment_tissue(t1, spacing=SPACING)
    assert found.dtype == np.uint8
    assert min(dice_of_tissues(found, tissue)) > 0.98
    np.testing.assert_array_equal(found == 0, tissue == 0)


def test_the_same_scan_gives_the_same_map_whatever_numpy_drew_before() -> None:
    t1, _ = tissue_ball(noise=40.0)
    np.random.seed(1)
    first = segment_tissue(t1, spacing=SPACING)
    np.random.seed(2)
    np.testing.assert_array_equal(segment_tissue(t1, spacing=SPACING), first)


def test_scale_offset_and_empty_margin_do_not_matter() -> None:
    t1, _ = tissue_ball()
    expected = segment_tissue(t1, spacing=SPACING)
    normalised = np.where(t1 != 0, (t1.astype(np.float64) - 280) / 90, 0)
    found = segment_tissue(np.pad(normalised, ((0, 3), (2, 0), (1, 5))), spacing=SPACING)
    assert np.mean(found[:-3, 2:, 1:-5] != expected) < 1e-4


def test_bright_outliers_and_negative_ringing_hardly_change_the_map() -> None:
    t1, tissue = tissue_ball()
    generator = np.random.default_rng(3)
    spoilt = t1.copy()
    spoilt[(tissue > 0) & (generator.random(t1.shape) < 0.02)] = 4000.0
    rim = (tissue == 1) & (generator.random(t1.shape) < 0.2)
    spoilt[rim] = -30.0
    found = segment_tissue(spoilt, spacing=SPACING)
    untouched = spoilt == t1
    assert min(dice_of_tissues(found[untouched], tissue[untouched])) > 0.95
    assert (found[rim] == 1).mean() > 0.9


def test_zeros_that_the_brain_encloses_are_fluid() -> None:
    t1, tissue = tissue_ball()
    ventricle = (tissue == 1) & (t1 != 0)
    ventricle[:13] = ventricle[-13:] = ventricle[:, :13] = ventricle[:, -13:] = False
    ventricle[..., :13] = ventricle[..., -13:] = False
    assert ventricle.any()
    found = segment_tissue(np.where(ventricle, 0, t1), spacing=SPACING)
    assert (found[ventricle] == 1).all()


@pytest.mark.parametrize(
    ("t1", "message"),
    [
        (np.zeros((8, 8, 8)), "is empty"),
        (np.full((8, 8, 8), 7.0), "is 7 everywhere"),
        (np.pad(np.ones((4, 4, 4)), 2), "fewer than three intensities"),
        (np.full((8, 8, 8), np.nan), "not finite"),
        (np.random.default_rng(0).normal(100, 10, (8, 8, 8)), "not skull-stripped: only 0.0% .* HD-BET or SynthStrip"),
    ],
)
def test_scans_without_tissue_are_refused(t1: NDArray[np.float64], message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        segment_tissue(t1, spacing=SPACING, name="t1.nii.gz")
    assert raised.value.culprit == "t1.nii.gz"


def test_without_dipy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dipy.segment.tissue", None)
    with pytest.raises(InputError, match=r'python -m pip install "mtmed\[tissue\]"'):
        segment_tissue(tissue_ball()[0], spacing=SPACING)


@pytest.mark.real
def test_a_real_brain_agrees_with_its_labels(real_data: Path) -> None:
    with np.load(real_data / "brain_t1_seg_npz" / "test_scan.npz") as scan:
        t1, labels = scan["vol"][::2, ::2, ::2], scan["seg"][::2, ::2, ::2]
    expected = relabel_tissue(labels, read_tissue_table("synthseg"))
    labelled = expected > 0  # fluid outside of the ventricles has no label
    found = np.where(labelled, segment_tissue(t1, spacing=(2, 2, 2)), 0)
    fluid, grey, white = dice_of_tissues(found, expected)
    assert (grey, white) > (0.86, 0.86)
    assert fluid > 0.5
    ventricles = np.isin(labels, (4, 43))
    assert (found[ventricles] == 1).mean() > 0.8


@pytest.mark.real
def test_the_mni_template_agrees_with_its_tissue_maps(real_data: Path) -> None:
    folder = real_data / "mni152_tissue"
    t1, grey, white = (
        np.asarray(nib.load(next(folder.glob(f"*_{kind}_*"))).dataobj)[::2, ::2, ::2] for kind in ("t1", "gm", "wm")
    )
    found = segment_tissue(t1, spacing=(2, 2, 2))
    assert dice(found == 2, grey > 127) > 0.8
    assert dice(found == 3, white > 127) > 0.93
