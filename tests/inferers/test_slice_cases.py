"""Scans as folders of PNG slices are predicted as one case each."""

import json
from pathlib import Path

import pytest

from mtmed.errors import InputError
from mtmed.inferers import inference_cases


def write_scan(folder: Path, name: str, slices: int = 2) -> Path:
    place = folder / name.split("_")[0] / name / "scans"
    place.mkdir(parents=True)
    for number in range(1, slices + 1):
        (place / f"slice_{number:04d}_6_5_1.50_1.50.png").write_bytes(b"")
    return place


def test_a_folder_of_slices_is_one_case_with_the_numbers_in_its_name(tmp_path: Path) -> None:
    scan = write_scan(tmp_path, "case12_day7")
    expected = {
        "image": [str(scan)],
        "metadata": {"case_number": 12, "day_number": 7},
        "output_name": "case12_day7",
    }
    for source in (scan, scan.parent, tmp_path, [scan], {"MR": str(scan)}):
        assert inference_cases(source, modalities=["MR"]) == [expected]


def test_a_folder_of_slices_may_have_any_name(tmp_path: Path) -> None:
    place = write_scan(tmp_path, "case12_day7").rename(tmp_path / "v1.5")
    assert inference_cases(place, modalities=["MR"]) == [{"image": [str(place)], "output_name": "v1.5"}]


def test_a_tree_has_its_scans_and_its_single_images(tmp_path: Path) -> None:
    scans = [write_scan(tmp_path, name) for name in ("case2_day0", "case2_day11", "case10_day0")]
    (tmp_path / "extra.png").write_bytes(b"")
    (scans[0] / "._slice_0001_6_5_1.50_1.50.png").write_bytes(b"")
    rows = inference_cases(tmp_path, modalities=["MR"])
    images = [scans[2], scans[0], scans[1], tmp_path / "extra.png"]
    assert [row["image"] for row in rows] == [[str(image)] for image in images]
    assert [row["output_name"] for row in rows] == ["case10_day0", "case2_day0", "case2_day11", "extra"]
    numbers = [tuple(row.get("metadata", {}).values()) for row in rows]
    assert numbers == [(10, 0), (2, 0), (2, 11), ()]


def test_pictures_beside_volumes_are_previews_and_no_cases(tmp_path: Path) -> None:
    scan = write_scan(tmp_path, "case2_day0")
    volume, preview = tmp_path / "ct" / "liver.nii.gz", tmp_path / "pictures" / "liver.PNG"
    for file in (volume, preview):
        file.parent.mkdir()
        file.write_bytes(b"")
    rows = inference_cases(tmp_path, modalities=["CT"])
    assert [row["image"] for row in rows] == [[str(scan)], [str(volume)]]
    for source in (preview, preview.parent, [preview]):
        assert inference_cases(source, modalities=["CT"]) == [{"image": [str(preview)], "output_name": "liver"}]


def test_scans_of_one_name_get_their_folders_in_front(tmp_path: Path) -> None:
    for part in ("a", "b"):
        write_scan(tmp_path / part, "case1_day0")
    rows = inference_cases(tmp_path, modalities=["MR"])
    assert [row["output_name"] for row in rows] == ["a_case1_case1_day0", "b_case1_case1_day0"]


def test_one_slice_is_a_case_too(tmp_path: Path) -> None:
    path = write_scan(tmp_path, "case1_day0") / "slice_0002_6_5_1.50_1.50.png"
    assert inference_cases(path, modalities=["MR"]) == [
        {"image": [str(path)], "output_name": "slice_0002_6_5_1.50_1.50"}
    ]


def test_a_case_of_a_data_set_carries_its_numbers_and_nothing_else_of_its_metadata(tmp_path: Path) -> None:
    scans = [write_scan(tmp_path, name) for name in ("case1_day0", "case2_day4")]
    rows = [{"image": str(scan), "id": scan.parent.name} for scan in scans]
    rows[0] |= {"metadata": {"day_number": 30, "age": 61.5, "site": "A", "checked": True, "weight": None}}
    content = {"modality": {"0": "MR"}, "labels": {"0": "background", "1": "gut"}, "training": [], "test": rows}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    found = inference_cases(tmp_path, modalities=["MR"])
    assert [row["metadata"] for row in found] == [
        {"day_number": 30, "age": 61.5},
        {"case_number": 2, "day_number": 4},
    ]
    assert [row["output_name"] for row in found] == ["case1_day0", "case2_day4"]


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"has no image \(.*\.png, \.dcm, \.dicom\)"):
        inference_cases(tmp_path, modalities=["MR"])
    with pytest.raises(InputError, match="gone: no such file"):
        inference_cases({"MR": str(tmp_path / "gone")}, modalities=["MR"])
