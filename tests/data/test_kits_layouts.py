"""The layouts of the KiTS data sets, and cases that are suspected to be mislabelled."""

import json
from pathlib import Path

import numpy as np
import pytest
from test_layout import pairs, touch

from mtmed.cli import main
from mtmed.data import check_cases, match_layout, read_layout
from mtmed.errors import InputError

SUSPECTS = ["case_00015", "case_00023", "case_00037", "case_00068", "case_00125", "case_00133"]


@pytest.mark.parametrize(
    ("name", "folder", "label", "cases", "orientation"),
    [
        ("kits19", "data", "segmentation", 210, "IPL"),
        ("kits21", "kits21/data", "aggregated_MAJ_seg", 300, None),
        ("kits23", "dataset", "segmentation", 489, None),
    ],
)
def test_images_and_labels_are_paired_as_the_repositories_have_them(
    tmp_path: Path, name: str, folder: str, label: str, cases: int, orientation: str | None
) -> None:
    for case in ("case_00000", "case_00015"):
        touch(tmp_path, f"{folder}/{case}/imaging.nii.gz", f"{folder}/{case}/{label}.nii.gz")
    touch(tmp_path, f"{folder}/case_00000/segmentations/kidney_instance-1_annotation-1.nii.gz")
    touch(tmp_path, f"{folder}/case_00000/aggregated_OR_seg.nii.gz")
    layout = read_layout(name)
    match = match_layout(layout, tmp_path)
    assert pairs(match.manifest) == [
        (case, case, f"{folder}/{case}/imaging.nii.gz", f"{folder}/{case}/{label}.nii.gz")
        for case in ("case_00000", "case_00015")
    ]
    assert layout.expected_cases == cases
    assert match.manifest.orientation == layout.orientation == orientation
    values = {0: "background", 1: "kidney", 2: "tumour"}
    assert layout.label_names == (values if name == "kits19" else values | {3: "cyst"})


def test_label_maps_alone_are_image_and_label(tmp_path: Path) -> None:
    touch(tmp_path, "data/case_00004/segmentation.nii.gz", "data/case_00007/segmentation.nii.gz")
    match = match_layout(read_layout("kits19_labels"), tmp_path)
    assert match.manifest.modalities == ("mask",)
    assert [(case.image, case.group) for case in match.manifest.cases] == [
        ((case.label,), case.id) for case in match.manifest.cases
    ]
    assert match.notices == ("2 labelled cases; the complete data set has 210",)


def test_suspects_are_kept_and_named_unless_asked(tmp_path: Path) -> None:
    for case in ("case_00001", "case_00015", "case_00133", "case_00200"):
        touch(tmp_path, f"data/{case}/imaging.nii.gz", f"data/{case}/segmentation.nii.gz")
    layout = read_layout("kits19")
    assert list(layout.suspects) == SUSPECTS
    match = match_layout(layout, tmp_path)
    assert len(match.manifest.cases) == 4
    assert list(match.suspects) == ["case_00015", "case_00133"]
    assert match.excluded == {}
    (notice,) = [line for line in match.notices if "mislabelled" in line]
    assert notice.startswith("2 case(s) kept that may be mislabelled (--exclude-suspects omits): case_00015 (")
    assert "case_00133 (unconfirmed: " in notice
    match = match_layout(layout, tmp_path, exclude_suspects=True)
    assert [case.id for case in match.manifest.cases] == ["case_00001", "case_00200"]
    assert match.excluded == {case: layout.suspects[case] for case in ("case_00015", "case_00133")}
    assert match.suspects == {}
    assert not any("mislabelled" in line for line in match.notices)


def test_a_suspect_without_image_is_no_orphan_once_it_is_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "data/case_00001/imaging.nii.gz", "data/case_00001/segmentation.nii.gz")
    touch(tmp_path, "data/case_00015/segmentation.nii.gz")
    layout = read_layout("kits19")
    with pytest.raises(InputError, match=r"1 label\(s\) without an image"):
        match_layout(layout, tmp_path)
    assert len(match_layout(layout, tmp_path, exclude_suspects=True).manifest.cases) == 1


def test_the_command_leaves_suspects_out_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for case in ("case_00001", "case_00023"):
        touch(tmp_path, f"{case}/segmentation.nii.gz")
    assert main(["manifest", "kits19_labels", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "2 labelled cases of 2 patients, 0 test cases, 0 left out" in out
    assert "1 case(s) kept that may be mislabelled" in out
    assert main(["manifest", "kits19_labels", str(tmp_path), "--exclude-suspects", "--overwrite"]) == 0
    out = capsys.readouterr().out
    assert "1 labelled cases of 1 patients, 0 test cases, 1 left out" in out
    assert "case_00023 left out: unconfirmed: " in out
    content = json.loads((tmp_path / "dataset.json").read_text())
    assert content["orientation"] == "IPL"
    assert len(content["training"]) == 1


def test_a_layout_with_a_wrong_orientation_is_refused(tmp_path: Path) -> None:
    content = json.loads((Path(__file__).parents[2] / "data_manifests" / "kits19.json").read_text())
    (tmp_path / "mine.json").write_text(json.dumps(content | {"orientation": "XYZ"}))
    with pytest.raises(InputError, match=r"mine\.json: 'orientation' is 'XYZ'"):
        read_layout(tmp_path / "mine.json")


@pytest.mark.real
def test_the_real_label_maps_pass_the_check_as_ipl(real_data: Path) -> None:
    match = match_layout(read_layout("kits19_labels"), real_data / "kits19_segmentations")
    assert len(match.manifest.cases) == 27
    assert list(match.suspects) == ["case_00015", "case_00023", "case_00037", "case_00125"]
    small = [case for case in match.manifest.cases if case.id in ("case_00021", "case_00061", "case_00110")]
    report = check_cases(small, label_names={"kits19_labels": match.manifest.label_names}, require_orientation=True)
    assert (report.errors, report.notices) == ([], [])
    assert np.ptp([item.shape[0] for item in report.cases if item.shape]) == 9
