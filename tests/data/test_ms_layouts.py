"""The layouts of data sets of MS lesions."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from layout_files import text, touch

from mtmed.data.layout import apply_layout, match_layout, read_layout
from mtmed.errors import InputError

ROOT = Path(__file__).parents[2]
NAMES = ("btcv", "kits19", "msd_liver", "msd_lung", "msd_pancreas", "msd_spleen", "nih_pancreas_ct")


MS_NAMES = ("isbi2015", "mslub_mni", "mslub_coregistered", "mslub_raw", "shifts_ms", "mslesseg", "bids_ms")


@pytest.mark.parametrize("name", MS_NAMES)
def test_layouts_of_ms_data_have_flair_first_and_label_lesions(name: str) -> None:
    layout = read_layout(name)
    assert layout.name == name
    assert layout.modalities[:3] == ("FLAIR", "T1", "T2")
    assert set(layout.modalities) <= {"FLAIR", "T1", "T2", "PD", "T1CE"}
    assert layout.label_names == {0: "background", 1: "lesion"}
    assert layout.licence
    assert layout.notes
    assert ("lesion change" in layout.notes) == name.startswith("mslub")


def names_of(folder: Path, paths: Sequence[str | None]) -> list[str | None]:
    return [None if path is None else Path(path).relative_to(folder).as_posix() for path in paths]


def test_isbi_2015_has_visits_and_two_raters(tmp_path: Path) -> None:
    for scan in ("training/training01/{}/training01_01", "training/training01/{}/training01_02"):
        touch(tmp_path, *(f"{scan.format('preprocessed')}_{m}_pp.nii" for m in ("flair", "mprage", "t2", "pd")))
        touch(tmp_path, *(f"{scan.format('masks')}_mask{rater}.nii" for rater in (1, 2)))
        touch(tmp_path, f"{scan.format('orig')}_flair.nii.gz")
    test = "testdata_website/test03/preprocessed/test03_05"
    touch(tmp_path, *(f"{test}_{m}_pp.nii" for m in ("flair", "mprage", "t2", "pd")))
    match = match_layout(read_layout("isbi2015"), tmp_path)
    case = match.manifest.cases[1]
    assert (case.id, case.group, case.visit) == ("training01_02", "training01", "02")
    start = "training/training01/preprocessed/training01_02"
    assert names_of(tmp_path, case.image) == [f"{start}_{m}_pp.nii" for m in ("flair", "mprage", "t2", "pd")]
    start = "training/training01/masks/training01_02"
    assert names_of(tmp_path, case.labels) == [f"{start}_mask1.nii", f"{start}_mask2.nii"]
    assert [(c.id, c.group, c.visit, c.label) for c in match.manifest.test_cases] == [
        ("test03_05", "test03", "05", None)
    ]
    assert match.notices == ("2 labelled cases; the complete data set has 21",)


MNI = "N4_noneck_reduced_winsor_regtoFLAIR_brain_N4_regtoMNI.nii.gz"


def test_the_three_forms_of_open_ms_data_are_told_apart(tmp_path: Path) -> None:
    root = "cross_sectional"
    for patient in ("patient01", "patient02"):
        touch(tmp_path, *(f"{root}/MNI/{patient}/{m}_{MNI}" for m in ("FLAIR", "T1", "T2", "T1POST")))
        touch(tmp_path, f"{root}/MNI/{patient}/GOLD_STANDARD_N4_noneck_reduced_winsor_regtoFLAIR_regtoMNI.nii.gz")
        # with and without the patient's name, as in the repository
        for form in ("raw", "coregistered", "coregistered_resampled"):
            start = f"{root}/{form}/{patient}/" + (f"{patient}_" if patient == "patient02" else "")
            touch(tmp_path, *(f"{start}{m}.nii.gz" for m in ("FLAIR", "T1W", "T2W", "T1WKS", "consensus_gt")))
            text(tmp_path, f"{start}T1W_to_FLAIR.txt")
            if form != "raw":
                touch(tmp_path, f"{start}brainmask.nii.gz")
        touch(tmp_path, *(f"longitudinal/raw/{patient}/study{n}_{m}.nii.gz" for n in (1, 2) for m in ("FLAIR", "T1W")))
        touch(tmp_path, f"longitudinal/coregistered/{patient}/gt.nii.gz")
    for name, form in (("mslub_mni", "MNI"), ("mslub_raw", "raw"), ("mslub_coregistered", "coregistered")):
        for folder in (tmp_path, tmp_path / root):
            match = match_layout(read_layout(name), folder)
            cases = match.manifest.cases
            assert match.manifest.modalities == ("FLAIR", "T1", "T2", "T1CE")
            assert [(case.id, case.group) for case in cases] == [("patient01",) * 2, ("patient02",) * 2]
            assert all(f"/{root}/{form}/" in path for case in cases for path in case.files)
            assert [set(case.maps) for case in cases] == [{"brain_mask"} if form == "coregistered" else set()] * 2
            assert match.notices == ("2 labelled cases; the complete data set has 30",)
        with pytest.raises(InputError, match="no file matches"):
            match_layout(read_layout(name), tmp_path / "longitudinal")


def test_the_archive_of_the_makers_of_mslub_is_read(tmp_path: Path) -> None:
    for folder in ("patient07", "patient07/raw"):
        touch(tmp_path, *(f"{folder}/patient07_{m}.nii.gz" for m in ("FLAIR", "T1W", "T2W", "T1WKS")))
    touch(tmp_path, "patient07/patient07_brainmask.nii.gz", "patient07/patient07_consensus_gt.nii.gz")
    case = apply_layout(read_layout("mslub_coregistered"), tmp_path).cases[0]
    assert names_of(tmp_path, case.files) == [
        f"patient07/patient07_{m}.nii.gz" for m in ("FLAIR", "T1W", "T2W", "T1WKS", "consensus_gt", "brainmask")
    ]


def test_shifts_keeps_the_visits_of_the_first_cohort_together(tmp_path: Path) -> None:
    parts = [("best/train", "6", "PD"), ("best/train", "25", "PD"), ("best/eval_in", "25", "PD")]
    for part, case, fourth in (*parts, ("ljubljana/dev_out", "1", "T1CE"), ("ljubljana/dev_out", "2", "T1CE")):
        touch(tmp_path, *(f"{part}/{m.lower()}/{case}_{m}_isovox.nii.gz" for m in ("FLAIR", "T1", "T2", fourth)))
        touch(tmp_path, f"{part}/gt/{case}_gt_isovox.nii.gz", f"{part}/fg_mask/{case}_isovox_fg_mask.nii.gz")
    match = match_layout(read_layout("shifts_ms"), tmp_path)
    assert sorted((case.id, case.group) for case in match.manifest.cases) == [
        ("best_eval_in_25", "best"),
        ("best_train_25", "best"),
        ("best_train_6", "best"),
        ("ljubljana_1", "ljubljana_1"),
        ("ljubljana_2", "ljubljana_2"),
    ]
    by_id = {case.id: case for case in match.manifest.cases}
    assert names_of(tmp_path, by_id["best_eval_in_25"].image) == [
        *(f"best/eval_in/{m.lower()}/25_{m}_isovox.nii.gz" for m in ("FLAIR", "T1", "T2", "PD")),
        None,
    ]
    assert by_id["ljubljana_1"].image[3] is None
    assert all(set(case.maps) == {"brain_mask"} for case in match.manifest.cases)
    assert {notice.split(":")[0] for notice in match.notices} == {
        "2 case(s) without PD, listed as null",
        "3 case(s) without T1CE, listed as null",
        "5 labelled cases; the complete data set has 46",
    }
    with pytest.raises(InputError, match="no file matches"):
        match_layout(read_layout("shifts_ms"), tmp_path / "best")
    with pytest.raises(InputError, match="gives no name for case or patient"):
        match_layout(read_layout("shifts_ms"), tmp_path / "best" / "train")


def test_mslesseg_has_visits_in_train_and_none_in_test(tmp_path: Path) -> None:
    for start in ("train/P1/T1/P1_T1", "train/P1/T2/P1_T2", "train/P10/T1/P10_T1", "test/P54/P54"):
        touch(tmp_path, *(f"MSLesSeg Dataset/{start}_{m}.nii.gz" for m in ("FLAIR", "T1", "T2", "MASK")))
    touch(tmp_path, *(f"MSLesSeg_RAW/P1/T1/P1_T1_{m}.nii.gz" for m in ("FLAIR", "T1", "T2")))
    manifest = apply_layout(read_layout("mslesseg"), tmp_path)
    assert [(case.id, case.group, case.visit, case.metadata) for case in manifest.cases] == [
        ("P54", "P54", None, {"part": "test"}),
        ("P1_T1", "P1", "1", {"part": "train"}),
        ("P1_T2", "P1", "2", {"part": "train"}),
        ("P10_T1", "P10", "1", {"part": "train"}),
    ]
    start = "MSLesSeg Dataset/train/P1/T2/P1_T2"
    assert names_of(tmp_path, manifest.cases[2].files) == [f"{start}_{m}.nii.gz" for m in ("FLAIR", "T1", "T2", "MASK")]


def test_bids_is_read_with_and_without_sessions(tmp_path: Path) -> None:
    one, two = "sub-01/anat/sub-01", "sub-P2/ses-m12/anat/sub-P2_ses-m12"
    touch(tmp_path, f"{one}_FLAIR.nii.gz", f"{one}_T1w.nii.gz", f"{one}_acq-3D_ce-gadolinium_T1w.nii.gz")
    touch(tmp_path, f"{two}_acq-3D_FLAIR.nii.gz", f"{two}_run-1_T1w.nii.gz", f"{two}_T2w.nii", f"{two}_PDw.nii.gz")
    touch(tmp_path, "sub-03/anat/sub-03_FLAIR.nii.gz", f"derivatives/prep/{two}_space-MNI_FLAIR.nii.gz")
    text(tmp_path, f"{one}_FLAIR.json", "dataset_description.json", "participants.tsv")
    touch(tmp_path, f"derivatives/{one}_label-lesion_mask.nii.gz")
    touch(
        tmp_path,
        f"derivatives/experts/{two}_FLAIR_lesion-manual.nii.gz",
        f"derivatives/prep/{two}_desc-brain_mask.nii.gz",
    )
    match = match_layout(read_layout("bids_ms"), tmp_path)
    assert match.manifest.modalities == ("FLAIR", "T1", "T2", "PD", "T1CE")
    first, second = match.manifest.cases
    assert (first.id, first.group, first.visit) == ("sub-01", "01", None)
    assert names_of(tmp_path, first.image) == [
        f"{one}_FLAIR.nii.gz",
        f"{one}_T1w.nii.gz",
        None,
        None,
        f"{one}_acq-3D_ce-gadolinium_T1w.nii.gz",
    ]
    assert (second.id, second.group, second.visit) == ("sub-P2_ses-m12", "P2", "m12")
    names = [f"{two}_acq-3D_FLAIR.nii.gz", f"{two}_run-1_T1w.nii.gz", f"{two}_T2w.nii", f"{two}_PDw.nii.gz", None]
    assert names_of(tmp_path, second.image) == names
    assert names_of(tmp_path, second.labels) == [f"derivatives/experts/{two}_FLAIR_lesion-manual.nii.gz"]
    assert [case.id for case in match.manifest.test_cases] == ["sub-03"]
    touch(tmp_path, f"derivatives/other/{two}_lesions.nii.gz")
    with pytest.raises(InputError, match=r"same fields as .*; move one of the two away"):
        match_layout(read_layout("bids_ms"), tmp_path)


@pytest.mark.real
def test_the_real_folders_of_open_ms_data_are_matched(real_data: Path) -> None:
    match = match_layout(read_layout("mslub_mni"), real_data / "ms_open_mni")
    assert match.manifest.modalities == ("FLAIR", "T1", "T2")
    assert [case.id for case in match.manifest.cases] == ["patient07", "patient26"]
    assert all(Path(path).is_file() for case in match.manifest.cases for path in case.files)
    assert match.notices == (
        "no case has T1CE; it is left out of the modalities",
        "2 labelled cases; the complete data set has 30",
    )
    for name in ("mslub_mni", "mslub_raw", "mslub_coregistered"):
        with pytest.raises(InputError, match="no file matches"):
            match_layout(read_layout(name), real_data / "ms_open_longitudinal")
