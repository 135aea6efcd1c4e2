"""X-rays in DICOM files as cases to predict."""

from pathlib import Path

import pytest

from mtmed.errors import InputError
from mtmed.inferers.cases import inference_cases


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def names(source: object) -> list[str]:
    return [case["output_name"] for case in inference_cases(source, modalities=["CR"])]  # type: ignore[arg-type]


def test_a_file_and_each_file_of_a_tree_is_one_case(tmp_path: Path) -> None:
    touch(tmp_path, "study1/series/1.2.3.4.dcm", "study2/series/1.2.3.5.DICOM", "study2/series/notes.txt")
    assert names(tmp_path) == ["1.2.3.4", "1.2.3.5"]
    assert names(tmp_path / "study1/series/1.2.3.4.dcm") == ["1.2.3.4"]
    assert names({"CR": str(tmp_path / "study1/series/1.2.3.4.dcm")}) == ["1.2.3.4"]


def test_x_rays_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.2.dcm", "b/1.2.dcm")
    assert names(tmp_path) == ["a_1.2", "b_1.2"]


def test_a_png_beside_x_rays_is_one_too_unless_it_has_the_name_of_one(tmp_path: Path) -> None:
    touch(tmp_path, "1.2.3.dcm", "1.2.3.png", "1.2.4.png")
    assert names(tmp_path) == ["1.2.3", "1.2.4"]
    assert inference_cases(tmp_path, modalities=["CR"])[0]["image"] == [str(tmp_path / "1.2.3.dcm")]
    touch(tmp_path, "ct.nii.gz")
    assert names(tmp_path) == ["1.2.3", "ct"]


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    with pytest.raises(InputError, match=r"is not one of .*\.dcm, \.dicom; convert it to \.nii\.gz"):
        names(tmp_path / "a.jpg")
