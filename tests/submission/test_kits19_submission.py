"""The zip for the KiTS19 challenge."""

import gzip
import hashlib
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mtmed.errors import InputError
from mtmed.inferers import inference_cases
from mtmed.submission import write_kits_submission
from mtmed.transforms.writing import write_nifti_label

SHAPE = (5, 8, 7)
CASES = [f"case_{number:05d}" for number in range(210, 300)]


def affine(*, flipped: bool = False) -> np.ndarray:
    """Slices first, downwards; rows to the back; columns to the left, or to the right if flipped."""
    matrix = np.zeros((4, 4))
    matrix[2, 0], matrix[1, 1], matrix[0, 2], matrix[3, 3] = -5, -0.8, 0.8 if flipped else -0.8, 1
    return matrix


def write(
    path: Path,
    *,
    shape: tuple[int, ...] = SHAPE,
    value: float = 2,
    dtype: type = np.uint8,
    matrix: np.ndarray | None = None,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    label = np.zeros(shape, dtype)
    label[0] = 1
    label[tuple(side // 2 for side in shape)] = value
    nib.Nifti1Image(label, affine() if matrix is None else matrix).to_filename(path)


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    folder = tmp_path / "predictions"
    for number, case in enumerate(CASES):
        write(folder / f"{case}_imaging_seg.nii.gz", shape=(5 + number % 3, 8, 7))
    (folder / "case_00210_imaging_seg.json").write_text("{}")
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number, case in enumerate(CASES):
        path = tmp_path / "kits19" / "data" / case / "imaging.nii.gz"
        write(path, shape=(5 + number % 3, 8, 7), value=240.5, dtype=np.float32)
    return tmp_path / "kits19"


def packed(archive: Path, name: str) -> nib.Nifti1Image:
    with zipfile.ZipFile(archive) as files:
        return nib.Nifti1Image.from_bytes(gzip.decompress(files.read(name)))


def test_zip_has_a_label_map_per_case_with_the_geometry_of_the_prediction(tmp_path: Path, predictions: Path) -> None:
    output = tmp_path / "new" / "out.zip"
    cases = write_kits_submission(predictions, output=output)
    assert list(cases) == CASES
    with zipfile.ZipFile(output) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"prediction_{number:05d}.nii.gz" for number in range(210, 300)]
    ours, source = packed(output, "prediction_00215.nii.gz"), nib.load(cases["case_00215"])
    assert ours.shape == (7, 8, 7)
    assert ours.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(ours.dataobj), np.asarray(source.dataobj))
    np.testing.assert_array_equal(ours.affine, source.affine)
    for key in ("sform_code", "qform_code", "xyzt_units"):
        assert ours.header[key] == source.header[key]
    assert [path.name for path in output.parent.iterdir()] == ["out.zip"]


def test_same_predictions_give_the_same_bytes(tmp_path: Path, predictions: Path) -> None:
    for name, given in (("a.zip", predictions), ("b.zip", sorted(predictions.iterdir(), reverse=True))):
        write_kits_submission(given, output=tmp_path / name)
    digests = {hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("a.zip", "b.zip")}
    assert len(digests) == 1


def test_names_of_the_label_maps_that_inference_writes_for_the_hidden_cases_are_taken(
    tmp_path: Path, images: Path
) -> None:
    """All images have one name, so each label map's has the name of its case's folder in front."""
    rows = inference_cases(images / "data", modalities=["CT"])
    for row in rows:
        (image,) = row["image"]
        label = np.zeros(nib.load(image).shape, np.uint8)
        write_nifti_label(tmp_path / f"{row['output_name']}_seg.nii.gz", label, like=image)
    cases = write_kits_submission(sorted(tmp_path.glob("*_seg.nii.gz")), output=tmp_path / "out.zip", images=images)
    assert [path.name for path in cases.values()] == [f"{case}_imaging_seg.nii.gz" for case in CASES]


@pytest.mark.parametrize("name", ["case_00211.nii.gz", "kits19_case_00211_seg.nii", "CASE_00211_seg.nii.gz"])
def test_other_names_that_hold_the_case_are_taken_too(tmp_path: Path, predictions: Path, name: str) -> None:
    (predictions / "case_00211_imaging_seg.nii.gz").unlink()
    write(predictions / name)
    assert write_kits_submission(predictions, output=tmp_path / "out.zip")["case_00211"].name == name


def test_missing_cases_are_named(tmp_path: Path, predictions: Path) -> None:
    for case in ("case_00299", "case_00230", "case_00231"):
        (predictions / f"{case}_imaging_seg.nii.gz").unlink()
    with pytest.raises(InputError, match="case_00230: and 2 other cases have no prediction; predict all 90"):
        write_kits_submission(predictions, output=tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("case_00250_tissue.nii.gz", "second file for case_00250, beside .*case_00250_imaging_seg"),
        ("case_00209_seg.nii.gz", "is of case_00209, the hidden cases are case_00210 to case_00299"),
        ("case_00300_seg.nii.gz", "is of case_00300"),
        ("case_002100_seg.nii.gz", "no case"),
        ("imaging_seg.nii.gz", r"no case \(case_XXXXX\) in its name"),
    ],
)
def test_files_that_do_not_belong_are_named(tmp_path: Path, predictions: Path, name: str, message: str) -> None:
    write(predictions / name)
    with pytest.raises(InputError, match=message):
        write_kits_submission(predictions, output=tmp_path / "out.zip")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": 3}, r"case_00290.*holds the values 0, 1, 3 \.\.\., allowed are 0, 1 and 2"),
        ({"value": 0.5, "dtype": np.float32}, "holds the values 0, 0.5, 1"),
        ({"value": -1, "dtype": np.int16}, "holds the values -1, 0, 1"),
        ({"shape": (5, 8, 7, 3)}, "has 5x8x7x3 voxels, not three axes"),
        ({"matrix": np.diag([0.8, 0.8, 5, 1])}, "has the axes R, A, S, the challenge's are I, P, L; predict the"),
        ({"matrix": affine(flipped=True)}, "has the axes I, P, R"),
    ],
)
def test_a_map_with_other_values_or_axes_is_refused_and_leaves_no_zip(
    tmp_path: Path, predictions: Path, change: dict, message: str
) -> None:
    write(predictions / "case_00290_imaging_seg.nii.gz", **change)
    with pytest.raises(InputError, match=message):
        write_kits_submission(predictions, output=tmp_path / "out.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["predictions"]


def test_predictions_are_compared_with_the_images_where_these_are_given(
    tmp_path: Path, predictions: Path, images: Path
) -> None:
    path = predictions / "case_00213_imaging_seg.nii.gz"
    for number, folder in enumerate((images, images / "data")):
        assert len(write_kits_submission(predictions, output=tmp_path / f"{number}.zip", images=folder)) == 90
    write(path, shape=(5, 7, 8))
    with pytest.raises(InputError, match=r"case_00213.*has 5x7x8 voxels, .*imaging\.nii\.gz has 5x8x7; predict the"):
        write_kits_submission(predictions, output=tmp_path / "out.zip", images=images)
    write(path, matrix=affine() + np.outer([0, 0, 9, 0], [0, 0, 0, 1]))
    with pytest.raises(InputError, match=r"lies up to 9 mm away from .*imaging\.nii\.gz by its affine; predict the"):
        write_kits_submission(predictions, output=tmp_path / "out.zip", images=images)
    write_kits_submission(predictions, output=tmp_path / "out.zip")


def test_an_image_that_is_missing_or_damaged_is_named(tmp_path: Path, predictions: Path, images: Path) -> None:
    image = images / "data" / "case_00210" / "imaging.nii.gz"
    image.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(InputError, match="is a git-lfs pointer"):
        write_kits_submission(predictions, output=tmp_path / "out.zip", images=images)
    image.write_bytes(b"no image at all")
    with pytest.raises(InputError, match="cannot be read"):
        write_kits_submission(predictions, output=tmp_path / "out.zip", images=images)
    image.unlink()
    with pytest.raises(InputError, match=r"kits19: has no case_00210/imaging\.nii\.gz; pass --images"):
        write_kits_submission(predictions, output=tmp_path / "out.zip", images=images)
    assert not (tmp_path / "out.zip").exists()


def test_outputs_that_cannot_be_are_refused_first(tmp_path: Path, predictions: Path) -> None:
    with pytest.raises(InputError, match=r"does not end in \.zip"):
        write_kits_submission(predictions, output=tmp_path / "out.tar")
    (tmp_path / "out.zip").write_bytes(b"older")
    with pytest.raises(InputError, match="exists already"):
        write_kits_submission(predictions, output=tmp_path / "out.zip")
    assert (tmp_path / "out.zip").read_bytes() == b"older"
    with pytest.raises(InputError, match="no such file or folder"):
        write_kits_submission(tmp_path / "absent", output=tmp_path / "new.zip")
