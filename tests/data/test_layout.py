"""Folders are read as data sets by templates of their files' names."""

import json
from pathlib import Path

import pytest
from layout_files import pairs, text, touch

from mtmed.data.layout import apply_layout, known_layouts, match_layout, read_layout
from mtmed.data.manifest import load_manifest, write_manifest
from mtmed.data.template import Template
from mtmed.errors import InputError

ROOT = Path(__file__).parents[2]
NAMES = ("btcv", "kits19", "msd_liver", "msd_lung", "msd_pancreas", "msd_spleen", "nih_pancreas_ct")


def test_all_seven_layouts_are_known_and_complete() -> None:
    assert set(NAMES) <= set(known_layouts())
    for name in NAMES:
        layout = read_layout(name)
        assert layout.name == name
        assert layout.modalities == ("CT",)
        assert layout.label_names[0] == "background"
        assert layout.licence
        assert layout.source
        assert layout.reference
        assert layout.expected_cases is not None


def test_the_labelled_cases_of_the_pretraining_sets_are_765() -> None:
    names = ("msd_liver", "msd_lung", "msd_pancreas", "nih_pancreas_ct", "kits19")
    assert sum(read_layout(name).expected_cases or 0 for name in names) == 765


def test_btcv_names_its_13_organs_in_order() -> None:
    names = read_layout("btcv").label_names
    assert len(names) == 14
    assert [names[value] for value in (1, 2, 3, 6, 9, 11, 13)] == [
        "spleen",
        "right kidney",
        "left kidney",
        "liver",
        "inferior vena cava",
        "pancreas",
        "left adrenal gland",
    ]


@pytest.mark.parametrize(
    ("name", "prefix", "labels"),
    [
        ("msd_liver", "liver", {0: "background", 1: "liver", 2: "cancer"}),
        ("msd_lung", "lung", {0: "background", 1: "cancer"}),
        ("msd_pancreas", "pancreas", {0: "background", 1: "pancreas", 2: "cancer"}),
        ("msd_spleen", "spleen", {0: "background", 1: "spleen"}),
    ],
)
def test_a_decathlon_folder_is_paired(tmp_path: Path, name: str, prefix: str, labels: dict[int, str]) -> None:
    for case in ("2", "10", "001"):
        touch(tmp_path, f"imagesTr/{prefix}_{case}.nii.gz", f"labelsTr/{prefix}_{case}.nii.gz")
    touch(tmp_path, f"imagesTs/{prefix}_7.nii.gz")
    text(tmp_path, f"imagesTr/._{prefix}_2.nii.gz", f"labelsTr/._{prefix}_2.nii.gz", f"imagesTs/._{prefix}_7.nii.gz")
    text(tmp_path, "README.md", "._dataset.json", f"imagesTr/{prefix}_2.txt", f".Trash/imagesTr/{prefix}_3.nii.gz")
    touch(tmp_path, f"imagesTr/{prefix}_x.nii.gz", f"predictions/{prefix}_2.nii.gz")

    match = match_layout(read_layout(name), tmp_path)
    assert pairs(match.manifest) == [
        (f"{prefix}_{case}",) * 2 + (f"imagesTr/{prefix}_{case}.nii.gz", f"labelsTr/{prefix}_{case}.nii.gz")
        for case in ("001", "2", "10")
    ]
    assert [(case.id, case.label) for case in match.manifest.test_cases] == [(f"{prefix}_7", None)]
    assert match.manifest.label_names == labels
    assert match.manifest.has_groups
    assert any("3 labelled cases; the complete data set has" in notice for notice in match.notices)


def test_kits19_is_paired_and_cases_without_label_become_test_cases(tmp_path: Path) -> None:
    for case in ("00000", "00001", "00209"):
        touch(tmp_path, f"data/case_{case}/imaging.nii.gz", f"data/case_{case}/segmentation.nii.gz")
    touch(tmp_path, "data/case_00210/imaging.nii.gz", "data/case_00000/prediction.nii.gz")
    text(tmp_path, "data/kits.json", "data/case_00000/._imaging.nii.gz", "LICENSE", "starter_code/get_imaging.py")

    match = match_layout(read_layout("kits19"), tmp_path)
    assert pairs(match.manifest)[1] == (
        "case_00001",
        "case_00001",
        "data/case_00001/imaging.nii.gz",
        "data/case_00001/segmentation.nii.gz",
    )
    assert [case.id for case in match.manifest.cases] == ["case_00000", "case_00001", "case_00209"]
    assert [case.id for case in match.manifest.test_cases] == ["case_00210"]
    assert match.unlabelled == ("case_00210",)
    assert "1 image(s) without a label kept as test cases: case_00210" in match.notices
    assert match.manifest.label_names == {0: "background", 1: "kidney", 2: "tumour"}


def test_kits19_labels_without_fetched_images_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "data/case_00000/imaging.nii.gz")
    for case in range(5):
        touch(tmp_path, f"data/case_0000{case}/segmentation.nii.gz")
    with pytest.raises(InputError, match=r"4 label\(s\) without an image.*case_00001.* and 1 more; fetch the missing"):
        match_layout(read_layout("kits19"), tmp_path)


def test_nih_pancreas_is_paired_across_folders_without_the_withdrawn_cases(tmp_path: Path) -> None:
    for case in ("0001", "0002", "0025", "0082"):
        touch(tmp_path, f"converted/PANCREAS_{case}.nii.gz")
        touch(tmp_path, f"TCIA_pancreas_labels-02-05-2017/label{case}.nii.gz")
    # the label of a withdrawn case may lie there without its image
    touch(tmp_path, "TCIA_pancreas_labels-02-05-2017/label0070.nii.gz")
    text(tmp_path, "Pancreas-CT/PANCREAS_0001/11-24-2015/000000.dcm", "converted/._PANCREAS_0001.nii.gz")

    match = match_layout(read_layout("nih_pancreas_ct"), tmp_path)
    assert pairs(match.manifest) == [
        (
            f"PANCREAS_{case}",
            case,
            f"converted/PANCREAS_{case}.nii.gz",
            f"TCIA_pancreas_labels-02-05-2017/label{case}.nii.gz",
        )
        for case in ("0001", "0002", "0082")
    ]
    assert set(match.excluded) == {"PANCREAS_0025"}
    assert any("PANCREAS_0025 left out: withdrawn" in notice for notice in match.notices)


def test_btcv_is_paired_and_its_testing_images_have_no_label(tmp_path: Path) -> None:
    for case in ("0001", "0010", "0040"):
        touch(tmp_path, f"RawData/Training/img/img{case}.nii.gz", f"RawData/Training/label/label{case}.nii.gz")
    touch(tmp_path, "RawData/Testing/img/img0061.nii.gz")
    text(tmp_path, "RawData/Training/img/._img0001.nii.gz", "RawData/README.txt", "__MACOSX/._RawData")

    manifest = apply_layout(read_layout("btcv"), tmp_path)
    assert pairs(manifest)[1] == (
        "img0010",
        "0010",
        "RawData/Training/img/img0010.nii.gz",
        "RawData/Training/label/label0010.nii.gz",
    )
    assert [(case.id, case.group, case.label) for case in manifest.test_cases] == [("img0061", "0061", None)]


def test_unpacked_files_without_gz_are_found(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/spleen_2.nii", "labelsTr/spleen_2.nii.gz")
    assert pairs(apply_layout(read_layout("msd_spleen"), tmp_path))[0][2:] == (
        "imagesTr/spleen_2.nii",
        "labelsTr/spleen_2.nii.gz",
    )


def test_a_layout_manifest_survives_writing_and_reading(tmp_path: Path) -> None:
    touch(tmp_path, "RawData/Training/img/img0001.nii.gz", "RawData/Training/label/label0001.nii.gz")
    manifest = apply_layout(read_layout("btcv"), tmp_path)
    assert load_manifest(write_manifest(manifest, tmp_path)) == manifest


def test_a_wrong_folder_is_told_what_was_looked_for(tmp_path: Path) -> None:
    touch(tmp_path, "Task09_Spleen/imagesTr/spleen_2.nii.gz")
    with pytest.raises(InputError, match=r"no file matches 'imagesTr/\{case:spleen_.*\(1 files seen\)"):
        match_layout(read_layout("msd_spleen"), tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        match_layout(read_layout("msd_spleen"), tmp_path / "nowhere")


def test_two_files_for_one_case_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/spleen_2.nii", "imagesTr/spleen_2.nii.gz", "labelsTr/spleen_2.nii.gz")
    with pytest.raises(InputError, match=r"same fields as imagesTr/spleen_2.nii.*move one"):
        match_layout(read_layout("msd_spleen"), tmp_path)


def test_a_link_to_a_folder_above_ends(tmp_path: Path) -> None:
    touch(tmp_path, "a/case_00000/imaging.nii.gz", "a/case_00000/segmentation.nii.gz")
    (tmp_path / "a" / "case_00000" / "up").symlink_to(tmp_path, target_is_directory=True)
    assert len(apply_layout(read_layout("kits19"), tmp_path).cases) == 1


def test_a_misspelt_layout_gets_a_suggestion() -> None:
    with pytest.raises(InputError, match=r"msd_spleem: .*did you mean 'msd_spleen'"):
        read_layout("msd_spleem")


def test_layouts_of_the_current_folder_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = json.loads((ROOT / "data_manifests" / "msd_spleen.json").read_text()) | {"title": "mine"}
    (tmp_path / "data_manifests").mkdir()
    (tmp_path / "data_manifests" / "msd_spleen.json").write_text(json.dumps(mine))
    monkeypatch.chdir(tmp_path)
    assert read_layout("msd_spleen").title == "mine"
    assert read_layout("btcv").name == "btcv"


def own_layout(folder: Path, **changes: object) -> Path:
    content = {
        "name": "own",
        "title": "Own data",
        "modalities": ["MR"],
        "labels": {"0": "background", "1": "lesion"},
        "image": "{case}/image.nii",
        "label": "{case}/label.nii",
        "patient": "{case}",
        "licence": "none",
        "source": "here",
        "reference": "none",
    }
    file = folder / "own.json"
    file.write_text(json.dumps({key: value for key, value in (content | changes).items() if value is not None}))
    return file


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licence": None}, "lacks the key 'licence'"),
        ({"lable": "x"}, "unknown key 'lable'"),
        ({"labels": {"1": "lesion"}}, "lacks 0"),
        ({"image": 3}, "'image' is 3"),
        ({"image": "{case.nii"}, "'{' is never closed"),
        ({"image": "{case:[}.nii"}, "wrong regular expression"),
        ({"image": "{case:x{99999999999}}.nii"}, "wrong regular expression"),
        ({"image": "{case:" + "(" * 5000 + ")" * 5000 + "}.nii"}, "wrong regular expression"),
        ({"image": "{}.nii"}, "has no name"),
        ({"label": "{patient}.nii"}, "has the field 'patient', which"),
        ({"patient": "{visit}"}, "has the field 'visit', which"),
        ({"modalities": ["FLAIR", "T1"]}, "1 image templates for 2 modalities"),
        ({"modalities": [], "image": []}, "0 image templates for 0 modalities"),
        ({"label": []}, "has no label template"),
        ({"label": ["{case}/label.nii", "{rater}.nii"]}, "has the field 'rater', which"),
        ({"maps": {"tissue": "{site}.nii"}}, "has the field 'site', which"),
        ({"maps": {"image": "{case}.nii"}}, "'maps' has the name 'image', which is taken"),
        ({"maps": ["{case}.nii"]}, "'maps' is"),
    ],
)
def test_a_faulty_layout_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_layout(own_layout(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_visits_and_several_modalities_are_read_from_the_path(tmp_path: Path) -> None:
    # the form of a longitudinal challenge
    base = "training{patient:\\d\\d}/preprocessed/training{patient}_{visit:\\d\\d}"
    file = own_layout(
        tmp_path,
        modalities=["FLAIR", "T1"],
        image=[f"{base}_flair_pp.nii", f"{base}_mprage_pp.nii"],
        label="training{patient}/masks/training{patient}_{visit}_mask1.nii",
        patient="{patient}",
        id="{patient}_{visit}",
    )
    for patient, visit in (("01", "01"), ("01", "02"), ("02", "01")):
        start = f"training{patient}/preprocessed/training{patient}_{visit}"
        touch(tmp_path, f"{start}_flair_pp.nii", f"{start}_mprage_pp.nii", f"{start}_t2_pp.nii")
        touch(tmp_path, *(f"training{patient}/masks/training{patient}_{visit}_mask{rater}.nii" for rater in (1, 2)))
    cases = apply_layout(read_layout(file), tmp_path).cases
    assert [(case.id, case.group, case.visit) for case in cases] == [
        ("01_01", "01", "01"),
        ("01_02", "01", "02"),
        ("02_01", "02", "01"),
    ]
    assert [Path(path).name for path in cases[1].image] == ["training01_02_flair_pp.nii", "training01_02_mprage_pp.nii"]
    (tmp_path / "training02/preprocessed/training02_01_mprage_pp.nii").unlink()
    match = match_layout(read_layout(file), tmp_path)
    assert [None in case.image for case in match.manifest.cases] == [False, False, True]
    assert "1 case(s) without T1, listed as null: 02_01" in match.notices


def test_optional_parts_and_further_fields_are_read_from_the_path(tmp_path: Path) -> None:
    # BIDS with and without sessions, and slices whose name holds numbers
    bids = own_layout(
        tmp_path,
        image="sub-{patient}/[ses-{visit}/]anat/sub-{patient}[_ses-{visit}]_FLAIR.nii[.gz]",
        label="derivatives/*/sub-{patient}/[ses-{visit}/]anat/*_label-lesion_mask.nii[.gz]",
        patient="{patient}",
        id="sub-{patient}[_ses-{visit}]",
    )
    touch(tmp_path, "sub-1/anat/sub-1_FLAIR.nii.gz", "sub-2/ses-a/anat/sub-2_ses-a_FLAIR.nii.gz")
    touch(tmp_path, "derivatives/x/sub-1/anat/sub-1_label-lesion_mask.nii.gz")
    touch(tmp_path, "derivatives/x/sub-2/ses-a/anat/sub-2_ses-a_label-lesion_mask.nii.gz")
    cases = apply_layout(read_layout(bids), tmp_path).cases
    assert [(case.id, case.group, case.visit) for case in cases] == [("sub-1", "1", None), ("sub-2_ses-a", "2", "a")]

    slices = own_layout(
        tmp_path,
        image="case{patient}/case{patient}_day{visit}/slice_{slice:\\d{4}}_{width}_{mm}_{site}.nii",
        label="case{patient}/case{patient}_day{visit}/mask_{slice:\\d{4}}.nii",
        patient="case{patient}",
        id="case{patient}_day{visit}_slice_{slice}",
    )
    touch(tmp_path, "case7/case7_day20/slice_0003_266_1.50_007.nii", "case7/case7_day20/mask_0003.nii")
    case = apply_layout(read_layout(slices), tmp_path).cases[0]
    assert (case.id, case.group, case.visit, case.slice) == ("case7_day20_slice_0003", "case7", "20", 3)
    assert case.metadata == {"width": 266, "mm": 1.5, "site": "007"}


def test_raters_and_maps_are_listed_where_the_case_has_them(tmp_path: Path) -> None:
    file = own_layout(
        tmp_path,
        label=["{case}/rater1.nii", "{case}/rater2.nii"],
        maps={"tissue": "{case}/tissue.nii", "brain_mask": "masks/{case}.nii"},
    )
    touch(tmp_path, "a/image.nii", "a/rater1.nii", "a/rater2.nii", "a/tissue.nii", "masks/a.nii")
    touch(tmp_path, "b/image.nii", "b/rater2.nii", "c/image.nii", "masks/c.nii")
    match = match_layout(read_layout(file), tmp_path)
    first, second = match.manifest.cases
    assert first.labels == (str(tmp_path / "a/rater1.nii"), str(tmp_path / "a/rater2.nii"))
    assert first.maps == {"tissue": str(tmp_path / "a/tissue.nii"), "brain_mask": str(tmp_path / "masks/a.nii")}
    assert second.labels == (str(tmp_path / "b/rater2.nii"),)
    assert second.maps == {}
    assert match.manifest.test_cases[0].maps == {"brain_mask": str(tmp_path / "masks/c.nii")}
    assert "1 case(s) with label maps of fewer than 2 raters: b" in match.notices
    assert load_manifest(write_manifest(match.manifest, tmp_path)) == match.manifest


def test_a_label_of_any_rater_without_an_image_is_refused(tmp_path: Path) -> None:
    file = own_layout(tmp_path, label=["{case}/rater1.nii", "{case}/rater2.nii"])
    touch(tmp_path, "a/image.nii", "a/rater1.nii", "b/rater2.nii")
    with pytest.raises(InputError, match=r"1 label\(s\) without an image that matches .*: b/rater2.nii; fetch"):
        match_layout(read_layout(file), tmp_path)


def test_a_case_without_the_first_modality_is_left_out_with_a_notice(tmp_path: Path) -> None:
    file = own_layout(tmp_path, modalities=["FLAIR", "T1"], image=["{case}/flair.nii", "{case}/t1.nii"])
    touch(tmp_path, "a/flair.nii", "a/t1.nii", "a/label.nii", "b/t1.nii")
    match = match_layout(read_layout(file), tmp_path)
    assert [case.id for case in match.manifest.cases] == ["a"]
    assert "1 T1 image(s) without FLAIR left out: b/t1.nii" in match.notices


def test_an_empty_name_is_refused(tmp_path: Path) -> None:
    file = own_layout(tmp_path, image="[{site}/]image.nii", label="[{site}/]label.nii", id="[{site}]", patient="p")
    touch(tmp_path, "image.nii", "label.nii")
    with pytest.raises(InputError, match=r"image\.nii: gives no name for case or patient"):
        match_layout(read_layout(file), tmp_path)


def test_an_id_that_does_not_tell_cases_apart_is_refused(tmp_path: Path) -> None:
    file = own_layout(tmp_path, image="{case}/{visit}.nii", label="{case}/label_{visit}.nii")
    touch(tmp_path, "a/1.nii", "a/2.nii")
    with pytest.raises(InputError, match="two cases are named 'a'"):
        match_layout(read_layout(file), tmp_path)


def test_a_slice_that_is_no_number_is_refused(tmp_path: Path) -> None:
    file = own_layout(tmp_path, image="{case}/{slice}.nii", label="{case}/label_{slice}.nii", id="{case}_{slice}")
    touch(tmp_path, "a/x.nii")
    with pytest.raises(InputError, match=r"x.nii: has the slice 'x'"):
        match_layout(read_layout(file), tmp_path)


def test_template_characters_are_literal_unless_they_have_a_meaning() -> None:
    assert Template("a.b+c").match("a.b+c") == {}
    assert Template("a.b").match("axb") is None
    assert Template("*.nii").match("folder/a.nii") is None
    assert Template("**/a.nii").match("a.nii") == {}
    assert Template("**/a.nii").match("x/y/a.nii") == {}
    assert Template("**/a.nii").match("xa.nii") is None
    assert Template("{x}_{x}").match("1_2") is None
    assert Template("{x:[ab]{2}}").match("ab") == {"x": "ab"}
