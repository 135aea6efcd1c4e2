"""The demo cohort of kidney CT: readable as KiTS19, anatomically right, the same on every run."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from scipy.ndimage import label as connected_components

from mtmed.data import load_cohort
from mtmed.data.check import check_cases
from mtmed.data.demo import demo_kidney_ct, kidney_ct
from mtmed.data.demo.abdomen_patient import draw_patient
from mtmed.data.layout import apply_layout, read_layout
from mtmed.errors import InputError
from mtmed.randomness import random_generator

EVERY_NEIGHBOUR = np.ones((3, 3, 3))
LAYOUT = Path(__file__).parents[2] / "data_manifests" / "kits19.json"


@dataclass(frozen=True)
class Scan:
    """A labelled case as it lies in its files, and the voxels of its kidneys in patient coordinates (mm, RAS+)."""

    image: np.ndarray
    label: np.ndarray
    affine: np.ndarray
    kidneys: dict[str, np.ndarray]

    @property
    def midline(self) -> float:
        """First patient coordinate of the middle of the spine's bone."""
        bone = np.argwhere(self.image > 300)
        return float(np.median(bone @ self.affine[:3, :3].T[:, 0] + self.affine[0, 3]))


def read(folder: Path, case: str) -> Scan:
    image, segmentation = (nib.load(folder / "data" / case / f"{name}.nii.gz") for name in ("imaging", "segmentation"))
    label, affine = np.asarray(segmentation.dataobj), segmentation.affine
    scan = Scan(np.asarray(image.dataobj), label, affine, {})
    pieces, count = connected_components(label > 0, structure=EVERY_NEIGHBOUR)
    for piece in range(1, count + 1):
        points = np.argwhere(pieces == piece) @ affine[:3, :3].T + affine[:3, 3]
        if len(points) > 50:
            side = "left" if points[:, 0].mean() < scan.midline else "right"
            assert side not in scan.kidneys, case
            scan.kidneys[side] = points
    return scan


def millilitres(scan: Scan, side: str) -> float:
    return len(scan.kidneys[side]) * abs(float(np.linalg.det(scan.affine[:3, :3]))) / 1000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(demo_kidney_ct(tmp_path_factory.mktemp("kidney")))


@pytest.fixture(scope="module")
def scans(folder: Path) -> list[Scan]:
    return [read(folder, f"case_{number:05d}") for number in range(12)]


def test_same_seed_gives_the_same_files_whatever_the_number_of_cases_and_another_seed_does_not(
    folder: Path, tmp_path: Path
) -> None:
    again = Path(demo_kidney_ct(tmp_path / "a", cases=1))
    files = sorted(file.relative_to(again) for file in again.rglob("*.nii.gz"))
    assert len(files) == 4
    for file in files:
        assert (again / file).read_bytes() == (folder / file).read_bytes(), file
    other = Path(demo_kidney_ct(tmp_path / "b", seed=4, cases=1))
    assert not [file for file in files if (other / file).read_bytes() == (again / file).read_bytes()]


@pytest.mark.parametrize(("option", "value"), [("cases", 0), ("cases", 211), ("seed", -1)])
def test_options_out_of_range_are_refused(tmp_path: Path, option: str, value: int) -> None:
    with pytest.raises(InputError, match=f"{option}: is {value}"):
        demo_kidney_ct(tmp_path, **{option: value})
    assert not list(tmp_path.iterdir())


def test_manifest_lists_what_the_layout_of_the_challenge_finds(folder: Path) -> None:
    found = apply_layout(read_layout(LAYOUT), folder)
    (ours,) = load_cohort(folder).manifests
    assert ours.label_names == found.label_names == {0: "background", 1: "kidney", 2: "tumour"}
    assert ours.modalities == found.modalities
    for mine, theirs in ((ours.cases, found.cases), (ours.test_cases, found.test_cases)):
        facts = [[(case.id, case.image, case.label, case.group) for case in cases] for cases in (mine, theirs)]
        assert facts[0] == facts[1]
    assert [case.id for case in ours.cases] == [f"case_{number:05d}" for number in range(12)]
    assert [case.id for case in ours.test_cases] == ["case_00210", "case_00211"]
    assert len({case.group for case in (*ours.cases, *ours.test_cases)}) == 14


def test_cohort_passes_the_check_and_is_small(folder: Path) -> None:
    report = check_cases(load_cohort(folder), include_test=True)
    assert not report.errors
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 15e6


def test_arrays_are_slices_first_and_only_the_affine_says_so(folder: Path) -> None:
    thickness = set()
    for number in range(12):
        for name in ("imaging", "segmentation"):
            image = nib.load(folder / "data" / f"case_{number:05d}" / f"{name}.nii.gz")
            assert nib.aff2axcodes(image.affine) == ("I", "P", "L")
            assert image.shape[1:] == (96, 96)
            assert 45 < image.shape[0] < 80
            assert not image.affine[:3, 3].any()
            slices, rows, columns = image.header.get_zooms()
            assert rows == columns < 3.7
            assert slices >= 4
            thickness.add(float(slices))
            by_qform = name == "segmentation" and number % 5 == 4
            codes = (int(image.header["sform_code"]), int(image.header["qform_code"]))
            assert codes == ((0, 1) if by_qform else (2, 0))
            kind = np.int16 if name == "imaging" else np.uint16 if by_qform else np.uint8
            assert image.get_data_dtype() == kind
    assert len(thickness) > 1


@pytest.mark.real
def test_header_of_a_label_map_says_what_the_real_ones_say(folder: Path, real_data: Path) -> None:
    """Facts of the form only: codes, unit, orientation, origin and type."""

    def form(file: Path) -> tuple[object, ...]:
        image = nib.load(file)
        header = image.header
        numbers = (int(header[key]) for key in ("sform_code", "qform_code", "xyzt_units"))
        return (*numbers, nib.aff2axcodes(image.affine), image.get_data_dtype(), bool(image.affine[:3, 3].any()))

    real = {form(file) for file in (real_data / "kits19_segmentations").glob("*/segmentation.nii.gz")}
    assert {form(file) for file in folder.glob("data/*/segmentation.nii.gz")} == real


def test_left_kidney_lies_at_the_patients_left_and_higher_and_the_liver_at_the_right(scans: list[Scan]) -> None:
    higher = []
    for scan in scans:
        for side, points in scan.kidneys.items():
            across, up_front = points.mean(axis=0)[:2] - (scan.midline, 0)
            assert 35 < abs(across) < 85
            assert (across > 0) == (side == "right")
            body = np.argwhere(scan.image > -300) @ scan.affine[:3, :3].T + scan.affine[:3, 3]
            assert up_front < body[:, 1].mean()
        if len(scan.kidneys) == 2:
            higher.append(scan.kidneys["left"][:, 2].mean() - scan.kidneys["right"][:, 2].mean())
        # columns grow to the patient's left, slices downwards: more soft tissue above the kidneys on the liver's side
        level = int(np.argwhere(scan.label > 0)[:, 0].min())
        column = round(-scan.midline / nib.affines.voxel_sizes(scan.affine)[2])
        soft = (scan.image[level : level + 8] > 70) & (scan.image[level : level + 8] < 140)
        assert soft[..., :column].sum() > 1.2 * soft[..., column:].sum()
    assert np.mean(higher) > 10


def test_one_case_has_a_single_kidney(scans: list[Scan]) -> None:
    assert [len(scan.kidneys) for scan in scans] == [2, 2, 1] + 9 * [2]
    assert list(scans[2].kidneys) == ["right"]


def test_left_and_right_kidneys_differ_in_size_and_shape(scans: list[Scan]) -> None:
    both = [scan for scan in scans if len(scan.kidneys) == 2]
    volumes = np.array([[millilitres(scan, side) for side in ("left", "right")] for scan in both])
    assert ((volumes > 60) & (volumes < 330)).all()
    assert np.mean(volumes[:, 0] / volumes[:, 1]) > 1.05
    assert volumes.std(axis=0).min() > 15
    spread = np.array([[scan.kidneys[side].std(axis=0) for side in ("left", "right")] for scan in both])
    slender = spread[..., 2] / spread[..., 0]
    assert np.mean(slender[:, 0] / slender[:, 1]) > 1.1


def test_some_kidneys_have_a_tumour_and_each_tumour_is_attached_to_its_kidney(scans: list[Scan]) -> None:
    with_tumour = [number for number, scan in enumerate(scans) if (scan.label == 2).any()]
    assert with_tumour == [0, 2, 3, 5, 6, 8, 9, 11]
    sides = set()
    for scan in (scans[number] for number in with_tumour):
        tumour = scan.label == 2
        _, pieces = connected_components(tumour, structure=EVERY_NEIGHBOUR)
        assert pieces == 1
        assert (binary_dilation(tumour, EVERY_NEIGHBOUR) & (scan.label == 1)).sum() > 20
        assert np.median(scan.image[tumour]) < np.median(scan.image[scan.label == 1]) - 50
        sides.add((np.argwhere(tumour)[:, 2].mean() * scan.affine[0, 2]) < scan.midline)
    assert sides == {True, False}


def test_a_missing_kidney_changes_nothing_else_of_a_patient_and_moves_the_tumour() -> None:
    sides = set()
    for number in range(6):
        drawn = [
            draw_patient(random_generator(0, 0, number, "patient"), kidney_cancer=True, missing_kidney=missing)
            for missing in (None, "left", "right")
        ]
        whole, without_left, without_right = drawn
        assert without_left.kidney_cancer == ("right", whole.kidney_cancer[1])
        assert without_right.kidney_cancer == ("left", whole.kidney_cancer[1])
        for patient in drawn[1:]:
            changed = {key for key, value in vars(patient).items() if value != vars(whole)[key]}
            assert changed - {"kidney_cancer"} == {"missing_kidney"}
        sides.add(whole.kidney_cancer[0])
    assert sides == {"left", "right"}


def test_paths_in_the_manifest_are_those_of_the_challenge(folder: Path) -> None:
    manifest = json.loads((folder / "dataset.json").read_text())
    pattern = re.compile(r"\./data/case_\d{5}/(imaging|segmentation)\.nii\.gz")
    rows = manifest["training"] + manifest["test"]
    listed = {row[key] for row in rows for key in ("image", "label") if key in row}
    assert all(pattern.fullmatch(path) for path in listed)
    assert {f"./{file.relative_to(folder).as_posix()}" for file in folder.rglob("*.nii.gz")} == listed
    assert manifest["numTraining"] == len(manifest["training"]) == 12
    assert manifest["numTest"] == len(manifest["test"]) == 2
    assert set(manifest["labels"].values()) == {"background", *kidney_ct.LABELS}
