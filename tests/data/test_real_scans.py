"""Real scans and real label maps are read as their description says and pass the check."""

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from real_cohorts import abdomen, left_atrium, lung, pretraining

from mtmed.cli import main
from mtmed.data import check_cases, load_cohort
from mtmed.transforms.reading import LoadVolumed, read_volume

pytestmark = pytest.mark.real

# slices, their distance and the pixel size in mm, voxels of kidney and of tumour
KITS = {
    "00004": (64, 4, 0.977, 115_306, 4_941),
    "00007": (61, 3, 0.939, 206_780, 7_058),
    "00015": (75, 3, 0.705, 271_289, 11_562),
    "00021": (38, 5, 0.822, 103_734, 6_993),
    "00023": (107, 3, 0.782, 295_748, 952),
    "00037": (97, 5, 0.938, 137_544, 96_532),
    "00039": (90, 5, 0.703, 142_581, 3_652),
    "00041": (52, 3, 0.678, 236_774, 25_583),
    "00045": (62, 3, 0.741, 123_855, 39_506),
    "00061": (29, 5, 0.977, 124_943, 23_276),
    "00076": (66, 5, 0.678, 137_485, 2_029),
    "00087": (49, 5, 0.691, 170_625, 17_344),
    "00094": (43, 5, 0.703, 247_785, 6_426),
    "00108": (51, 5, 0.865, 121_387, 69_282),
    "00110": (34, 5, 0.830, 112_396, 8_336),
    "00113": (43, 5, 0.701, 175_285, 61_331),
    "00122": (50, 5, 0.723, 206_869, 11_574),
    "00125": (171, 3, 0.977, 172_702, 2_473),
    "00129": (48, 5, 0.736, 149_068, 2_362),
    "00135": (634, 0.5, 0.838, 1_041_559, 1_608_691),
    "00137": (109, 2.5, 0.742, 241_964, 1_658),
    "00139": (103, 5, 0.801, 125_672, 306_276),
    "00147": (70, 5, 0.977, 86_379, 4_343),
    "00148": (36, 5, 0.906, 131_373, 6_135),
    "00161": (59, 5, 0.871, 104_013, 8_310),
    "00176": (102, 5, 0.977, 119_367, 9_837),
    "00206": (60, 5, 0.971, 90_282, 8_667),
}
ATRIA = {
    "5FKQL4K14KCB72Y8YMC2": ((180, 134, 88), 190_858),
    "8M99G0JLAXG9GLPV0O8G": ((148, 141, 88), 85_077),
    "CMPXO4J23G58J53Q98SZ": ((200, 148, 88), 252_364),
    "DQ5UYBGR5QP6L692QSG6": ((179, 143, 88), 132_128),
    "FGM5NIWN3URY4HF4WNUW": ((174, 148, 88), 226_997),
}
LESIONS = {"patient07": 1_300, "patient26": 8_227}


@pytest.mark.parametrize("case", KITS)
def test_kits_label_volumes_are_read_right(real_data: Path, case: str) -> None:
    slices, distance, pixel, kidney, tumour = KITS[case]
    volume = read_volume(real_data / "kits19_segmentations" / f"case_{case}" / "segmentation.nii.gz")
    assert "".join(nib.aff2axcodes(volume.affine)) == "IPL"
    assert volume.data.shape == (slices, 512, 512)
    assert volume.spacing == pytest.approx((distance, pixel, pixel), abs=6e-4)
    assert np.linalg.norm(volume.affine[:3, :3], axis=0) == pytest.approx(volume.spacing, rel=1e-5)
    # slice by slice, because one volume has 166 million voxels
    counts = sum(np.bincount(plane.ravel(), minlength=3) for plane in volume.data)
    assert counts[1:].tolist() == [kidney, tumour]


def test_left_atria_are_five_patients_with_the_spacing_that_is_assumed(real_data: Path, tmp_path: Path) -> None:
    report = check_cases(load_cohort(left_atrium(real_data, tmp_path)))
    assert (report.errors, report.notices) == ([], [])
    found = {case.key.split("/")[1]: (case.shape, case.voxels[1]) for case in report.cases}
    assert found == ATRIA
    assert {case.spacing for case in report.cases} == {(0.625, 0.625, 0.625)}
    assert len({case.group for case in report.cases}) == 5


def test_ct_cohorts_of_two_kinds_pass_the_check(
    real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort = load_cohort(pretraining(real_data, tmp_path))
    report = check_cases(cohort, patch_size=(96, 96, 96), spacing=(1.5, 1.5, 2.0))
    assert report.errors == []
    # 60 slices of 3 mm are 90 of 2 mm
    assert report.notices == ["lung/ibsi: is smaller than the patch of 96x96x96 voxels; it is padded with zeros"]
    body, chest = report.cases
    assert body.voxels == {0: body.voxels[0], 1: 41_692, 2: 9_668, 3: 7_134, 4: 5_090}
    assert body.spacing == pytest.approx((3, 3, 3), abs=1e-3)
    assert chest.voxels[1] == 125_256
    assert chest.spacing == pytest.approx((0.977, 0.977, 3), abs=1e-3)
    assert main(["check", str(tmp_path)]) == 0
    assert "0 errors, 0 notices" in capsys.readouterr().out


def test_labels_of_a_model_with_more_structures_are_refused_until_they_are_named(
    real_data: Path, tmp_path: Path
) -> None:
    abdomen(real_data, tmp_path)
    source = real_data / "totalseg_ct" / "example_seg_fast_force_split.nii.gz"
    (tmp_path / "labels" / "totalseg.nii.gz").write_bytes(source.read_bytes())
    (error,) = check_cases(load_cohort(tmp_path)).errors
    assert "labels/totalseg.nii.gz: label values 5, 6, 7, 8, 9, 10, 11, 14 ... are not in the manifest" in error

    values = np.unique(np.asarray(nib.load(source).dataobj))
    manifest = json.loads((tmp_path / "dataset.json").read_text())
    manifest["labels"] = {str(value): f"structure {value}" for value in values}
    (tmp_path / "dataset.json").write_text(json.dumps(manifest))
    report = check_cases(load_cohort(tmp_path))
    assert report.errors == []
    assert len(report.cases[0].voxels) == 62


def test_part_of_a_scan_with_the_header_of_the_whole_is_not_taken_for_it(real_data: Path, tmp_path: Path) -> None:
    abdomen(real_data, tmp_path)
    part = real_data / "totalseg_ct" / "example_ct_sm.nii.gz"
    (tmp_path / "images" / "totalseg.nii.gz").write_bytes(part.read_bytes())
    (error,) = check_cases(load_cohort(tmp_path)).errors
    assert "has 122x101x112 voxels" in error
    assert "122x101x30" in error


def test_a_scan_with_float_voxels_and_reversed_axes_keeps_label_on_image(real_data: Path, tmp_path: Path) -> None:
    """The tumour's density is that of soft tissue, in the file and after loading."""
    lung(real_data, tmp_path)
    (case,) = load_cohort(tmp_path).cases
    loaded = LoadVolumed(keys=("image", "label"))({"image": case.image[0], "label": case.label})
    assert "".join(nib.aff2axcodes(loaded["image"].affine.numpy())) == "LPS"
    tumour = loaded["image"][loaded["label"] == 1]
    source = nib.load(case.image[0]).get_fdata()[nib.load(case.label).get_fdata() == 1]
    assert len(tumour) == 125_256
    assert float(tumour.double().mean()) == pytest.approx(source.mean(), rel=1e-6)
    assert -150 < float(tumour.mean()) < 100


@pytest.fixture(scope="module")
def lesions(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two patients with three registered MR images each; the images stay where they are."""
    folder = tmp_path_factory.mktemp("lesions")
    rows = []
    for patient in LESIONS:
        source = real_data / "ms_open_mni" / patient
        images = [str(next(source.glob(f"{name}_*.nii.gz"))) for name in ("FLAIR", "T1", "T2")]
        label = str(next(source.glob("GOLD_STANDARD_*.nii.gz")))
        rows.append({"image": images, "label": label, "id": patient, "patient": patient})
    content = {
        "name": "Lesions",
        "modality": {"0": "FLAIR", "1": "T1", "2": "T2"},
        "labels": {"0": "background", "1": "lesion"},
        "training": rows,
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def test_three_registered_modalities_pass_the_check(lesions: Path) -> None:
    report = check_cases(load_cohort(lesions))
    assert report.errors == []
    assert {facts.key.partition("/")[2]: facts.voxels[1] for facts in report.cases} == LESIONS
    assert all(facts.shape == (182, 218, 182) for facts in report.cases)
    assert report.notices == ["2 cases (Lesions/patient07, Lesions/patient26): lies outside the folder of its manifest"]


def test_left_handed_modalities_are_stacked_on_their_own_grid(lesions: Path) -> None:
    case = load_cohort(lesions).cases[0]
    loaded = LoadVolumed(keys=("image", "label"))({"image": list(case.image), "label": case.label})
    assert loaded["image"].shape == (3, 182, 218, 182)
    assert "".join(nib.aff2axcodes(loaded["image"].affine.numpy())) == "LAS"
    lesion = loaded["label"][0] == 1
    brain = loaded["image"][0] != 0
    assert float(loaded["image"][0][lesion].mean()) == pytest.approx(118.9, abs=0.1)
    assert float(loaded["image"][0][brain].mean()) == pytest.approx(85.3, abs=0.1)
