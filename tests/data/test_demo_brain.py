"""The demo cohort of brain MRI: readable as the challenge's folders, anatomically right, the same on every run."""

import json
import re
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt
from scipy.ndimage import label as connected_components

from mtmed.data import load_cohort
from mtmed.data.demo import brain_mr, demo_brain_ms
from mtmed.errors import InputError

MODALITIES = ("FLAIR", "T1", "T2", "PD")
ML = 0.027  # volume of a voxel of 3 mm
EVERY_NEIGHBOUR = np.ones((3, 3, 3))


@dataclass(frozen=True)
class Scan:
    """A row of the cohort, its arrays turned to RAS by their affines."""

    patient: str
    visit: str
    images: dict[str, np.ndarray]
    raters: list[np.ndarray]
    tissue: np.ndarray


def read(file: Path) -> np.ndarray:
    return np.asarray(nib.as_closest_canonical(nib.load(file)).dataobj)


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def coordinates() -> np.ndarray:
    """Patient coordinates of the voxels of an array in RAS."""
    return np.indices(brain_mr.SHAPE) * 3.0 + np.array(brain_mr.CORNER)[:, None, None, None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(demo_brain_ms(tmp_path_factory.mktemp("brain")))


@pytest.fixture(scope="module")
def manifest(folder: Path) -> dict:
    return json.loads((folder / "dataset.json").read_text())


@pytest.fixture(scope="module")
def scans(folder: Path, manifest: dict) -> list[Scan]:
    return [
        Scan(
            row["patient"],
            row["visit"],
            {name: read(folder / file) for name, file in zip(MODALITIES, row["image"], strict=True)},
            [read(folder / file) > 0 for file in row["label"]],
            read(folder / row["maps"]["tissue"]),
        )
        for row in manifest["training"]
    ]


@pytest.fixture(scope="module")
def by_patient(scans: list[Scan]) -> dict[str, list[Scan]]:
    found = defaultdict(list)
    for scan in scans:
        found[scan.patient].append(scan)
    return found


def test_same_seed_gives_the_same_files_whatever_the_number_of_patients_and_another_seed_does_not(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(brain_mr, "_TEST_LOADS_ML", ())
    again = Path(demo_brain_ms(tmp_path / "a", patients=1))
    files = sorted(file.relative_to(again) for file in again.rglob("*.nii.gz"))
    assert len(files) == 3 * 7
    for file in files:
        assert (again / file).read_bytes() == (folder / file).read_bytes(), file
    other = Path(demo_brain_ms(tmp_path / "b", seed=4, patients=1))
    assert not [file for file in files if (other / file).read_bytes() == (again / file).read_bytes()]


def test_options_out_of_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="patients: is 0"):
        demo_brain_ms(tmp_path, patients=0)
    with pytest.raises(InputError, match="seed: is -1"):
        demo_brain_ms(tmp_path, seed=-1)
    assert not list(tmp_path.iterdir())


def test_files_lie_where_those_of_the_challenge_lie(folder: Path, manifest: dict) -> None:
    image = re.compile(r"(training|testdata_website)/(\w+\d\d)/preprocessed/\2_\d\d_(flair|mprage|t2|pd)_pp\.nii\.gz")
    mask = re.compile(r"training/(training\d\d)/masks/\1_\d\d_mask[12]\.nii\.gz")
    tissue = re.compile(r"tissue/\w+\d\d_\d\d_tissue\.nii\.gz")
    files = {file.relative_to(folder).as_posix() for file in folder.rglob("*.nii.gz")}
    count = [sum(pattern.fullmatch(file) is not None for file in files) for pattern in (image, mask, tissue)]
    assert count == [4 * 13, 2 * 11, 13]
    assert len(files) == sum(count)
    rows = manifest["training"] + manifest["test"]
    assert files == {
        path.removeprefix("./")
        for row in rows
        for path in (*row["image"], *row.get("label", ()), row["maps"]["tissue"])
    }
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 12e6


def test_cohort_loads_with_raters_maps_and_visits(folder: Path) -> None:
    cohort = load_cohort(folder)
    labelled = [case for case in cohort.cases if case.label]
    assert len(labelled) == 11
    assert {case.group: case.visit for case in labelled} == {
        "training01": "03",
        **{f"training0{number}": "02" for number in range(2, 6)},
    }
    for case in labelled:
        assert [Path(path).name.split("_")[2] for path in case.images] == ["flair", "mprage", "t2", "pd"]
        assert [Path(path).name[-12:-7] for path in case.labels] == ["mask1", "mask2"]
        assert set(case.maps) == {"tissue"}
        assert all(Path(path).is_file() for path in case.files)


def test_test_patients_are_others_and_have_no_masks(folder: Path, manifest: dict, scans: list[Scan]) -> None:
    assert [row["patient"] for row in manifest["test"]] == ["test01", "test02"]
    for row in manifest["test"]:
        assert "label" not in row
        tissue = read(folder / row["maps"]["tissue"])
        assert all(dice(tissue == 2, scan.tissue == 2) < 0.9 for scan in scans)


def test_orientations_differ_and_all_files_of_a_scan_share_one_grid(folder: Path, manifest: dict) -> None:
    orientations = {}
    for row in manifest["training"] + manifest["test"]:
        files = [folder / path for path in (*row["image"], *row.get("label", ()), row["maps"]["tissue"])]
        images = [nib.load(file) for file in files]
        for image in images:
            np.testing.assert_array_equal(image.affine, images[0].affine)
            np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-4)
            assert image.get_sform(coded=True)[1] == image.get_qform(coded=True)[1] == 4
            turned = nib.as_closest_canonical(image)
            assert turned.shape == brain_mr.SHAPE
            np.testing.assert_allclose(turned.affine[:3, 3], brain_mr.CORNER)
            np.testing.assert_allclose(turned.affine[:3, :3], 3 * np.eye(3))
        orientations[row["patient"]] = "".join(nib.aff2axcodes(images[0].affine))
    assert {name: codes for name, codes in orientations.items() if codes != "RAS"} == {
        "training03": "LAS",
        "training05": "LPS",
    }


def test_outside_the_brain_is_exactly_zero_and_inside_never(scans: list[Scan]) -> None:
    for scan in scans:
        inside = scan.tissue > 0
        pieces, _ = connected_components(inside)
        assert np.bincount(pieces.ravel())[1:].max() > 0.999 * inside.sum()
        rim = inside & (distance_transform_edt(inside) <= 1)
        for image in scan.images.values():
            assert image.dtype == np.int16
            np.testing.assert_array_equal(image != 0, inside)
            negative = image < 0
            assert 0.0003 < negative.sum() / inside.sum() < 0.01
            assert not (negative & ~rim).any()
            assert image.min() > -0.1 * np.median(image[inside])


def test_volumes_are_those_of_adult_brains(by_patient: dict[str, list[Scan]]) -> None:
    for name, (scan, *_) in by_patient.items():
        fluid, grey, white = np.bincount(scan.tissue.ravel(), minlength=4)[1:] * ML
        assert 1500 < fluid + grey + white < 2200, name  # MNI space is larger than life
        assert 1.1 < grey / white < 1.7, name
        assert 0.1 < fluid / (grey + white) < 0.45, name


def test_right_frontal_and_left_occipital_lobe_reach_further_in_every_orientation(
    by_patient: dict[str, list[Scan]],
) -> None:
    x, y, _ = coordinates()
    for name, (scan, *_) in by_patient.items():
        brain = scan.tissue > 1
        right, left = brain & (x > 6), brain & (x < -6)
        assert y[right].mean() - y[left].mean() > 2, name
        assert np.percentile(y[right], 99) > np.percentile(y[left], 99), name


def test_ventricles_lie_in_the_middle_and_cortex_outside(scans: list[Scan]) -> None:
    x, y, z = coordinates()
    for scan in scans:
        depth = distance_transform_edt(scan.tissue > 0) * 3.0
        upper = z > -10
        assert np.median(depth[(scan.tissue == 2) & upper]) + 3 < np.median(depth[(scan.tissue == 3) & upper])
        horns = (np.abs(x) < 34) & (np.abs(x) > 4) & (y > -60) & (y < 34) & (z > 2) & (z < 24) & (depth > 24)
        assert ((scan.tissue == 1) & horns).sum() * ML > 5


def test_contrasts_order_the_tissues_as_their_sequences_do(scans: list[Scan]) -> None:
    for scan in scans:
        lesion = scan.raters[0]
        masks = {"CSF": scan.tissue == 1, "GM": scan.tissue == 2, "WM": (scan.tissue == 3) & ~lesion, "lesion": lesion}
        median = {
            modality: {tissue: float(np.median(image[mask])) for tissue, mask in masks.items()}
            for modality, image in scan.images.items()
        }
        t1, t2, pd, flair = (median[name] for name in ("T1", "T2", "PD", "FLAIR"))
        assert t1["WM"] > t1["GM"] > t1["CSF"]
        assert t1["CSF"] < t1["lesion"] < 0.9 * t1["WM"]
        for late in (t2, pd):
            assert late["CSF"] > late["GM"] > late["WM"]
            assert late["lesion"] > 1.15 * late["WM"]
        assert flair["CSF"] < 0.6 * flair["WM"]
        assert 1 < flair["GM"] / flair["WM"] < 1.25
        assert flair["lesion"] > 1.25 * flair["GM"]


def test_intensity_scale_and_noise_differ_from_scan_to_scan(scans: list[Scan]) -> None:
    for modality in MODALITIES:
        levels = [float(np.median(scan.images[modality][scan.tissue == 3])) for scan in scans]
        assert max(levels) > 1.3 * min(levels)
        assert len(set(levels)) > len(scans) - 3


def test_lesions_lie_in_white_matter_only_and_mostly_near_the_ventricles(scans: list[Scan]) -> None:
    x, y, z = coordinates()
    near, everywhere = [], []
    for scan in scans:
        for mask in scan.raters:
            assert mask.any()
            assert (scan.tissue[mask] == 3).all()
        central = (np.abs(x) < 36) & (y > -80) & (y < 36) & (z > -8) & (z < 28)
        depth = distance_transform_edt(scan.tissue > 0) * 3.0
        distance = distance_transform_edt(~((scan.tissue == 1) & central & (depth > 15))) * 3.0
        near.append(float(np.median(distance[scan.raters[0]])))
        everywhere.append(float(np.median(distance[scan.tissue == 3])))
    assert np.mean(near) < 0.7 * np.mean(everywhere)


def test_lesion_loads_reach_from_small_to_large(scans: list[Scan]) -> None:
    loads = [float(scan.raters[0].sum() * ML) for scan in scans]
    assert 0.3 <= min(loads) < 0.6
    assert 28 < max(loads) <= 40
    assert sum(1 < load < 20 for load in loads) >= 6


def test_lesions_differ_in_size(scans: list[Scan]) -> None:
    sizes = []
    for scan in scans:
        pieces, _ = connected_components(scan.raters[0], structure=EVERY_NEIGHBOUR)
        sizes += list(np.bincount(pieces.ravel())[1:] * ML)
    assert min(sizes) == pytest.approx(2 * ML)
    assert max(sizes) > 4
    assert 0.1 < np.median(sizes) < 1


def test_lesions_grow_or_appear_between_visits_of_the_same_brain(by_patient: dict[str, list[Scan]]) -> None:
    new = 0
    for visits in by_patient.values():
        assert [scan.visit for scan in visits] == [f"{number:02d}" for number in range(1, len(visits) + 1)]
        for before, after in pairwise(visits):
            np.testing.assert_array_equal(before.tissue, after.tissue)
            assert not np.array_equal(before.images["T1"], after.images["T1"])
            first, second = before.raters[0], after.raters[0]
            assert second.sum() > first.sum()
            assert (first & second).sum() > 0.75 * first.sum()
            pieces, count = connected_components(second, structure=EVERY_NEIGHBOUR)
            new += count - len(np.unique(pieces[first & second]))
    assert new >= 3
    assert len(by_patient) == 5


def test_patients_have_different_brains(by_patient: dict[str, list[Scan]]) -> None:
    brains = [visits[0].tissue for visits in by_patient.values()]
    for number, first in enumerate(brains):
        for second in brains[:number]:
            assert dice(first > 0, second > 0) > 0.85
            assert dice(first == 2, second == 2) < 0.8


def test_raters_agree_as_well_as_raters_do_and_the_second_misses_small_lesions(scans: list[Scan]) -> None:
    missed = 0
    for scan in scans:
        first, second = scan.raters
        assert 0.6 < dice(first, second) < 0.95, (scan.patient, scan.visit)
        assert (second & ~first).sum() < (first & ~second).sum()
        pieces, _ = connected_components(first, structure=EVERY_NEIGHBOUR)
        sizes = np.bincount(pieces.ravel())
        unseen = sorted(set(range(1, len(sizes))) - set(np.unique(pieces[second])))
        assert all(sizes[piece] * ML < 0.5 for piece in unseen)
        missed += bool(unseen)
    assert missed > len(scans) / 2
    assert any((scan.raters[1] & ~scan.raters[0]).any() for scan in scans)


def test_markov_random_field_classifier_finds_the_tissue_on_t1(scans: list[Scan]) -> None:
    pytest.importorskip("dipy")
    from dipy.segment.tissue import TissueClassifierHMRF

    scan = scans[0]
    t1 = scan.images["T1"].astype(np.float64)
    _, found, _ = TissueClassifierHMRF(verbose=False).classify(t1, 3, 0.1, tolerance=1e-4, max_iter=30)
    fluid, grey, white = (dice(found == value, scan.tissue == value) for value in (1, 2, 3))
    assert fluid > 0.7
    assert grey > 0.8
    assert white > 0.8
