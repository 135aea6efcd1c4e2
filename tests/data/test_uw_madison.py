"""The layout of the UW-Madison data, where a case is a folder of slices and a table has the masks of all cases."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtmed.cli import main
from mtmed.data import apply_layout, load_manifest, match_layout, read_layout, split_parts, write_manifest
from mtmed.data.template import Template, find_files, list_files, list_folders
from mtmed.errors import InputError

SCANS = {"case2": ("day0", "day19"), "case7": ("day0",), "case101": ("day20", "day22")}
ORGANS = ("large_bowel", "small_bowel", "stomach")


def write_scans(folder: Path, scans: dict[str, tuple[str, ...]] = SCANS, *, part: str = "train") -> Path:
    """Two slices of 6 x 4 pixels per scan, and three rows per slice."""
    rows = ["id,class,segmentation"]
    for case, days in scans.items():
        for day in days:
            slices = folder / part / case / f"{case}_{day}" / "scans"
            slices.mkdir(parents=True)
            for number in (1, 2):
                # other voxels in each scan, since the same scan twice is an error of the check
                pixels = np.arange(24, dtype=np.uint16).reshape(4, 6) * number + int(case[4:]) * 100 + int(day[3:])
                Image.fromarray(pixels).save(slices / f"slice_{number:04d}_6_4_1.50_1.50.png")
                rows += [
                    f"{case}_{day}_slice_{number:04d},{organ},{'1 2 8 1' if number == 2 else ''}" for organ in ORGANS
                ]
    if part == "train":
        (folder / "train.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_a_case_is_a_folder_of_slices_with_patient_day_and_numbers(tmp_path: Path) -> None:
    layout = read_layout("uw_madison")
    match = match_layout(layout, write_scans(tmp_path))
    manifest = match.manifest
    assert [(case.id, case.group, case.visit) for case in manifest.cases] == [
        (f"{case}_{day}", case, day) for case, days in SCANS.items() for day in days
    ]
    assert manifest.cases[3].image == (str(tmp_path / "train/case101/case101_day20/scans"),)
    assert {case.label for case in manifest.cases} == {str(tmp_path / "train.csv")}
    assert manifest.cases[1].metadata == {"case_number": 2, "day_number": 19}
    assert manifest.cases[0].metadata == {"case_number": 2, "day_number": 0}
    assert manifest.overlapping
    assert manifest.modalities == ("MR",)
    assert manifest.label_names == {0: "background", 1: "large_bowel", 2: "small_bowel", 4: "stomach"}
    (notice,) = match.notices
    assert notice.startswith(
        "1 case(s) kept that may be mislabelled (--exclude-suspects omits): case7_day0 (annotation"
    )


def test_the_manifest_says_that_masks_overlap_and_is_read_back(tmp_path: Path) -> None:
    manifest = apply_layout(read_layout("uw_madison"), write_scans(tmp_path))
    file = write_manifest(manifest, tmp_path)
    content = json.loads(file.read_text())
    assert content["overlapping"] is True
    assert content["training"][0] == {
        "image": "./train/case2/case2_day0/scans",
        "label": "./train.csv",
        "id": "case2_day0",
        "patient": "case2",
        "visit": "day0",
        "metadata": {"case_number": 2, "day_number": 0},
    }
    assert load_manifest(file) == manifest


def test_the_table_may_lie_inside_the_folder_of_the_cases(tmp_path: Path) -> None:
    write_scans(tmp_path)
    (tmp_path / "train.csv").rename(tmp_path / "train" / "train.csv")
    for folder in (tmp_path, tmp_path / "train"):
        manifest = match_layout(read_layout("uw_madison"), folder).manifest
        assert len(manifest.cases) == 5
        assert {case.label for case in manifest.cases} == {str(tmp_path / "train" / "train.csv")}
    (tmp_path / "train.csv").write_text("id,class,segmentation\n")
    with pytest.raises(InputError, match=r"matches '\[train/\]train.csv' with the same fields"):
        match_layout(read_layout("uw_madison"), tmp_path)


def test_scans_of_the_hidden_test_have_no_label(tmp_path: Path) -> None:
    write_scans(tmp_path)
    write_scans(tmp_path, {"case2": ("day30",)}, part="test")
    match = match_layout(read_layout("uw_madison"), tmp_path)
    assert [(case.id, case.label) for case in match.manifest.test_cases] == [("case2_day30", None)]
    match = match_layout(read_layout("uw_madison"), tmp_path / "test")
    assert match.unlabelled == ("case2_day30",)
    assert match.manifest.cases == ()


def test_scans_without_their_table_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scans(tmp_path)
    assert main(["manifest", "uw_madison", str(tmp_path / "train")]) == 1
    expected = f"{tmp_path}/train: has scans but no '[train/]train.csv'; give the folder that has both"
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "train" / "dataset.json").exists()
    write_scans(tmp_path, {"case2": ("day30",)}, part="test")
    (tmp_path / "train.csv").unlink()
    with pytest.raises(InputError, match=r"has scans but no '\[train/\]train.csv'"):
        match_layout(read_layout("uw_madison"), tmp_path)


def test_the_organisers_list_of_twelve_scans_is_left_out_on_request(tmp_path: Path) -> None:
    layout = read_layout("uw_madison")
    assert len(layout.suspects) == 12
    assert {"case61_day14", "case9_day27", "case7_day0", "case13_day0"} < set(layout.suspects)
    match = match_layout(layout, write_scans(tmp_path), exclude_suspects=True)
    assert [case.id for case in match.manifest.cases] == ["case2_day0", "case2_day19", "case101_day20", "case101_day22"]
    assert match.excluded == {"case7_day0": "annotation problems, organisers' list"}


def test_a_folder_without_scans_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no folder matches '\[train/\]case"):
        match_layout(read_layout("uw_madison"), tmp_path)


def test_templates_that_end_in_a_slash_match_folders_that_have_files(tmp_path: Path) -> None:
    write_scans(tmp_path)
    (tmp_path / "train/case7/case7_day5/scans").mkdir(parents=True)
    paths = list(list_files(tmp_path))
    folders = list_folders(paths)
    template = Template("**/{case}_day{day}/scans/")
    found = find_files(template, folders, tmp_path)
    assert [path for _, path in found] == [
        f"train/{case}/{case}_{day}/scans/" for case, days in SCANS.items() for day in days
    ]
    assert found[0][0] == {"case": "case2", "day": "0"}
    assert template.matches_folders
    assert not Template("**/scans/*.png").matches_folders
    assert find_files(template, paths, tmp_path) == []
    assert list_folders(["train.csv"]) == []


def write_layout(folder: Path, **changes: object) -> Path:
    content = json.loads((Path(__file__).parents[2] / "data_manifests" / "uw_madison.json").read_text())
    file = folder / "mine.json"
    file.write_text(json.dumps(content | changes))
    return file


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"visit": "day{day}"}, r"'day\{day\}' has the field 'day', which"),
        ({"overlapping": "yes"}, "'overlapping' is 'yes'"),
        ({"labels": {"0": "background", "3": "stomach"}}, "'labels' has the value 3, which is no bit"),
        ({"visit": 4}, "'visit' is 4"),
    ],
)
def test_a_layout_that_cannot_be_meant_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_layout(write_layout(tmp_path, **changes))


def test_the_command_records_parts_that_training_keeps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scans(tmp_path)
    assert main(["manifest", "uw_madison", str(tmp_path), "--shares", "34", "33", "33", "--split-seed", "4"]) == 0
    out = capsys.readouterr().out
    assert "5 labelled cases of 3 patients" in out
    assert "(split by patient)" in out
    content = json.loads((tmp_path / "dataset.json").read_text())
    assert content["split"] == {"key": "patient", "shares": [34, 33, 33], "seed": 4}
    manifest = load_manifest(tmp_path)
    parts = split_parts(manifest.cases, seed=9)
    assert [len({case.group for case in cases}) for cases in (parts.training, parts.validation, parts.test)] == [1] * 3
    anew = [replace(case, part=None, part_key=None) for case in manifest.cases]
    made = split_parts(anew, shares=(34, 33, 33), seed=4)
    assert {case.key for case in made.test} == {case.key for case in parts.test}
    with pytest.raises(InputError, match="but the manifest divides uw_madison by patient"):
        split_parts(manifest.cases, key="patient_day")
    assert main(["check", str(tmp_path)]) == 0
    assert "large_bowel 5, small_bowel 5, stomach 5" in capsys.readouterr().out


def test_the_command_records_parts_by_patient_and_day(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scans(tmp_path)
    command = ["manifest", "uw_madison", str(tmp_path), "--shares", "60", "20", "20", "--split-key", "patient_day"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "cases by part: 3 training, 1 validation, 1 test (split by patient and day" in out
    assert {case.part_key for case in load_manifest(tmp_path).cases} == {"patient_day"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shares", "70", "20", "20"], "shares: are [70.0, 20.0, 20.0]; give three percentages"),
        (["--shares", "70", "20", "10", "--split-key", "day"], "split key: is 'day'; use one of patient, patient_day"),
        (["--split-key", "patient"], "--split-key and --split-seed need --shares"),
        (["--split-seed", "0"], "--split-key and --split-seed need --shares"),
    ],
)
def test_the_command_refuses_what_cannot_be_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["manifest", "uw_madison", str(write_scans(tmp_path)), *options]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "dataset.json").exists()
