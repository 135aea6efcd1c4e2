"""The table for the UW-Madison competition."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest
from monai.data import MetaTensor
from PIL import Image

from mtmed.errors import InputError
from mtmed.organ_masks import pack_masks, packed_names
from mtmed.submission import write_uw_madison_submission
from mtmed.submission.uw_madison import ORGANS
from mtmed.transforms.mask_table import read_mask_table
from mtmed.transforms.reading import LoadVolumed, read_volume
from mtmed.transforms.run_length import decode_run_lengths
from mtmed.transforms.writing import SaveLabelMapd

WIDTH, HEIGHT = 9, 7
SCANS = {"case2_day10": (1, 2, 3), "case2_day9": (1, 2), "case11_day0": (1, 3, 4)}


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "test"
    for scan, numbers in SCANS.items():
        scans = folder / scan.split("_")[0] / scan / "scans"
        scans.mkdir(parents=True)
        for number in numbers:
            pixels = np.full((HEIGHT, WIDTH), number, np.uint16)
            Image.fromarray(pixels).save(scans / f"slice_{number:04d}_{WIDTH}_{HEIGHT}_1.50_1.20.png")
    return folder


def _masks(scan):
    """Overlapping masks K D H W with an empty slice."""
    generator = np.random.default_rng(len(scan) + SCANS[scan][-1])
    masks = generator.random((3, len(SCANS[scan]), HEIGHT, WIDTH)) < 0.3
    masks[:, 0] = False
    return masks


@pytest.fixture
def predictions(tmp_path, images):
    """What inference writes: label maps called like the scans, each with its JSON."""
    load = LoadVolumed("image")
    save = SaveLabelMapd("pred", tmp_path / "predictions", label_names=packed_names(ORGANS))
    for scan in SCANS:
        image = load({"image": str(images / scan.split("_")[0] / scan / "scans")})["image"]
        packed = pack_masks(_masks(scan)).transpose(0, 3, 2, 1).copy()
        save({"pred": MetaTensor(packed, meta=image.meta, affine=image.affine)})
    return tmp_path / "predictions"


def _rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_slice_has_three_rows_sorted_by_scan_slice_and_class(tmp_path, images, predictions):
    chosen = write_uw_madison_submission(predictions, output=tmp_path / "new" / "submission.csv", images=images)
    assert list(chosen) == ["case2_day9", "case2_day10", "case11_day0"]
    rows = _rows(tmp_path / "new" / "submission.csv")
    assert list(rows[0]) == ["id", "class", "predicted"]
    assert [(row["id"], row["class"]) for row in rows] == [
        (f"{scan}_slice_{number:04d}", organ) for scan in chosen for number in SCANS[scan] for organ in ORGANS
    ]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["submission.csv"]


def test_run_lengths_are_those_of_the_predicted_masks(tmp_path, images, predictions):
    write_uw_madison_submission(predictions, output=tmp_path / "submission.csv", images=images)
    rows = {(row["id"], row["class"]): row["predicted"] for row in _rows(tmp_path / "submission.csv")}
    for scan, numbers in SCANS.items():
        for channel, organ in enumerate(ORGANS):
            found = [decode_run_lengths(rows[f"{scan}_slice_{n:04d}", organ], (HEIGHT, WIDTH)) for n in numbers]
            np.testing.assert_array_equal(found, _masks(scan)[channel])
    assert rows["case2_day9_slice_0001", "stomach"] == ""


def test_the_table_read_as_labels_gives_the_predicted_label_maps(tmp_path, images, predictions):
    chosen = write_uw_madison_submission(predictions, output=tmp_path / "submission.csv", images=images)
    for scan, path in chosen.items():
        image = read_volume(images / scan.split("_")[0] / scan / "scans")
        label = read_mask_table(tmp_path / "submission.csv", image)
        written = nib.load(path)
        np.testing.assert_array_equal(label.data, np.asarray(written.dataobj))
        np.testing.assert_allclose(label.affine, written.affine)


def test_organs_are_found_by_their_names_not_by_their_bits(tmp_path, images, predictions):
    write_uw_madison_submission(predictions, output=tmp_path / "first.csv", images=images)
    other = tmp_path / "other"
    other.mkdir()
    for scan in SCANS:
        labels = pack_masks(_masks(scan)[::-1])[0].transpose(2, 1, 0)
        affine = nib.load(predictions / f"{scan}_seg.nii.gz").affine
        nib.Nifti1Image(labels, affine).to_filename(other / f"UW_{scan}_seg.nii.gz")
        names = packed_names(["Stomach", "small bowel", "large bowel"])
        (other / f"UW_{scan}_seg.json").write_text(json.dumps({"label_names": names}))
    write_uw_madison_submission(sorted(other.iterdir()), output=tmp_path / "second.csv", images=images)
    assert (tmp_path / "first.csv").read_text() == (tmp_path / "second.csv").read_text()


def _fails(predictions, images, output, message):
    with pytest.raises(InputError, match=message):
        write_uw_madison_submission(predictions, output=output, images=images)
    assert not output.exists()


def test_scans_without_a_prediction_and_predictions_without_a_scan_are_named(tmp_path, images, predictions):
    out = tmp_path / "submission.csv"
    _fails(predictions / "case2_day9_seg.nii.gz", images, out, "case2_day10: and 1 other scans have no prediction")
    _fails(predictions, images / "case2", out, "is of case11_day0, which is not among the images; leave it out")
    path = predictions / "case2_day9_tissue.nii.gz"
    path.write_bytes((predictions / "case2_day9_seg.nii.gz").read_bytes())
    _fails(predictions, images, out, "is a second file for case2_day9, beside")
    path.rename(predictions / "scan9.nii.gz")
    _fails(predictions, images, out, r"scan9.nii.gz: has no scan \(case123_day20\)")


def test_label_maps_on_another_grid_or_without_names_are_refused(tmp_path, images, predictions):
    out, path = tmp_path / "submission.csv", predictions / "case2_day9_seg.nii.gz"
    whole = nib.load(path)
    data, affine = np.asarray(whole.dataobj), whole.affine
    nib.Nifti1Image(data[..., :1], affine).to_filename(path)
    _fails(predictions, images, out, "has 9x7x1 voxels, .* has 9x7x2; predict the images")
    nib.Nifti1Image(data[::-1].copy(), np.diag([-1.0, 1, 1, 1]) @ affine).to_filename(path)
    _fails(predictions, images, out, "mm away from .*; predict the images of --images as they are")
    nib.Nifti1Image(data, affine).to_filename(path)
    names = path.with_name("case2_day9_seg.json")
    names.write_text(json.dumps({"label_names": packed_names(["large_bowel", "stomach"])}))
    _fails(predictions, images, out, "names no small_bowel among background, large_bowel, stomach")
    names.unlink()
    _fails(predictions, images, out, "does not say what the values of case2_day9_seg.nii.gz are")


def test_outputs_and_folders_that_cannot_be_are_refused(tmp_path, images, predictions):
    _fails(predictions, images, tmp_path / "submission.zip", "does not end in .csv")
    _fails(predictions, tmp_path / "nowhere", tmp_path / "a.csv", "nowhere: no such folder")
    _fails(predictions, predictions, tmp_path / "a.csv", "holds no slices named as slice_0001")
    (tmp_path / "a.csv").write_text("kept")
    with pytest.raises(InputError, match="exists already"):
        write_uw_madison_submission(predictions, output=tmp_path / "a.csv", images=images)
    assert (tmp_path / "a.csv").read_text() == "kept"
    copy = tmp_path / "test" / "again" / "case2_day9" / "scans"
    copy.mkdir(parents=True)
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint16)).save(copy / f"slice_0001_{WIDTH}_{HEIGHT}_1.50_1.20.png")
    _fails(predictions, images, tmp_path / "b.csv", "is a second folder of case2_day9")
